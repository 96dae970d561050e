// scan_json against nlohmann_json, and the readers of valid text against each other.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json_text.h"
#include "require.h"

namespace run_recorder {
namespace {

constexpr std::size_t kDepth = 8;

void check_readers(std::string_view text, const JsonScan& scan) {
  const std::string canonical = canonical_json(text);
  require(canonical_json(canonical) == canonical, "the canonical form is its own");
  require(json_equal(text, canonical), "a value equals its canonical form");
  require(json_type(text) == scan.type, "both know the type");
  if (scan.type == JsonType::kObject) {
    const auto members = json_members(text);
    require(std::equal(members.begin(), members.end(), scan.members.begin(), scan.members.end(),
                       [](const JsonMember& a, const JsonMember& b) {
                         return a.key == b.key && a.type == b.type && a.value == b.value;
                       }),
            "both find the same members");
    for (const JsonMember& member : members) {
      require(scan_json(member.value, kDepth).problem == JsonProblem::kNone, "a member's value is valid");
    }
  }
  if (scan.type == JsonType::kArray) {
    for (const std::string_view element : json_elements(text)) {
      require(scan_json(element, kDepth).problem == JsonProblem::kNone, "an element is valid");
    }
  }
}

// nlohmann_json reads a NUL byte as the end and skips a byte order mark.
bool comparable(std::string_view text) {
  return text.find('\0') == std::string_view::npos && !text.starts_with("\xEF\xBB\xBF");
}

void run(std::string_view text) {
  const JsonScan scan = scan_json(text, kDepth);
  require((scan.problem == JsonProblem::kNone) == scan.message.empty(), "a problem has a message");
  require(scan.message.size() < 512, "a message is short");
  if (scan.problem == JsonProblem::kMalformed) return;
  if (scan.problem == JsonProblem::kTooDeep) return;
  if (comparable(text)) {
    const nlohmann::json parsed = nlohmann::json::parse(text, nullptr, false);
    const bool has_number = text.find_first_of("0123456789") != std::string_view::npos;
    require(has_number || !parsed.is_discarded(), "what is valid here is valid elsewhere");
  }
  if (scan.problem == JsonProblem::kNone) check_readers(text, scan);
}

}  // namespace
}  // namespace run_recorder

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  run_recorder::run({reinterpret_cast<const char*>(data), size});
  return 0;
}
