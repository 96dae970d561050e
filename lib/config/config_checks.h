// What a text of the configuration must fulfil beyond being one; only for the table of keys. Each answers what is
// wrong with it in words, "" where the key's own words for what is allowed say it all; nothing where it fits. Pure,
// thread-safe.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace run_recorder {

std::optional<std::string> check_path(std::string_view text);
std::optional<std::string> check_optional_path(std::string_view text);
std::optional<std::string> check_socket_path(std::string_view text);
std::optional<std::string> check_url(std::string_view text);
std::optional<std::string> check_optional_url(std::string_view text);
std::optional<std::string> check_prefix(std::string_view text);
// A user or a group; whether the host knows it is asked later.
std::optional<std::string> check_account(std::string_view text);
std::optional<std::string> check_optional_account(std::string_view text);
std::optional<std::string> check_event_type(std::string_view text);
// TABLE or SCHEMA.TABLE.
std::optional<std::string> check_table(std::string_view text);
std::optional<std::string> check_schema(std::string_view text);
// IPV4:PORT, [IPV6]:PORT or localhost:PORT; empty for none.
std::optional<std::string> check_listen(std::string_view text);

}  // namespace run_recorder
