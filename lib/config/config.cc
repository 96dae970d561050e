#include "config/config.h"

#include <algorithm>

#include "base/url.h"
#include "base/utf8.h"
#include "config/config_table.h"

namespace run_recorder {

std::string Config::Database::connection_url() const {
  return password.empty() || database_kind(url) != DatabaseKind::kPostgres ? url : with_password(url, password);
}

std::string Config::Queue::full_table() const {
  return schema.empty() ? table : schema + "." + table;
}

std::map<std::string, Config::Queue> Config::configured_queues() const {
  std::map<std::string, Queue> all = queues;
  all.try_emplace(std::string(kDefaultQueue), queue);
  std::erase_if(all, [](const auto& one) { return one.second.kind == QueueKind::kNone; });
  return all;
}

std::string Config::connection_url_of(const Queue& of) const {
  return of.url.empty() ? database.connection_url() : of.url;
}

std::string Config::shown_url_of(const Queue& of) const {
  return redact_url(of.url.empty() ? database.url : of.url);
}

std::string queue_check_name(const Config& config, std::string_view name) {
  const auto queues = config.configured_queues();
  if (queues.size() == 1 && name == kDefaultQueue) return "queue";
  return "queue " + kQueueSections.full_name(name, "").substr(std::string_view("queues.").size());
}

Environment environment_of(const char* const* environ_block) {
  Environment environment;
  for (; environ_block != nullptr && *environ_block != nullptr; ++environ_block) {
    const std::string_view line = *environ_block;
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos) continue;
    environment.emplace(line.substr(0, equals), line.substr(equals + 1));
  }
  return environment;
}

std::string ConfigProblem::text() const {
  return printable(hide_passwords(where + ": " + (key.empty() ? "" : key + ": ") + message));
}

std::string ConfigProblems::text() const {
  std::string text;
  for (const ConfigProblem& problem : all) text += (text.empty() ? "" : "\n") + problem.text();
  return text;
}

bool ConfigProblems::only_unknown_names() const {
  return std::ranges::all_of(all, [](const ConfigProblem& problem) { return problem.unknown_name; });
}

int ConfigProblems::exit_status() const {
  return only_unknown_names() ? kExitNotThere : kExitConfiguration;
}

void throw_exception_from_error(const ConfigProblems& problems, const boost::source_location&) {
  throw StartError(problems.exit_status(), problems.text());
}

}  // namespace run_recorder
