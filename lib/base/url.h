// Addresses of databases: sqlite:PATH or a libpq URI (several hosts allowed), and keeping the passwords in them from
// logs, messages and process lists. Pure, thread-safe.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace run_recorder {

enum class DatabaseKind { kSqlite, kPostgres };

// By the scheme: "sqlite:", "postgresql://" or "postgres://". Empty for anything else.
std::optional<DatabaseKind> database_kind(std::string_view url);
// What follows "sqlite:". Precondition: database_kind says kSqlite.
std::string sqlite_path(std::string_view url);

// What is wrong with a url, in words that quote nothing of it; empty where it is fine.
std::optional<std::string> problem_of_url(std::string_view url);
// The names of the options behind the ? of a libpq URI, as they stand there. None where the url is malformed, or has
// an @ behind the ?: then they may be pieces of a password.
std::vector<std::string_view> option_names(std::string_view url);

// The url with every password in it replaced by "***"; all behind the scheme where the url is malformed.
std::string redact_url(std::string_view url);
bool has_password(std::string_view url);
// A message of a driver with every password of the url, and the url itself, hidden.
std::string without_password(std::string_view message, std::string_view url);
// The libpq URI with the password added as a parameter.
std::string with_password(std::string_view url, std::string_view password);

// Any text with what may be a password in it as "***": the PASSWORD of SCHEME://USER:PASSWORD@, and the values of
// password= and its like.
std::string hide_passwords(std::string_view text);
// An argument that is not known or not understood, for a message: of a flag only its name, of anything else what
// holds no password; printable.
std::string argument_for_message(std::string_view argument);
// A parser's message with the arguments it quotes as argument_for_message and hide_passwords have them.
std::string without_arguments_passwords(std::string message, std::span<const std::string> arguments);

// Overwrites passwords in the program's arguments in place, so that process lists do not show them: the passwords of
// URLs, and in what follows a flag that ends in -url whatever may be one, up to "--". Copy the arguments before. For
// the beginning of main(): it writes what other threads might read.
void hide_passwords_in_arguments(int argc, char** argv);

}  // namespace run_recorder
