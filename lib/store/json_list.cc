#include "store/json_list.h"

#include "base/json_text.h"

namespace run_recorder {

std::string json_list(std::span<const std::string> texts) {
  std::string list = "[";
  for (const std::string& text : texts) {
    if (list.size() > 1) list += ',';
    append_json_string(list, text);
  }
  return list + ']';
}

}  // namespace run_recorder
