#include "store/finding.h"

namespace run_recorder {

std::string_view to_string(FindingKind kind) {
  switch (kind) {
    case FindingKind::kMissed:
      return "missed";
    case FindingKind::kOverlong:
      return "overlong";
  }
  return "missed";
}

std::optional<FindingKind> finding_kind_from(std::string_view text) {
  for (const FindingKind kind : {FindingKind::kMissed, FindingKind::kOverlong}) {
    if (text == to_string(kind)) return kind;
  }
  return std::nullopt;
}

}  // namespace run_recorder
