// The recorder's fixture serves the control API's tests too.
#include "unit/recorder/recorder_fixture.cc"
