#include "base/url.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "base/ascii.h"
#include "base/number.h"
#include "base/percent.h"
#include "base/utf8.h"

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

bool is_port(std::string_view text) {
  return text.empty() || (text.size() <= 5 && parse_number<std::uint16_t>(text) > 0);
}

std::optional<std::string> problem_of_host(std::string_view host) {
  std::string_view port;
  if (host.starts_with('[')) {
    const std::size_t close = host.find(']');
    if (close == std::string_view::npos) return "missing ] after an IPv6 address";
    const std::string_view after = host.substr(close + 1);
    if (!after.empty() && after.front() != ':') return "invalid text after ]: must be :PORT";
    if (!after.empty()) port = after.substr(1);
  } else if (const std::size_t colon = host.find(':'); colon != std::string_view::npos) {
    port = host.substr(colon + 1);
  }
  if (!is_port(port)) return "invalid port: must be between 1 and 65535" + std::string(kEncodeHint);
  return std::nullopt;
}

std::optional<std::string> problem_of_parameter(std::string_view parameter) {
  const std::size_t equals = parameter.find('=');
  const bool one = equals != std::string_view::npos && parameter.find('=', equals + 1) == std::string_view::npos;
  const std::string_view name = parameter.substr(0, equals);
  const bool plain = std::all_of(name.begin(), name.end(), [](char c) { return (c >= 'a' && c <= 'z') || c == '_'; });
  if (!one || name.empty() || !plain) {
    return "invalid options after ?: must be name=value joined by &" + std::string(kEncodeHint);
  }
  return std::nullopt;
}

