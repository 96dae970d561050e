#include "config/config_checks.h"

#include <sys/un.h>

#include <algorithm>

#include "base/ascii.h"
#include "base/host_port.h"
#include "base/url.h"
#include "run/names.h"

namespace run_recorder {
namespace {

constexpr std::size_t kSocketPathBytes = sizeof(sockaddr_un::sun_path) - 1;  // the last one is NUL (unix(7))
// PostgreSQL cuts longer names (NAMEDATALEN).
constexpr std::size_t kMaxSqlNameBytes = 63;
constexpr std::size_t kMaxAccountBytes = 256;

bool has_control_character(std::string_view text) {
  return std::ranges::any_of(text, is_control);
}

bool is_sql_name(std::string_view text) {
  return !text.empty() && text.size() <= kMaxSqlNameBytes && text.find('.') == std::string_view::npos &&
         !has_control_character(text);
}

}  // namespace

std::optional<std::string> check_path(std::string_view text) {
  if (text.empty()) return "";
  if (has_control_character(text)) return "has a control character";
  return std::nullopt;
}

std::optional<std::string> check_optional_path(std::string_view text) {
  return text.empty() ? std::nullopt : check_path(text);
}

std::optional<std::string> check_socket_path(std::string_view text) {
  if (text.size() > kSocketPathBytes) return "has " + std::to_string(text.size()) + " bytes";
  return check_path(text);
}

std::optional<std::string> check_url(std::string_view text) {
  return problem_of_url(text);
}

std::optional<std::string> check_optional_url(std::string_view text) {
  return text.empty() ? std::nullopt : problem_of_url(text);
}

std::optional<std::string> check_prefix(std::string_view text) {
  return is_table_prefix(text) ? std::nullopt : std::optional<std::string>("");
}

std::optional<std::string> check_account(std::string_view text) {
  if (text.empty()) return "empty name";
  if (has_control_character(text) || text.size() > kMaxAccountBytes) return "not a name";
  return std::nullopt;
}

std::optional<std::string> check_optional_account(std::string_view text) {
  return text.empty() ? std::nullopt : check_account(text);
}

std::optional<std::string> check_event_type(std::string_view text) {
  return is_event_type(text) ? std::nullopt : std::optional<std::string>("not an event type");
}

std::optional<std::string> check_table(std::string_view text) {
  const std::size_t dot = text.find('.');
  const bool fits = dot == std::string_view::npos
                        ? is_sql_name(text)
                        : is_sql_name(text.substr(0, dot)) && is_sql_name(text.substr(dot + 1));
  return fits ? std::nullopt : std::optional<std::string>("");
}

std::optional<std::string> check_schema(std::string_view text) {
  return text.empty() || is_sql_name(text) ? std::nullopt : std::optional<std::string>("");
}

std::optional<std::string> check_listen(std::string_view text) {
  if (text.empty()) return std::nullopt;
  const auto parsed = parse_host_port(text);
  return parsed ? std::nullopt : std::optional(parsed.error().message);
}

}  // namespace run_recorder
