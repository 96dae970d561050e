// The one translation unit that holds the definitions of Asio and Beast (BOOST_ASIO_SEPARATE_COMPILATION and
// BOOST_BEAST_SEPARATE_COMPILATION are set for the whole project). What uses either links rr_net.
#include <boost/asio/impl/src.hpp>
#include <boost/beast/src.hpp>
