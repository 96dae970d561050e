// Rows and events as the JSON objects of the control API: the columns' names, JSON columns as they are stored. Pure.
#pragma once

#include <string>
#include <string_view>

#include "base/json_text.h"
#include "store/store.h"

namespace run_recorder {

// with_payloads: input and result too.
JsonText run_json(const Run& run, bool with_payloads);
JsonText event_json(const StoredEvent& event);
JsonText dead_letter_json(const DeadLetter& letter);
JsonText reconciliation_json(const ReconciliationRow& row);
JsonText recorder_json(const RecorderRow& row);
JsonText pruned_json(const PrunedRun& run);
// With all that another database needs of it: also the record, its bytes as hexadecimal digits.
JsonText moved_letter_json(const DeadLetter& letter);

// {"<name>":[items],"next":CURSOR or null}
class JsonList {
 public:
  explicit JsonList(std::string_view name);
  void add(const JsonText& item);
  JsonText close(std::string_view next);

 private:
  std::string text_;
  bool empty_ = true;
};

}  // namespace run_recorder
