#include "control/api.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>

#include "control/move.h"
#include "control/row_json.h"

namespace run_recorder {
namespace {

constexpr std::chrono::milliseconds kReadPatience{1'000};
constexpr std::chrono::milliseconds kPassPatience{10'000};  // of who requests a pass
constexpr std::size_t kIdleStores = 1;
constexpr std::size_t kDefaultLimit = 100;
constexpr std::size_t kLargestLimit = 1'000;

ApiAnswer fail(unsigned status, std::string_view code, std::string_view message) {
  ApiAnswer answer;
  answer.status = status;
  answer.body =
      fmt::format("{{\"error\":{{\"code\":{},\"message\":{}}}}}\n", json_string(code), json_string(message));
  return answer;
}

ApiAnswer fail(const Error& error) {
  switch (error.kind) {
    case ErrorKind::kInvalid:
      return fail(400, "invalid", error.message);
    case ErrorKind::kNotFound:
      return fail(404, "not_found", error.message);
    case ErrorKind::kConflict:
      return fail(409, "conflict", error.message);
    case ErrorKind::kDenied:
      return fail(403, "forbidden", error.message);
    case ErrorKind::kUnavailable:
    case ErrorKind::kRefused:
    case ErrorKind::kInDoubt:
    case ErrorKind::kFull:
      return fail(503, "unavailable", error.message);
    case ErrorKind::kData:
    case ErrorKind::kCorrupt:
    case ErrorKind::kIo:
    case ErrorKind::kInternal:
      break;
  }
  return fail(500, "internal", error.message);
}

ApiAnswer ok(JsonText body) {
  ApiAnswer answer;
  answer.body = std::move(body);
  answer.body += '\n';
  return answer;
}

ApiAnswer being_set_up() {
  return fail(503, "unavailable",
              "the database is being set up: its tables are made or brought up to date, try again soon");
}

ApiAnswer not_found(std::string_view path) {
  return fail(404, "not_found", fmt::format("there is nothing at {}", path));
}

ApiAnswer wrong_method(std::string_view allowed) {
  ApiAnswer answer = fail(405, "method_not_allowed", fmt::format("allowed here: {}", allowed));
  answer.headers["Allow"] = std::string(allowed);
  return answer;
}

template <class T>
std::optional<T> to_number(std::string_view text) {
  T value{};
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<bool> to_flag(std::string_view text) {
  if (text == "true" || text == "1" || text.empty()) return true;
  if (text == "false" || text == "0") return false;
  return std::nullopt;
}

Error invalid(std::string message) {
  return Error{ErrorKind::kInvalid, std::move(message)};
}

struct Paging {
  std::size_t limit = kDefaultLimit;
  std::string cursor;
};

// Takes one parameter of a listing; false: it is none of them.
Result<bool> take_paging(const std::string& name, const std::string& value, Paging& paging) {
  if (name == "cursor") {
    paging.cursor = value;
    return true;
  }
  if (name != "limit") return false;
  const auto limit = to_number<std::size_t>(value);
  if (!limit || *limit < 1 || *limit > kLargestLimit) return invalid("limit: a number from 1 to 1000 is allowed");
  paging.limit = *limit;
  return true;
}

Result<Paging> paging_of(const std::vector<std::pair<std::string, std::string>>& query,
                         std::size_t limit = kDefaultLimit) {
  Paging paging{.limit = limit, .cursor = {}};
  for (const auto& [name, value] : query) {
    const auto taken = take_paging(name, value, paging);
    if (!taken) return taken.error();
    if (!taken.value()) return invalid(fmt::format("{}: not known here; limit and cursor are", name));
  }
  return paging;
}

Error no_parameters(const std::vector<std::pair<std::string, std::string>>& query) {
  return invalid(fmt::format("{}: not known here; no parameter is", query.front().first));
}

Result<void> take_statuses(std::string_view value, RunFilter& filter) {
  for (const std::string_view word : split(value, ',')) {
    const auto status = parse_status(word);
    if (!status) {
      return invalid(
          fmt::format("status: \"{}\" is none; queued, running, completed, failed, cancelled and stuck are", word));
    }
    filter.statuses.push_back(*status);
  }
  return {};
}

// A + that was not written as %2B arrives as a space; before an offset it can only have been that +.
std::optional<Timestamp> time_in_query(std::string value) {
  constexpr std::size_t kOffset = std::string_view("+02:00").size();
  if (value.size() > kOffset && value[value.size() - kOffset] == ' ') value[value.size() - kOffset] = '+';
  return parse_rfc3339(value);
}

Result<RunFilter> filter_of(const std::vector<std::pair<std::string, std::string>>& query) {
  RunFilter filter;
  Paging paging;
  for (const auto& [name, value] : query) {
    const auto taken = take_paging(name, value, paging);
    if (!taken) return taken.error();
    if (taken.value()) continue;
    if (name == "status") {
      if (const auto statuses = take_statuses(value, filter); !statuses) return statuses.error();
    } else if (name == "council") {
      filter.council = value;
    } else if (name == "oban_job_id") {
      filter.oban_job_id = to_number<std::int64_t>(value);
      if (!filter.oban_job_id) return invalid("oban_job_id: a whole number is allowed");
    } else if (name == "job") {
      filter.job = value;
    } else if (name == "queue") {
      filter.queue = value;
    } else if (name == "pass") {
      filter.pass = value;
    } else if (name == "since" || name == "until") {
      const auto time = time_in_query(value);
      if (!time) {
        return invalid(
            fmt::format("{}: an RFC 3339 time with offset is allowed, as 2026-01-02T03:04:05Z or "
                        "2026-01-02T03:04:05%2B02:00 (in a query + is written %2B)",
                        name));
      }
      (name == "since" ? filter.since : filter.until) = time;
    } else {
      return invalid(fmt::format(
          "{}: not known here; status, council, job, queue, oban_job_id, pass, since, until, limit and cursor are",
          name));
    }
  }
  filter.limit = paging.limit;
  filter.cursor = paging.cursor;
  return filter;
}

Error no_run(std::string_view run_id) {
  return Error{ErrorKind::kNotFound, fmt::format("there is no run {}", run_id)};
}

Result<JsonText> list_runs(Store& store, const RunFilter& filter) {
  const auto page = store.list_runs(filter);
  if (!page) return page.error();
  JsonList list("runs");
  for (const Run& run : page.value().runs) list.add(run_json(run, false));
  return list.close(page.value().next);
}

// The middle of the question stands for the host's time.
Result<JsonText> compare_clocks(Store& store) {
  const Timestamp before = now_utc();
  const auto database = store.database_now();
  if (!database) return database.error();
  const Timestamp host = before + (now_utc() - before) / 2;
  const auto difference = std::chrono::duration_cast<std::chrono::milliseconds>(host - database.value());
  return fmt::format("{{\"host\":{},\"database\":{},\"difference_ms\":{}}}", json_string(format_rfc3339(host)),
                     json_string(format_rfc3339(database.value())), difference.count());
}

Result<JsonText> show_run(Store& store, const std::string& run_id) {
  const auto run = store.find_run(run_id);
  if (!run) return run.error();
  if (!run.value()) return no_run(run_id);
  return run_json(*run.value(), true);
}

Result<JsonText> list_events(Store& store, const std::string& run_id, const Paging& paging) {
  const auto page = store.list_events(run_id, paging.limit, paging.cursor);
  if (!page) return page.error();
  if (page.value().events.empty() && paging.cursor.empty()) {
    const auto run = store.find_run(run_id);
    if (!run) return run.error();
    if (!run.value()) return no_run(run_id);
  }
  JsonList list("events");
  for (const StoredEvent& event : page.value().events) list.add(event_json(event));
  return list.close(page.value().next);
}

Result<JsonText> show_chain(Store& store, const std::string& run_id, const Paging& paging) {
  const auto page = store.chain(run_id, paging.limit, paging.cursor);
  if (!page) return page.error();
  if (page.value().runs.empty() && paging.cursor.empty()) return no_run(run_id);
  JsonList list("runs");
  for (const Run& run : page.value().runs) list.add(run_json(run, false));
  JsonText answer = list.close(page.value().next);
  answer.insert(answer.size() - 1, page.value().truncated ? R"(,"truncated":true)" : R"(,"truncated":false)");
  return answer;
}

Result<JsonText> list_reconciliations(Store& store, const Paging& paging) {
  const auto page = store.list_reconciliations(paging.limit, paging.cursor);
  if (!page) return page.error();
  JsonList list("reconciliations");
  for (const ReconciliationRow& row : page.value().passes) list.add(reconciliation_json(row));
  return list.close(page.value().next);
}

Result<JsonText> list_dead_letters(Store& store, const Paging& paging) {
  const auto page = store.list_dead_letters(paging.limit, paging.cursor);
  if (!page) return page.error();
  JsonList list("dead_letters");
  for (const DeadLetter& letter : page.value().dead_letters) list.add(dead_letter_json(letter));
  return list.close(page.value().next);
}

// The three switches of POST /v1/reconcile, from the body (a JSON object, may be empty) or the query.
Result<PassRequest> pass_request(const ApiRequest& request,
                                 const std::vector<std::pair<std::string, std::string>>& query) {
  PassRequest pass;
  const auto set = [&pass](std::string_view name, bool value) {
    if (name == "dry_run") return pass.dry_run = value, true;
    if (name == "unvouched") return pass.unvouched = value, true;
    if (name == "force") return pass.force = value, true;
    return false;
  };
  const auto unknown = [](std::string_view name) {
    return invalid(fmt::format("{}: not known here; dry_run, unvouched and force are", name));
  };
  for (const auto& [name, value] : query) {
    const auto flag = to_flag(value);
    if (!flag) return invalid(fmt::format("{}: true or false is allowed", name));
    if (!set(name, *flag)) return unknown(name);
  }
  if (request.body.find_first_not_of(" \t\r\n") == std::string::npos) return pass;
  const auto body = nlohmann::json::parse(request.body, nullptr, false);
  if (!body.is_object()) return invalid("the body: a JSON object or nothing is allowed");
  for (const auto& [name, value] : body.items()) {
    if (!value.is_boolean()) return invalid(fmt::format("{}: true or false is allowed", name));
    if (!set(name, value.get<bool>())) return unknown(name);
  }
  return pass;
}

// A member of a body as the text it has in a query; a list of strings is joined by commas. Empty: nothing of that
// kind.
std::optional<std::string> as_query_text(const nlohmann::json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean() || value.is_number_integer()) return value.dump();
  if (!value.is_array()) return std::nullopt;
  std::string joined;
  for (const nlohmann::json& element : value) {
    if (!element.is_string()) return std::nullopt;
    joined += (joined.empty() ? "" : ",") + element.get<std::string>();
  }
  return joined;
}

Result<void> take_prune(const std::string& name, const std::string& value, PruneRequest& prune) {
  if (name == "dry_run") {
    const auto flag = to_flag(value);
    if (!flag) return invalid("dry_run: true or false is allowed");
    prune.dry_run = *flag;
  } else if (name == "status") {
    for (const std::string_view word : split(value, ',')) {
      const auto status = parse_status(word);
      if (!status || std::ranges::count(terminal_statuses(), *status) == 0) {
        return invalid(
            fmt::format("status: \"{}\" is not allowed; completed, failed, cancelled and stuck are", word));
      }
      prune.statuses.push_back(*status);
    }
  } else if (name == "council") {
    prune.council = value;
  } else if (name == "older_than") {
    prune.older_than = parse_duration(value);
    if (!prune.older_than || prune.older_than->count() == 0) {
      return invalid("older_than: a duration above 0s is allowed, as 30d");
    }
  } else if (name == "limit") {
    const auto limit = to_number<std::size_t>(value);
    if (!limit || *limit < 1) return invalid("limit: a number from 1 on is allowed");
    prune.limit = *limit;
  } else if (name == "cursor") {
    prune.cursor = value;
  } else {
    return invalid(
        fmt::format("{}: not known here; dry_run, status, council, older_than, limit and cursor are", name));
  }
  return {};
}

Result<PruneRequest> prune_request(const ApiRequest& request,
                                   const std::vector<std::pair<std::string, std::string>>& query) {
  PruneRequest prune;
  for (const auto& [name, value] : query) {
    if (const auto taken = take_prune(name, value, prune); !taken) return taken.error();
  }
  if (request.body.find_first_not_of(" \t\r\n") == std::string::npos) return prune;
  const auto body = nlohmann::json::parse(request.body, nullptr, false);
  if (!body.is_object()) return invalid("the body: a JSON object or nothing is allowed");
  for (const auto& [name, value] : body.items()) {
    const auto text = as_query_text(value);
    if (!text)
      return invalid(fmt::format("{}: a string, a whole number, true, false or a list of strings is allowed", name));
    if (const auto taken = take_prune(name, *text, prune); !taken) return taken.error();
  }
  return prune;
}

std::string_view to_string(Recorder::Retried outcome) {
  switch (outcome) {
    case Recorder::Retried::kApplied:
      return "applied";
    case Recorder::Retried::kDuplicate:
      return "duplicate";
    case Recorder::Retried::kDead:
      return "dead";
  }
  return "";
}

}  // namespace

Api::Api(ApiOptions options, Recorder& recorder, Reconciler& reconciler, Pruner& pruner)
    : options_(std::move(options)), recorder_(recorder), reconciler_(reconciler), pruner_(pruner) {}

ApiAnswer Api::answer(const ApiRequest& request) {
  const auto target = parse_target(request.target);
  if (!target) return fail(target.error());
  return route(request, target.value());
}

ApiAnswer Api::route(const ApiRequest& request, const RequestTarget& target) {
  const std::string& first = target.path.front();
  const bool get = request.method == "GET";
  if (target.path.size() == 1) {
    if (first == "healthz" || first == "readyz") {
      if (!get) return wrong_method("GET");
      const std::string why = first == "readyz" ? options_.not_ready() : std::string();
      if (!why.empty()) return fail(503, "unavailable", why);
      return ok("{\"status\":\"ok\"}");
    }
    if (first == "metrics") {
      if (!get) return wrong_method("GET");
      ApiAnswer answer;
      answer.content_type = "text/plain; version=0.0.4; charset=utf-8";
      answer.body = options_.metrics();
      return answer;
    }
  }
  if (first != "v1" || target.path.size() < 2) return not_found(request.target);
  const std::string& noun = target.path[1];
  if (noun == "status" && target.path.size() == 2) return get ? ok(options_.status()) : wrong_method("GET");
  if (noun == "runs") return route_runs(request, target);
  if (noun == "reconcile" && target.path.size() == 2) {
    return request.method == "POST" ? reconcile(request, target) : wrong_method("POST");
  }
  if (noun == "clock" && target.path.size() == 2) {
    return get ? read([](Store& store) { return compare_clocks(store); }) : wrong_method("GET");
  }
  if (noun == "export" && target.path.size() == 2) {
    if (!get) return wrong_method("GET");
    const auto paging = paging_of(target.query);
    if (!paging) return fail(paging.error());
    return read([&](Store& store) { return export_page(store, paging.value().limit, paging.value().cursor); });
  }
  if (noun == "import" && target.path.size() == 2) {
    if (request.method != "POST") return wrong_method("POST");
    return read([&](Store& store) -> Result<JsonText> {
      const ImportReport report = import_lines(store, request.body);
      // What was taken before the database went away is told; the rest can be sent again.
      if (report.stopped_by && report.lines.empty()) return *report.stopped_by;
      return report.to_json();
    });
  }
  if (noun == "prune" && target.path.size() == 2) {
    return request.method == "POST" ? prune(request, target) : wrong_method("POST");
  }
  if (noun == "reconciliations") return route_reconciliations(request, target);
  if (noun == "dead-letters") return route_dead_letters(request, target);
  return not_found(request.target);
}

ApiAnswer Api::route_runs(const ApiRequest& request, const RequestTarget& target) {
  if (target.path.size() > 4) return not_found(request.target);
  if (request.method != "GET") return wrong_method("GET");
  if (target.path.size() == 2) {
    const auto filter = filter_of(target.query);
    if (!filter) return fail(filter.error());
    return read([&](Store& store) { return list_runs(store, filter.value()); });
  }
  const std::string& run_id = target.path[2];
  const bool takes_parameters = target.path.size() == 4 && (target.path[3] == "events" || target.path[3] == "chain");
  if (!takes_parameters && !target.query.empty()) return fail(no_parameters(target.query));
  if (target.path.size() == 3) return read([&](Store& store) { return show_run(store, run_id); });
  const std::string& what = target.path[3];
  if (what == "events") {
    const auto paging = paging_of(target.query);
    if (!paging) return fail(paging.error());
    return read([&](Store& store) { return list_events(store, run_id, paging.value()); });
  }
  if (what == "chain") {
    const auto paging = paging_of(target.query, kLargestLimit);
    if (!paging) return fail(paging.error());
    return read([&](Store& store) { return show_chain(store, run_id, paging.value()); });
  }
  if (what == "explain") return read([&](Store& store) { return reconciler_.explain(store, run_id); });
  return not_found(request.target);
}

ApiAnswer Api::route_reconciliations(const ApiRequest& request, const RequestTarget& target) {
  if (target.path.size() == 2) {
    if (request.method != "GET") return wrong_method("GET");
    const auto paging = paging_of(target.query);
    if (!paging) return fail(paging.error());
    return read([&](Store& store) { return list_reconciliations(store, paging.value()); });
  }
  if (target.path.size() != 4 || target.path[3] != "undo") return not_found(request.target);
  return request.method == "POST" ? undo(target.path[2]) : wrong_method("POST");
}

ApiAnswer Api::route_dead_letters(const ApiRequest& request, const RequestTarget& target) {
  const std::size_t depth = target.path.size();
  if (depth == 2) {
    if (request.method != "GET") return wrong_method("GET");
    const auto paging = paging_of(target.query);
    if (!paging) return fail(paging.error());
    return read([&](Store& store) { return list_dead_letters(store, paging.value()); });
  }
  const auto id = to_number<std::int64_t>(target.path[2]);
  if (!id) return fail(404, "not_found", fmt::format("there is no dead letter {}", target.path[2]));
  if (depth == 3 && request.method == "GET") {
    return read([&](Store& store) -> Result<JsonText> {
      const auto letter = store.find_dead_letter(*id);
      if (!letter) return letter.error();
      if (!letter.value()) return Error{ErrorKind::kNotFound, fmt::format("there is no dead letter {}", *id)};
      return dead_letter_json(*letter.value());
    });
  }
  if (depth == 3 && request.method == "DELETE") {
    const auto removed = recorder_.remove_dead_letter(*id);
    return removed ? ok(fmt::format("{{\"id\":{},\"removed\":true}}", *id)) : fail(removed.error());
  }
  if (depth == 3) return wrong_method("GET, DELETE");
  if (depth != 4 || target.path[3] != "retry") return not_found(request.target);
  if (request.method != "POST") return wrong_method("POST");
  const auto retried = recorder_.retry_dead_letter(*id);
  if (!retried) return fail(retried.error());
  return ok(fmt::format("{{\"id\":{},\"outcome\":\"{}\"}}", *id, to_string(retried.value())));
}

// Waits a moment for what was acknowledged before, so that whoever emits and then looks sees it.
ApiAnswer Api::read(const Read& work) {
  const std::uint64_t acknowledged = recorder_.accepted_seq();
  const bool tables = recorder_.wait_tables(kReadPatience);
  const RecorderStatus status = recorder_.status();
  const bool away = status.database == DatabaseState::kAway || status.database == DatabaseState::kRefused;
  if (away) return fail(503, "unavailable", "the database is away: " + status.database_error);
  if (!tables) return being_set_up();
  const bool complete = recorder_.wait_applied(acknowledged, kReadPatience);
  bool reused = false;
  auto store = take_store(reused);
  if (!store) return lost_connection(store.error());
  const auto begun = std::chrono::steady_clock::now();
  auto body = work(*store.value());
  const bool at_once = std::chrono::steady_clock::now() - begun < kReadPatience;
  if (!body && reused && at_once && body.error().kind == ErrorKind::kUnavailable) {
    // The connection was kept since an earlier request; the server may have been restarted since. One that hangs
    // would only hang again.
    store = open_store(options_.store);
    if (!store) return lost_connection(store.error());
    body = work(*store.value());
  }
  const bool broken =
      !body && (body.error().kind == ErrorKind::kUnavailable || body.error().kind == ErrorKind::kInDoubt);
  if (broken) {
    recorder_.look_soon();
  } else {
    give_back(std::move(store.value()));
  }
  ApiAnswer answer = body ? ok(std::move(body.value())) : fail(body.error());
  if (!complete) {
    const std::uint64_t pending = recorder_.pending_until(acknowledged);
    if (pending > 0) answer.headers["X-Run-Recorder-Pending"] = std::to_string(pending);
  }
  return answer;
}

// The recorder may not have noticed yet, and would call the database up.
ApiAnswer Api::lost_connection(const Error& error) {
  recorder_.look_soon();
  return fail(503, "unavailable", error.message);
}

ApiAnswer Api::reconcile(const ApiRequest& request, const RequestTarget& target) {
  const auto pass = pass_request(request, target.query);
  if (!pass) return fail(pass.error());
  const bool tables = recorder_.wait_tables(kPassPatience);
  if (!tables && recorder_.status().database == DatabaseState::kConnecting) return being_set_up();
  const auto report = reconciler_.reconcile(pass.value());
  return report ? ok(report.value().to_json()) : fail(report.error());
}

ApiAnswer Api::prune(const ApiRequest& request, const RequestTarget& target) {
  const auto wanted = prune_request(request, target.query);
  if (!wanted) return fail(wanted.error());
  return read([&](Store& store) -> Result<JsonText> {
    const auto report = pruner_.prune(store, wanted.value());
    if (!report) return report.error();
    return report.value().to_json();
  });
}

ApiAnswer Api::undo(const std::string& pass_id) {
  return read([&](Store& store) -> Result<JsonText> {
    const auto undone = store.undo_pass(recorder_.self(), pass_id);
    if (!undone) return undone.error();
    return fmt::format("{{\"pass_id\":{},\"undone\":{},\"moved\":{}}}", json_string(pass_id), undone.value().undone,
                       undone.value().moved);
  });
}

Result<std::unique_ptr<Store>> Api::take_store(bool& reused) {
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      auto store = std::move(idle_.back());
      idle_.pop_back();
      reused = true;
      return store;
    }
  }
  return open_store(options_.store);
}

void Api::give_back(std::unique_ptr<Store> store) {
  const std::lock_guard lock(mutex_);
  if (idle_.size() < kIdleStores) idle_.push_back(std::move(store));
}

}  // namespace run_recorder
