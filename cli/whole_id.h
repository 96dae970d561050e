// Whole ids from their beginnings, as tables show them on narrow terminals. Asks the daemon; one thread.
#pragma once

#include <string>

#include "base/result.h"
#include "cli/control_client.h"

namespace run_recorder {

enum class Ids { kRuns, kPasses };

// The one id that begins so; an id that is whole is that one. kNotFound: none does; kConflict: several do, and the
// message names some.
Result<std::string> whole_id(const ControlClient& client, Ids ids, const std::string& beginning);

// ask(id) with the id as it was given; where the daemon knows none such, with the whole id that begins so.
template <class Ask>
auto ask_by_id(const ControlClient& client, Ids ids, const std::string& given, Ask&& ask) -> decltype(ask(given)) {
  auto answer = ask(given);
  if (answer || answer.error().kind != ErrorKind::kNotFound) return answer;
  const Result<std::string> whole = whole_id(client, ids, given);
  if (whole) return ask(*whole);
  if (whole.error().kind == ErrorKind::kNotFound) return answer;
  return whole.error();
}

}  // namespace run_recorder
