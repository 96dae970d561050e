#include "base/url.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

namespace run_recorder {
namespace {

constexpr std::string_view kHidden = "***";
constexpr std::string_view kEncodeHint =
    "; characters such as : / ? # @ & = % in a user or a password are written as %3A, %2F and so on";

// The parts as libpq tells them apart (fe-connect.c, conninfo_uri_parse_options): a user is there only where an @
// comes before the first slash.
struct UriParts {
  std::string_view user, password, hosts, database, query;
};

UriParts split_uri(std::string_view url) {
  UriParts parts;
  std::string_view rest = url.substr(url.find("://") + 3);
  const std::size_t at = rest.find_first_of("@/");
  if (at != std::string_view::npos && rest[at] == '@') {
    const std::string_view login = rest.substr(0, at);
    const std::size_t colon = login.find(':');
    parts.user = login.substr(0, colon);
    if (colon != std::string_view::npos) parts.password = login.substr(colon + 1);
    rest.remove_prefix(at + 1);
  }
  const std::size_t hosts_end = std::min(rest.find_first_of("/?"), rest.size());
  parts.hosts = rest.substr(0, hosts_end);
  rest.remove_prefix(hosts_end);
  const std::size_t question = rest.find('?');
  parts.database = rest.substr(0, question);
  if (question != std::string_view::npos) parts.query = rest.substr(question + 1);
  return parts;
}

// The pieces of text between separators; one empty piece for an empty text.
std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> pieces;
  for (;;) {
    const std::size_t end = text.find(separator);
    pieces.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return pieces;
    text.remove_prefix(end + 1);
  }
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Empty where an escape is broken or stands for NUL.
std::optional<std::string> percent_decode(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded.push_back(text[i]);
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = hex_digit(text[i + 1]);
    const int low = hex_digit(text[i + 2]);
    if (high < 0 || low < 0 || high + low == 0) return std::nullopt;
    decoded.push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return decoded;
}

std::string percent_encode(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string encoded;
  for (const char c : text) {
    const auto byte = static_cast<std::uint8_t>(c);
    if (std::isalnum(byte) != 0 || c == '-' || c == '.' || c == '_' || c == '~') {
      encoded.push_back(c);
    } else {
      encoded += {'%', kDigits[byte >> 4], kDigits[byte & 15]};
    }
  }
  return encoded;
}

bool is_port(std::string_view text) {
  if (text.empty() || text.size() > 5) return text.empty();
  unsigned number = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    number = number * 10 + static_cast<unsigned>(c - '0');
  }
  return number >= 1 && number <= 65'535;
}

std::optional<std::string> problem_of_host(std::string_view host) {
  std::string_view port;
  if (host.starts_with('[')) {
    const std::size_t close = host.find(']');
    if (close == std::string_view::npos) return "a host that begins with [ has no ]";
    const std::string_view after = host.substr(close + 1);
    if (!after.empty() && after.front() != ':') return "after the ] of a host only :PORT may follow";
    if (!after.empty()) port = after.substr(1);
  } else if (const std::size_t colon = host.find(':'); colon != std::string_view::npos) {
    port = host.substr(colon + 1);
  }
  if (!is_port(port)) return "a port is not a number from 1 to 65535" + std::string(kEncodeHint);
  return std::nullopt;
}

std::optional<std::string> problem_of_parameter(std::string_view parameter) {
  const std::size_t equals = parameter.find('=');
  const bool one = equals != std::string_view::npos && parameter.find('=', equals + 1) == std::string_view::npos;
  const std::string_view name = parameter.substr(0, equals);
  const bool plain = std::all_of(name.begin(), name.end(), [](char c) { return (c >= 'a' && c <= 'z') || c == '_'; });
  if (!one || name.empty() || !plain) {
    return "what follows ? is not a list of name=value joined by &" + std::string(kEncodeHint);
  }
  return std::nullopt;
}

std::optional<std::string> problem_of_uri(std::string_view url) {
  const UriParts parts = split_uri(url);
  if (!percent_decode(url)) return "a % is not followed by two hex digits other than 00" + std::string(kEncodeHint);
  if (parts.hosts.find('@') != std::string_view::npos || parts.database.find('@') != std::string_view::npos) {
    return "an @ stands where none may be" + std::string(kEncodeHint);
  }
  for (const std::string_view host : split(parts.hosts, ',')) {
    if (std::optional<std::string> problem = problem_of_host(host)) return problem;
  }
  if (parts.query.empty()) return std::nullopt;
  for (const std::string_view parameter : split(parts.query, '&')) {
    if (std::optional<std::string> problem = problem_of_parameter(parameter)) return problem;
  }
  return std::nullopt;
}

// The values of the parameters password, sslpassword and their like in a well-formed query.
void find_in_query(std::string_view query, std::vector<std::string_view>& passwords) {
  for (const std::string_view parameter : split(query, '&')) {
    const std::size_t equals = parameter.find('=');
    if (equals == std::string_view::npos) continue;
    if (parameter.substr(0, equals).find("password") != std::string_view::npos) {
      passwords.push_back(parameter.substr(equals + 1));
    }
  }
}

// Where a text cannot be taken apart, any of it may be a password: all but the scheme.
std::string_view find_by_guess(std::string_view text) {
  const std::size_t scheme = text.find("://");
  return scheme == std::string_view::npos ? text : text.substr(scheme + 3);
}

// Slices of url, in order, not empty, not overlapping.
std::vector<std::string_view> find_passwords(std::string_view url) {
  std::vector<std::string_view> passwords;
  const std::optional<DatabaseKind> kind = database_kind(url);
  if (kind == DatabaseKind::kSqlite) return passwords;
  if (kind == DatabaseKind::kPostgres && !problem_of_url(url)) {
    const UriParts parts = split_uri(url);
    passwords.push_back(parts.password);
    find_in_query(parts.query, passwords);
  } else {
    passwords.push_back(find_by_guess(url));
  }
  std::erase_if(passwords, [](std::string_view password) { return password.empty(); });
  return passwords;
}

void replace_all(std::string& text, std::string_view what, std::string_view with) {
  if (what.empty()) return;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + with.size())) {
    text.replace(at, what.size(), with);
  }
}

}  // namespace

