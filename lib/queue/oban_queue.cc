// The adapter's side that is the same for both databases: one connection kept while it works, every failure an
// answer.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/url.h"
#include "queue/oban_table.h"
#include "run/job.h"

namespace run_recorder {

namespace {

// One statement asks for so many at once.
constexpr std::size_t kMaxAsked = 5'000;

class ObanQueue final : public JobQueue {
 public:
  explicit ObanQueue(QueueOptions options) : options_(std::move(options)) {}

  std::vector<JobAnswer> look_up(std::span<const JobAsked> jobs) override {
    std::vector<JobAnswer> answers;
    answers.reserve(jobs.size());
    while (!jobs.empty()) {
      const auto asked = jobs.first(std::min(jobs.size(), kMaxAsked));
      const auto found = ask(ids_of(asked));
      // What does not answer now is not asked again and again: each try may cost the whole deadline.
      if (!found) {
        for (std::size_t i = 0; i < jobs.size(); ++i)
          answers.push_back({.detail = found.error().message, .unreachable = true});
        break;
      }
      for (const JobAsked& job : asked) answers.push_back(answer_to(job, *found));
      jobs = jobs.subspan(asked.size());
    }
    return answers;
  }

  Result<void> check() override {
    auto answer = ask({});
    if (!answer) return answer.error();
    if (!answer->may_hide.empty()) return in_words({ErrorKind::kDenied, answer->may_hide});
    if (answer->replay && !is_current(*answer->replay)) {
      return in_words({ErrorKind::kUnavailable, words_for(*answer->replay)});
    }
    return {};
  }

 private:
  static std::vector<std::int64_t> ids_of(std::span<const JobAsked> jobs) {
    std::vector<std::int64_t> ids;
    ids.reserve(jobs.size());
    for (const JobAsked& job : jobs) {
      if (const auto id = job_number(job.job_id)) ids.push_back(*id);
    }
    return ids;
  }

  JobAnswer answer_to(const JobAsked& asked, const ObanSnapshot& found) const {
    const auto id = job_number(asked.job_id);
    if (!id) return {.detail = fmt::format("invalid job id \"{}\": must be a whole number from 1", asked.job_id)};
    return oban_answer(asked, *id, found, options_.clock_skew);
  }

  Result<ObanSnapshot> ask(std::span<const std::int64_t> job_ids) {
    if (!table_) {
      auto opened = open();
      if (!opened) return in_words(opened.error());
      table_ = std::move(*opened);
    }
    auto answer = table_->read(job_ids);
    if (answer) return answer;
    table_.reset();
    return in_words(answer.error());
  }

  Result<std::unique_ptr<ObanTable>> open() const {
    const auto kind = database_kind(options_.url);
    if (!kind) return Error{ErrorKind::kInvalid, "invalid url: must be sqlite:PATH or postgresql://…"};
    switch (*kind) {
      case DatabaseKind::kSqlite:
        return open_oban_in_sqlite(options_);
      case DatabaseKind::kPostgres:
        return open_oban_in_postgres(options_);
    }
    return Error{ErrorKind::kInvalid, "invalid url: unknown kind of database"};
  }

  Error in_words(Error error) const {
    const std::string words = without_password(error.message, options_.url);
    std::string advice;
    if (error.sqlstate == "42P01" || error.message.find("no such table") != std::string::npos) {
      advice = "; table names it in the configuration, and schema where Oban has a prefix";
    } else if (error.sqlstate == "42501") {
      advice = fmt::format("; this user needs SELECT on {} (and USAGE on its schema)", options_.table);
    }
    error.message = fmt::format("queue: {}{}", words, advice);
    return error;
  }

  const QueueOptions options_;
  std::unique_ptr<ObanTable> table_;  // empty until it is needed, and after an error
};

}  // namespace

std::unique_ptr<JobQueue> make_oban_queue(const QueueOptions& options) {
  return std::make_unique<ObanQueue>(options);
}

Result<std::string> quoted_table(std::string_view table) {
  std::string quoted;
  int parts = 0;
  for (std::string_view rest = table;; ++parts) {
    const std::size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    if (part.empty() || part.find('\0') != std::string_view::npos || parts == 2) {
      return Error{ErrorKind::kInvalid, fmt::format("invalid table \"{}\": must be TABLE or SCHEMA.TABLE", table)};
    }
    if (parts > 0) quoted += '.';
    quoted += '"';
    for (const char character : part) quoted += character == '"' ? std::string("\"\"") : std::string(1, character);
    quoted += '"';
    if (dot == std::string_view::npos) return quoted;
    rest.remove_prefix(dot + 1);
  }
}

std::optional<std::chrono::milliseconds> error_age(std::string_view at, Timestamp now) {
  auto time = parse_rfc3339(at);
  if (!time) time = parse_rfc3339(std::string(at) + "Z");
  if (!time || *time > now + std::chrono::days(1)) return std::nullopt;
  return std::max(std::chrono::milliseconds(0), std::chrono::duration_cast<std::chrono::milliseconds>(now - *time));
}

std::optional<std::chrono::milliseconds> latest(std::optional<std::chrono::milliseconds> a,
                                                std::optional<std::chrono::milliseconds> b) {
  if (!a || !b) return a ? a : b;
  return std::min(*a, *b);
}

}  // namespace run_recorder
