#include "cli/flags.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <utility>

#include "cli/local_time.h"
#include "run/status.h"

namespace run_recorder {
namespace {

constexpr std::uint64_t kHighestLimit = 1'000'000'000;

template <class Accepts>
CLI::Validator value_that(Accepts accepts, std::string allowed) {
  return CLI::Validator(
      [accepts, allowed = std::move(allowed)](std::string& text) {
        return accepts(text) ? std::string() : invalid_value(text, allowed);
      },
      "");
}

CLI::Validator duration_value(std::chrono::milliseconds lowest) {
  return value_that(
      [lowest](const std::string& text) {
        const std::optional<std::chrono::milliseconds> duration = parse_duration(text);
        return duration && *duration >= lowest;
      },
      fmt::format("a duration{} such as 500ms, 30s or 5m",
                  lowest.count() == 0 ? "" : fmt::format(" of at least {}", format_duration(lowest))));
}

CLI::Validator age_value() {
  return value_that([](const std::string& text) { return parse_duration(text) > std::chrono::milliseconds(0); },
                    "a duration above 0s such as 12h or 90d");
}

CLI::Validator moment_value() {
  return value_that([](const std::string& text) { return parse_moment(text, now_utc()).has_value(); },
                    std::string(kMoments));
}

CLI::Validator status_value(Flags::Statuses allowed) {
  const bool finished_only = allowed == Flags::Statuses::kFinished;
  return value_that(
      [finished_only](const std::string& text) {
        const std::optional<Status> status = parse_status(text);
        return status && (!finished_only || std::ranges::count(terminal_statuses(), *status) > 0);
      },
      std::string(finished_only ? "" : "queued, running, ") + "completed, failed, cancelled or stuck");
}

template <class T>
CLI::Validator whole_number() {
  return value_that(
      [](const std::string& text) {
        T number = 0;
        return CLI::detail::lexical_cast(text, number);
      },
      "a whole number");
}

template <class T>
CLI::Validator between(T lowest, T highest) {
  return value_that(
      [=](const std::string& text) {
        T number = 0;
        return CLI::detail::lexical_cast(text, number) && number >= lowest && number <= highest;
      },
      fmt::format("between {} and {}", lowest, highest));
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

std::string invalid_value(std::string_view value, std::string_view allowed) {
  return fmt::format("invalid value \"{}\": must be {}", value, allowed);
}

void Flags::text(const char* flag, std::string& value, const char* help, const char* type) {
  app_->add_option(flag, value, help)->type_name(type);
}

void Flags::text(const char* flag, std::optional<std::string>& value, const char* help, const char* type) {
  add_optional(*app_, flag, value, help, type);
}

void Flags::integer(const char* flag, std::optional<std::int64_t>& value, const char* help, const char* type) {
  add_optional(*app_, flag, value, help, type)->check(whole_number<std::int64_t>());
}

void Flags::integer(const char* flag, std::optional<std::int64_t>& value, const char* help, const char* type,
                    std::int64_t lowest, std::int64_t highest) {
  add_optional(*app_, flag, value, help, type)->check(between(lowest, highest));
}

void Flags::number(const char* flag, std::uint64_t& value, const char* help) {
  app_->add_option(flag, value, help)->check(whole_number<std::uint64_t>())->type_name("N");
}

void Flags::number(const char* flag, std::uint64_t& value, const char* help, Bounds bounds, Default shown) {
  CLI::Option* option =
      app_->add_option(flag, value, help)->check(between(bounds.lowest, bounds.highest))->type_name("N");
  if (shown == Default::kShown) option->capture_default_str();
}

void Flags::size(const char* flag, std::uint64_t& value, const char* help, Bounds bounds) {
  app_->add_option_function<std::string>(
          flag, [&value](const std::string& text) { value = parse_size(text).value_or(value); }, help)
      ->check(value_that(
          [bounds](const std::string& text) {
            const std::optional<std::uint64_t> size = parse_size(text);
            return size && *size >= bounds.lowest && *size <= bounds.highest;
          },
          fmt::format("a size between {} and {} such as 64MiB", format_size(bounds.lowest),
                      format_size(bounds.highest))))
      ->default_str(format_size(value))
      ->type_name("SIZE");
}

void Flags::on(const char* flag, bool& value, const char* help) {
  app_->add_flag(flag, value, help);
}

void Flags::on_without(const char* flag, bool& value, const char* help, const char* other) {
  app_->add_flag(flag, value, help)->excludes(app_->get_option(other));
}

void Flags::duration(const char* flag, std::chrono::milliseconds& value, const char* help,
                     std::chrono::milliseconds lowest) {
  app_->add_option_function<std::string>(
          flag, [&value](const std::string& text) { value = parse_duration(text).value_or(value); }, help)
      ->check(duration_value(lowest))
      ->default_str(format_duration(value))
      ->type_name("DURATION");
}

void Flags::duration(const char* flag, std::optional<std::chrono::milliseconds>& value, const char* help) {
  app_->add_option_function<std::string>(
          flag, [&value](const std::string& text) { value = parse_duration(text); }, help)
      ->check(value_that([](const std::string& text) { return parse_duration(text) > std::chrono::milliseconds(0); },
                         "a duration above 0s such as 30s, 5m or 2h"))
      ->type_name("DURATION");
}

void Flags::interval(std::chrono::milliseconds& value, const char* help) {
  constexpr std::chrono::milliseconds kShortestInterval{10};
  duration("--interval", value, help, kShortestInterval);
}

void Flags::age(const char* flag, std::optional<std::string>& value, const char* help) {
  add_optional(*app_, flag, value, help, "DURATION")->check(age_value());
}

void Flags::time(const char* flag, std::optional<Timestamp>& value, const char* help) {
  app_->add_option_function<std::string>(
          flag, [&value](const std::string& text) { value = parse_moment(text, now_utc()); }, help)
      ->check(moment_value())
      ->type_name("TIME");
}

void Flags::choice(const char* flag, std::string& value, const std::vector<std::string>& choices, const char* help) {
  app_->add_option(flag, value, help)
      ->check(value_that([choices](const std::string& text) { return std::ranges::count(choices, text) > 0; },
                         fmt::format("{}", fmt::join(choices, " or "))))
      ->capture_default_str()
      ->type_name("WORD");
}

void Flags::statuses(const char* flag, std::vector<std::string>& value, Statuses allowed, const char* help) {
  app_->add_option(flag, value, help)->delimiter(',')->check(status_value(allowed))->type_name("STATUS");
}

void Flags::limit(std::uint64_t& limit, const std::string& what) {
  CLI::Option* option = app_->add_option("--limit", limit, "At most N " + what)
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

void Flags::any_operands(const char* name, std::vector<std::string>& values, const char* help) {
  app_->add_option(name, values, help)->type_name("");
}

bool Flags::given(const char* flag) const {
  return app_->count(flag) > 0;
}

}  // namespace run_recorder
