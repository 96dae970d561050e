#include "cli/flags.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <utility>

#include "cli/run_query.h"
#include "run/status.h"

namespace run_recorder {
namespace {

constexpr std::chrono::milliseconds kShortestAge{1};
constexpr std::uint64_t kHighestLimit = 1'000'000'000;

CLI::Validator duration_value() {
  return CLI::Validator(
      [](std::string& text) {
        return parse_duration(text) ? std::string() : text + " is no duration such as 500ms, 30s or 5m";
      },
      "");
}

CLI::Validator age_value() {
  return CLI::Validator(
      [](std::string& text) {
        return parse_duration(text).value_or(kShortestAge) >= kShortestAge ? std::string()
                                                                           : "an age above 0s is needed";
      },
      "");
}

CLI::Validator since_value() {
  return CLI::Validator(
      [](std::string& text) {
        if (parse_since(text, now_utc())) return std::string();
        return text + " is neither a time such as 2026-01-02T03:04:05Z nor a duration such as 1h";
      },
      "");
}

CLI::Validator status_value(Flags::Statuses allowed) {
  return CLI::Validator(
      [finished_only = allowed == Flags::Statuses::kFinished](std::string& text) {
        const std::optional<Status> status = parse_status(text);
        const auto finished = terminal_statuses();
        if (status && (!finished_only || std::ranges::count(finished, *status) > 0)) return std::string();
        return text + " is none of " + (finished_only ? "" : "queued, running, ") +
               "completed, failed, cancelled and stuck";
      },
      "");
}

template <class T>
CLI::Validator between(T lowest, T highest) {
  CLI::Range range(lowest, highest);
  range.description("");
  return range;
}

template <class T>
CLI::Option* add_optional(CLI::App& app, const char* flag, std::optional<T>& value, const char* help,
                          const char* type) {
  return app
      .add_option_function<T>(
          flag, [&value](const T& given) { value = given; }, help)
      ->type_name(type);
}

}  // namespace

void Flags::text(const char* flag, std::string& value, const char* help, const char* type) {
  app_->add_option(flag, value, help)->type_name(type);
}

void Flags::text(const char* flag, std::optional<std::string>& value, const char* help, const char* type) {
  add_optional(*app_, flag, value, help, type);
}

void Flags::integer(const char* flag, std::optional<std::int64_t>& value, const char* help, const char* type) {
  add_optional(*app_, flag, value, help, type);
}

void Flags::integer(const char* flag, std::optional<std::int64_t>& value, const char* help, const char* type,
                    std::int64_t lowest, std::int64_t highest) {
  add_optional(*app_, flag, value, help, type)->check(between(lowest, highest));
}

void Flags::number(const char* flag, std::uint64_t& value, const char* help) {
  app_->add_option(flag, value, help)->type_name("N");
}

void Flags::number(const char* flag, std::uint64_t& value, const char* help, Bounds bounds, Default shown) {
  CLI::Option* option =
      app_->add_option(flag, value, help)->check(between(bounds.lowest, bounds.highest))->type_name("N");
  if (shown == Default::kShown) option->capture_default_str();
}

void Flags::on(const char* flag, bool& value, const char* help) {
  app_->add_flag(flag, value, help);
}

void Flags::on_without(const char* flag, bool& value, const char* help, const char* other) {
  app_->add_flag(flag, value, help)->excludes(app_->get_option(other));
}

void Flags::duration(const char* flag, std::chrono::milliseconds& value, const char* help) {
  app_->add_option_function<std::string>(
          flag, [&value](const std::string& text) { value = parse_duration(text).value_or(value); }, help)
      ->check(duration_value())
      ->default_str(format_duration(value))
      ->type_name("DURATION");
}

void Flags::age(const char* flag, std::optional<std::string>& value, const char* help) {
  add_optional(*app_, flag, value, help, "DURATION")->check(duration_value())->check(age_value());
}

void Flags::time(const char* flag, std::optional<Timestamp>& value, const char* help) {
  app_->add_option_function<std::string>(
          flag, [&value](const std::string& text) { value = parse_since(text, now_utc()); }, help)
      ->check(since_value())
      ->type_name("TIME");
}

void Flags::statuses(const char* flag, std::vector<std::string>& value, Statuses allowed, const char* help) {
  app_->add_option(flag, value, help)->delimiter(',')->check(status_value(allowed))->type_name("STATUS");
}

void Flags::limit(std::uint64_t& limit, const std::string& what) {
  CLI::Option* option = app_->add_option("--limit", limit, "At most so many " + what)
                            ->check(between(std::uint64_t{1}, kHighestLimit))
                            ->capture_default_str()
                            ->type_name("N");
  app_->add_flag_callback(
          "--all", [&limit] { limit = kNoLimit; }, "All " + what)
      ->excludes(option);
}

void Flags::operand(const char* name, std::string& value, const char* help) {
  app_->add_option(name, value, help)->required()->type_name("");
}

void Flags::operands(const char* name, std::vector<std::string>& values, const char* help, int most) {
  CLI::Option* option = app_->add_option(name, values, help)->required()->type_name("");
  if (most > 0) option->expected(1, most);
}

bool Flags::given(const char* flag) const {
  return app_->count(flag) > 0;
}

}  // namespace run_recorder
