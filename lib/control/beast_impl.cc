// The one translation unit that holds Beast's definitions (BOOST_BEAST_SEPARATE_COMPILATION is set for the whole
// project).
#include <boost/beast/src.hpp>
