#include "config/config_checks.h"

#include <algorithm>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "base/ascii.h"
#include "base/host_port.h"
#include "base/nearest_name.h"
#include "base/socket_path.h"
#include "base/url.h"
#include "base/utf8.h"
#include "config/config_table.h"
#include "run/names.h"
#include "schedule/cron.h"
#include "schedule/time_zone.h"

namespace run_recorder {
namespace {

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

std::optional<std::string> check_path(std::string_view text) {
  if (text.empty()) return "";
  if (has_control_character(text)) return "has a control character";
  return std::nullopt;
}

std::optional<std::string> check_optional_path(std::string_view text) {
  return text.empty() ? std::nullopt : check_path(text);
}

std::optional<std::string> check_socket_path(std::string_view text) {
  if (text.size() > kMaxSocketPathBytes) return "has " + std::to_string(text.size()) + " bytes";
  return check_path(text);
}

// The options of a libpq URI, as of PostgreSQL 18.
const std::vector<std::string>& libpq_options() {
  static const std::vector<std::string> kNames = [] {
    std::istringstream words(
        "application_name channel_binding client_encoding connect_timeout dbname "
        "fallback_application_name gssdelegation gssencmode gsslib host hostaddr keepalives "
        "keepalives_count keepalives_idle keepalives_interval krbsrvname load_balance_hosts "
        "max_protocol_version min_protocol_version oauth_client_id oauth_client_secret "
        "oauth_issuer oauth_scope options passfile password port replication require_auth "
        "requirepeer requiressl scram_client_key scram_server_key service servicefile ssl "
        "ssl_max_protocol_version ssl_min_protocol_version sslcert sslcertmode sslcompression "
        "sslcrl sslcrldir sslkey sslkeylogfile sslmode sslnegotiation sslpassword sslrootcert "
        "sslsni target_session_attrs tcp_user_timeout user");
    return std::vector<std::string>(std::istream_iterator<std::string>(words), {});
  }();
  return kNames;
}

// Of the options that are not in that list only the mistyped ones are refused here: a newer libpq may know others,
// and names those that it does not.
std::optional<std::string> check_url(std::string_view text) {
  if (std::optional<std::string> problem = problem_of_url(text)) return problem;
  for (const std::string_view name : option_names(text)) {
    if (std::ranges::find(libpq_options(), name) != libpq_options().end()) continue;
    const std::string near = nearest_name(name, libpq_options());
    if (!near.empty()) return "unknown option \"" + std::string(name) + "\" (did you mean " + near + "?)";
  }
  return std::nullopt;
}

std::optional<std::string> check_optional_url(std::string_view text) {
  return text.empty() ? std::nullopt : check_url(text);
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

// PostgreSQL takes no other text than UTF-8, and no row would be written.
std::optional<std::string> check_host(std::string_view text) {
  if (text.empty()) return std::nullopt;
  if (has_control_character(text) || !valid_utf8(text)) return "not a name";
  return is_name(text) ? std::nullopt : std::optional("has " + std::to_string(text.size()) + " bytes");
}

std::optional<std::string> check_pattern(std::string_view text) {
  if (has_control_character(text) || !valid_utf8(text)) return "not a name";
  return is_name(text) ? std::nullopt : std::optional("has " + std::to_string(text.size()) + " bytes");
}

std::optional<std::string> check_cron(std::string_view text) {
  if (text.empty()) return std::nullopt;
  const auto parsed = CronExpression::parse(text);
  return parsed ? std::nullopt : std::optional(parsed.error().message);
}

// The static tool has no time zones, and asks for none.
std::optional<std::string> check_time_zone(std::string_view text) {
#ifndef RR_STATIC_TOOL
  const auto found = TimeZone::find(text);
  if (!found) return found.error().message;
#else
  static_cast<void>(text);
#endif
  return std::nullopt;
}
}  // namespace

const TextRule kPathRule{"a path", check_path};
const TextRule kOptionalPathRule{"a path, or empty for none", check_optional_path};
const TextRule kSocketPathRule{"a path of 1 to 107 bytes", check_socket_path};
const TextRule kUrlRule{"sqlite:PATH, or a libpq URI as postgresql://user@host:5432/database", check_url};
const TextRule kQueueUrlRule{"sqlite:PATH, a libpq URI, or empty for the database's", check_optional_url};
const TextRule kPrefixRule{"up to 30 letters a to z, digits and _, no digit first; may be empty", check_prefix};
const TextRule kGroupRule{"the name or number of a group, or empty for the daemon's own", check_optional_account};
const TextRule kUsersRule{"a list of users' names or numbers", check_account};
const TextRule kGroupsRule{"a list of groups' names or numbers", check_account};
const TextRule kEventTypesRule{"a list of event types ([a-z][a-z0-9_.]*, up to 64 bytes)", check_event_type};
const TextRule kTableRule{"TABLE or SCHEMA.TABLE, each of 1 to 63 bytes", check_table};
const TextRule kSchemaRule{"a name of up to 63 bytes without dots, or empty for that of table", check_schema};
const TextRule kListenRule{"IPV4:PORT, [IPV6]:PORT or localhost:PORT, or empty for none", check_listen};
const TextRule kHostRule{"a name of up to 255 bytes, or empty for the system's host name", check_host};
const TextRule kPatternRule{"a name of 1 to 255 bytes; * stands for any characters, ? for one", check_pattern};
const TextRule kCronRule{
    "minute, hour, day of the month, month and day of the week as in crontab(5), @daily and the like, or empty",
    check_cron};
const TextRule kTimeZoneRule{"the name of a time zone, such as UTC or Europe/Berlin", check_time_zone};

static_assert(kMaxSocketPathBytes == 107 && kMaxTablePrefixBytes == 30 && kMaxShortNameBytes == 64 &&
                  kMaxSqlNameBytes == 63 && kMaxNameBytes == 255,
              "the words above say these numbers");

}  // namespace run_recorder
