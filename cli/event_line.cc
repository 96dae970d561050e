#include "cli/event_line.h"

#include <algorithm>

#include "base/uuid.h"

namespace run_recorder {
namespace {

const JsonMember* find(const std::vector<JsonMember>& members, std::string_view key) {
  const auto at = std::find_if(members.begin(), members.end(), [&](const JsonMember& m) { return m.key == key; });
  return at == members.end() ? nullptr : &*at;
}

std::string text_of(const std::vector<JsonMember>& members, std::string_view key) {
  const JsonMember* member = find(members, key);
  return member != nullptr && member->type == JsonType::kString ? json_string_value(member->value) : std::string();
}

bool lacks_worker(const std::vector<JsonMember>& members, const Completion& completion) {
  if (!completion.worker_pid || find(members, "worker_pid") != nullptr) return false;
  const std::string type = text_of(members, "type");
  if (type == "run_queued") return false;
  if (!completion.worker_is_guessed) return true;
  if (type == "run_heartbeat" || type == "run_lost") return false;
  return completion.vouched_run_id.empty() || text_of(members, "run_id") != completion.vouched_run_id;
}

}  // namespace

EventLine& EventLine::text(std::string_view key, std::string_view value) {
  members_.text(key, value);
  return *this;
}

EventLine& EventLine::flag(std::string_view key, bool value) {
  members_.flag(key, value);
  return *this;
}

EventLine& EventLine::json(std::string_view key, std::string_view value) {
  // Valid JSON has newlines only between its tokens.
  std::string line(value);
  for (char& c : line) c = c == '\n' || c == '\r' ? ' ' : c;
  members_.raw(key, line);
  return *this;
}

EventIds::EventIds() : prefix_(random_hex(20)) {}

std::string EventIds::next() {
  return prefix_ + "-" + std::to_string(++number_);
}

std::string completed_line(std::string_view line, const Completion& completion, EventIds& ids) {
  const JsonScan scan = scan_json(line, kLineDepth);
  if (scan.problem != JsonProblem::kNone || scan.type != JsonType::kObject) return std::string(line);
  EventLine added;
  bool any = false;
  if (find(scan.members, "id") == nullptr) {
    added.text("id", ids.next());
    any = true;
  }
  if (lacks_worker(scan.members, completion)) {
    added.number("worker_pid", *completion.worker_pid);
    any = true;
  }
  if (!any) return std::string(line);
  const std::size_t brace = line.find('{');
  std::string head = added.str();
  head.pop_back();
  if (!scan.members.empty()) head += ',';
  return head.append(line.substr(brace + 1));
}

}  // namespace run_recorder
