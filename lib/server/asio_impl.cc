// The one translation unit that holds Asio's definitions (BOOST_ASIO_SEPARATE_COMPILATION is set for the whole
// project). Everything else that uses Asio links rr_server.
#include <boost/asio/impl/src.hpp>
