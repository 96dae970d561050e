#include "base/host_port.h"

#include <gtest/gtest.h>

namespace run_recorder::testing {
namespace {

TEST(HostPort, TakesAddressesAndLocalhost) {
  const struct {
    const char* text;
    const char* address;
    int port;
  } kCases[] = {{"127.0.0.1:9464", "127.0.0.1", 9464},
                {"0.0.0.0:1", "0.0.0.0", 1},
                {"[::1]:65535", "::1", 65535},
                {"localhost:80", "127.0.0.1", 80}};
  for (const auto& one : kCases) {
    const auto parsed = parse_host_port(one.text);
    ASSERT_TRUE(parsed) << one.text;
    EXPECT_EQ(parsed->address, one.address);
    EXPECT_EQ(parsed->port, one.port);
  }
}

TEST(HostPort, SaysWhatIsWrong) {
  const struct {
    const char* text;
    const char* why;
  } kCases[] = {{"127.0.0.1", "it has no port"},
                {"127.0.0.1:0", "its port is not a number from 1 to 65535"},
                {"127.0.0.1:65536", "its port is not a number from 1 to 65535"},
                {"127.0.0.1:8x", "its port is not a number from 1 to 65535"},
                {"::1:80", "an IPv6 address needs brackets"},
                {"example.org:80", "its host is not an address"},
                {":80", "its host is not an address"},
                {"[127.0.0.1]:80", "its host is not an address"}};
  for (const auto& one : kCases) {
    const auto parsed = parse_host_port(one.text);
    ASSERT_FALSE(parsed) << one.text;
    EXPECT_EQ(parsed.error().message, one.why) << one.text;
  }
}

}  // namespace
}  // namespace run_recorder::testing
