// How the daemon is: see handlers.h.
#include <chrono>

#include "base/json_writer.h"
#include "base/time.h"
#include "control/handlers.h"

namespace run_recorder {
namespace {

// The middle of the question stands for the host's time.
Result<JsonText> compare_clocks(Store& store) {
  const Timestamp before = now_utc();
  const auto database = store.database_now();
  if (!database) return database.error();
  const Timestamp host = before + (now_utc() - before) / 2;
  const auto difference = std::chrono::duration_cast<std::chrono::milliseconds>(host - database.value());
  JsonWriter out;
  out.time("host", host);
  out.time("database", *database);
  out.number("difference_ms", difference.count());
  return std::move(out).object();
}

}  // namespace

ApiAnswer get_health(Backend&, const Call&) {
  return json_answer(R"({"status":"ok"})");
}

// While runs can still begin and end it is ready: whoever balances by this must not take it out.
ApiAnswer get_readiness(Backend& backend, const Call& call) {
  const Acceptance acceptance = backend.options().acceptance();
  switch (acceptance.state) {
    case Acceptance::State::kAccepting:
      break;
    case Acceptance::State::kLifecycleOnly: {
      JsonWriter out;
      out.text("status", to_string(acceptance.state));
      out.text("reason", in_words(acceptance));
      return json_answer(std::move(out).object());
    }
    case Acceptance::State::kRefusing:
      return error_answer(503, "unavailable", in_words(acceptance));
  }
  return get_health(backend, call);
}

ApiAnswer get_metrics(Backend& backend, const Call&) {
  ApiAnswer answer;
  answer.content_type = "text/plain; version=0.0.4; charset=utf-8";
  answer.body = backend.options().metrics();
  return answer;
}

ApiAnswer get_status(Backend& backend, const Call&) {
  return json_answer(backend.options().status());
}

ApiAnswer get_clock(Backend& backend, const Call& call) {
  return backend.read(call.received, [](Store& store) { return compare_clocks(store); });
}

}  // namespace run_recorder