std::optional<std::string> problem_of_uri(std::string_view url) {
  const UriParts parts = split_uri(url);
  if (!percent_decode(url))
    return "invalid percent-encoding: must be % and two hex digits other than 00" + std::string(kEncodeHint);
  if (parts.hosts.find('@') != std::string_view::npos || parts.database.find('@') != std::string_view::npos) {
    return "an unexpected @" + std::string(kEncodeHint);
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
  // A path has none, but for somebody who took the scheme for a server's.
  if (kind == DatabaseKind::kSqlite) {
    if (url.find("://") != std::string_view::npos && url.find('@') != std::string_view::npos) {
      passwords.push_back(find_by_guess(url));
    }
    return passwords;
  }
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

bool is_blank(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

// What ends a URL, or the value of a parameter, in the middle of other text.
bool ends_word(char c) {
  return is_blank(c) || c == '"' || c == '\'' || c == '`' || c == '<' || c == '>';
}

std::string_view word_at(std::string_view text) {
  return text.substr(0, static_cast<std::size_t>(std::find_if(text.begin(), text.end(), ends_word) - text.begin()));
}

// PASSWORD of USER:PASSWORD@, as far as the last @ of what follows a scheme; empty where there is none.
std::string_view password_before_host(std::string_view after_scheme) {
  const std::size_t at = after_scheme.rfind('@');
  const std::string_view login = after_scheme.substr(0, at == std::string_view::npos ? 0 : at);
  const std::size_t colon = login.find(':');
  return colon == std::string_view::npos ? std::string_view() : login.substr(colon + 1);
}

// The value that begins here, in quotes or as one word.
std::string_view value_at(std::string_view text) {
  if (!text.empty() && (text.front() == '\'' || text.front() == '"')) {
    const std::size_t close = text.find(text.front(), 1);
    return text.substr(1, close == std::string_view::npos ? close : close - 1);
  }
  const std::string_view word = word_at(text);
  return word.substr(0, word.find('&'));
}

// Slices of any text that may be passwords, in order and not overlapping.
std::vector<std::string_view> find_in_text(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  std::vector<std::string_view> passwords;
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::string_view found;
    if (lower.compare(i, 3, "://") == 0) {
      found = password_before_host(word_at(text.substr(i + 3)));
    } else {
      for (const std::string_view name : {"password=", "passwd=", "passphrase="}) {
        if (lower.compare(i, name.size(), name) == 0) found = value_at(text.substr(i + name.size()));
      }
    }
    if (found.empty()) continue;
    passwords.push_back(found);
    i = static_cast<std::size_t>(found.data() + found.size() - text.data()) - 1;
  }
  return passwords;
}

// As find_in_text, of a text that is known to be one argument: blanks and quotes end nothing in it.
std::vector<std::string_view> find_in_argument(std::string_view argument) {
  const std::size_t scheme = argument.find("://");
  const std::string_view password =
      password_before_host(argument.substr(scheme == std::string_view::npos ? 0 : scheme + 3));
  if (password.empty()) return find_in_text(argument);
  std::vector<std::string_view> passwords = {password};
  const auto end = static_cast<std::size_t>(password.data() + password.size() - argument.data());
  for (const std::string_view more : find_in_text(argument.substr(end))) passwords.push_back(more);
  return passwords;
}

std::string with_hidden(std::string_view text, const std::vector<std::string_view>& passwords) {
  std::string hidden;
  std::size_t copied = 0;
  for (const std::string_view password : passwords) {
    const auto begin = static_cast<std::size_t>(password.data() - text.data());
    hidden.append(text.substr(copied, begin - copied)).append(kHidden);
    copied = begin + password.size();
  }
  return hidden.append(text.substr(copied));
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
  if (!kind) return "unknown scheme";
  if (std::any_of(url.begin(), url.end(), is_control)) return "has a control character";
  if (*kind == DatabaseKind::kPostgres) return problem_of_uri(url);
  const std::string path = sqlite_path(url);
  if (path.empty()) return "no path follows sqlite:";
  if (path == ":memory:") return "a database in memory would be lost; a path must follow sqlite:";
  return std::nullopt;
}

std::vector<std::string_view> option_names(std::string_view url) {
  std::vector<std::string_view> names;
  if (database_kind(url) != DatabaseKind::kPostgres || problem_of_url(url)) return names;
  const std::string_view query = split_uri(url).query;
  if (query.empty() || query.find('@') != std::string_view::npos) return names;
  for (const std::string_view parameter : split(query, '&'))
    names.push_back(parameter.substr(0, parameter.find('=')));
  return names;
}

std::string redact_url(std::string_view url) {
  return with_hidden(url, find_passwords(url));
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

std::string hide_passwords(std::string_view text) {
  return with_hidden(text, find_in_text(text));
}

std::string argument_for_message(std::string_view argument) {
  const std::size_t equals = argument.find('=');
  if (argument.starts_with('-') && equals != std::string_view::npos) {
    const std::string_view name = argument.substr(0, equals);
    return printable(with_hidden(name, find_in_argument(name))) + "=" + std::string(kHidden);
  }
  return printable(with_hidden(argument, find_in_argument(argument)));
}

std::string without_arguments_passwords(std::string message, std::span<const std::string> arguments) {
  for (const std::string& argument : arguments) {
    const std::size_t equals = argument.starts_with('-') ? argument.find('=') : std::string::npos;
    const std::string value = equals == std::string::npos ? argument : argument.substr(equals + 1);
    const std::vector<std::string_view> passwords = find_in_argument(value);
    if (!passwords.empty()) replace_all(message, value, with_hidden(value, passwords));
  }
  return hide_passwords(message);
}

void hide_passwords_in_arguments(int argc, char** argv) {
  const auto hide = [](char* argument, const std::vector<std::string_view>& passwords) {
    for (const std::string_view password : passwords) {
      std::fill_n(argument + (password.data() - argument), password.size(), '*');
    }
  };
  bool is_url = false;  // it is the value of a flag for one
  for (int i = 1; i < argc && std::string_view(argv[i]) != "--"; ++i) {
    const std::string_view argument = argv[i];
    const std::size_t equals = argument.find('=');
    const bool names_url = argument.starts_with("--") && argument.substr(0, equals).ends_with("-url");
    if (names_url && equals != std::string_view::npos) {
      hide(argv[i], find_passwords(argument.substr(equals + 1)));
    } else if (is_url) {
      hide(argv[i], find_passwords(argument));
    } else {
      hide(argv[i], find_in_argument(argument));
    }
    is_url = names_url && equals == std::string_view::npos;
  }
}

}  // namespace run_recorder