std::optional<DatabaseKind> database_kind(std::string_view url) {
  if (url.starts_with("sqlite:")) return DatabaseKind::kSqlite;
  if (url.starts_with("postgresql://") || url.starts_with("postgres://")) return DatabaseKind::kPostgres;
  return std::nullopt;
}

std::string sqlite_path(std::string_view url) {
  return std::string(url.substr(std::strlen("sqlite:")));
}

std::optional<std::string> problem_of_url(std::string_view url) {
  const std::optional<DatabaseKind> kind = database_kind(url);
  if (!kind) return "it begins with none of sqlite:, postgresql:// and postgres://";
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  if (std::any_of(url.begin(), url.end(), is_control)) return "it holds a control character";
  if (*kind == DatabaseKind::kPostgres) return problem_of_uri(url);
  const std::string path = sqlite_path(url);
  if (path.empty()) return "no path follows sqlite:";
  if (path == ":memory:") return "a database in memory would be lost; a path must follow sqlite:";
  return std::nullopt;
}

std::string redact_url(std::string_view url) {
  std::string redacted;
  const char* copied = url.data();
  for (const std::string_view password : find_passwords(url)) {
    redacted.append(copied, password.data());
    redacted += kHidden;
    copied = password.data() + password.size();
  }
  return redacted.append(copied, url.data() + url.size());
}

bool has_password(std::string_view url) {
  return !find_passwords(url).empty();
}

std::string without_password(std::string_view message, std::string_view url) {
  std::string hidden(message);
  const std::vector<std::string_view> passwords = find_passwords(url);
  if (!passwords.empty()) replace_all(hidden, url, redact_url(url));
  for (const std::string_view password : passwords) {
    replace_all(hidden, password, kHidden);
    if (const std::optional<std::string> decoded = percent_decode(password)) replace_all(hidden, *decoded, kHidden);
  }
  return hidden;
}

std::string with_password(std::string_view url, std::string_view password) {
  // The question mark after the hosts; one in the user's name is not it.
  const UriParts parts = split_uri(url);
  const auto hosts_end = static_cast<std::size_t>(parts.hosts.data() + parts.hosts.size() - url.data());
  std::string complete(url);
  if (url.find('?', hosts_end) == std::string_view::npos) {
    complete.push_back('?');
  } else if (!parts.query.empty() && !parts.query.ends_with('&')) {
    complete.push_back('&');
  }
  return complete + "password=" + percent_encode(password);
}

void hide_passwords_in_arguments(int argc, char** argv) {
  constexpr std::array<std::string_view, 2> kFlags = {"--database-url", "--reconcile-queue-url"};
  const auto hide = [](char* value) {
    for (const std::string_view password : find_passwords(value)) {
      std::fill_n(value + (password.data() - value), password.size(), '*');
    }
  };
  for (int i = 1; i < argc && std::string_view(argv[i]) != "--"; ++i) {
    const std::string_view argument = argv[i];
    const std::size_t equals = argument.find('=');
    if (std::find(kFlags.begin(), kFlags.end(), argument.substr(0, equals)) == kFlags.end()) continue;
    if (equals != std::string_view::npos) {
      hide(argv[i] + equals + 1);
    } else if (i + 1 < argc) {
      hide(argv[++i]);
    }
  }
}

}  // namespace run_recorder
