// Dead letters: see handlers.h.
#include <fmt/format.h>

#include "base/json_writer.h"
#include "base/number.h"
#include "control/handlers.h"
#include "control/row_json.h"

namespace run_recorder {
namespace {

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

Result<JsonText> list_dead_letters(Store& store, const Paging& paging) {
  const auto page = store.list_dead_letters(paging.limit, paging.cursor);
  if (!page) return page.error();
  JsonList list("dead_letters");
  for (const DeadLetter& letter : page.value().dead_letters) list.add(dead_letter_json(letter));
  return list.close(page.value().next);
}

Error no_dead_letter(std::string_view id) {
  return Error{ErrorKind::kNotFound, fmt::format("there is no dead letter {}", id)};
}

}  // namespace

ApiAnswer get_dead_letters(Backend& backend, const Call& call) {
  const Paging paging = paging_of(call.arguments);
  return backend.read(call.received, [&](Store& store) { return list_dead_letters(store, paging); });
}

ApiAnswer get_dead_letter(Backend& backend, const Call& call) {
  const auto id = parse_number<std::int64_t>(call.ids[0]);
  if (!id) return error_answer(no_dead_letter(call.ids[0]));
  return backend.read(call.received, [&](Store& store) -> Result<JsonText> {
    const auto letter = store.find_dead_letter(*id);
    if (!letter) return letter.error();
    if (!letter.value()) return no_dead_letter(call.ids[0]);
    return dead_letter_json(*letter.value());
  });
}

ApiAnswer delete_dead_letter(Backend& backend, const Call& call) {
  const auto id = parse_number<std::int64_t>(call.ids[0]);
  if (!id) return error_answer(no_dead_letter(call.ids[0]));
  const auto removed = backend.recorder().remove_dead_letter(*id);
  if (!removed) return error_answer(removed.error());
  JsonWriter out;
  out.number("id", *id);
  out.flag("removed", true);
  return json_answer(std::move(out).object());
}

ApiAnswer post_retry(Backend& backend, const Call& call) {
  const auto id = parse_number<std::int64_t>(call.ids[0]);
  if (!id) return error_answer(no_dead_letter(call.ids[0]));
  const auto retried = backend.recorder().retry_dead_letter(*id);
  if (!retried) return error_answer(retried.error());
  JsonWriter out;
  out.number("id", *id);
  out.text("outcome", to_string(*retried));
  return json_answer(std::move(out).object());
}

}  // namespace run_recorder
