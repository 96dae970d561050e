#include "run/usage.h"

#include <algorithm>
#include <boost/multiprecision/cpp_dec_float.hpp>
#include <string>
#include <vector>

namespace run_recorder {
namespace {

using Decimal = boost::multiprecision::cpp_dec_float_50;

struct Sum {
  std::string key;    // decoded
  std::string value;  // JSON
  bool is_number = true;
};

std::vector<Sum> sums_of(const std::optional<JsonText>& text) {
  std::vector<Sum> sums;
  if (!text || json_type(*text) != JsonType::kObject) return sums;
  for (JsonMember& member : json_members(*text)) {
    sums.push_back({std::move(member.key), std::string(member.value), member.type == JsonType::kNumber});
  }
  return sums;
}

// Empty: their sum is no finite double.
std::string sum_of(const std::string& a, const std::string& b) {
  const Decimal sum = Decimal(a) + Decimal(b);
  std::string text = sum.str(0, std::ios_base::fmtflags{});
  if (scan_json(text, 1).problem != JsonProblem::kNone) text.clear();
  return text;
}

std::size_t size_of(const Sum& sum) {
  return json_string(sum.key).size() + sum.value.size() + 2;  // a colon, and a comma or a bracket
}

JsonText text_of(const std::vector<Sum>& sums) {
  JsonText text = "{";
  for (const Sum& sum : sums) {
    if (text.size() > 1) text += ',';
    append_json_string(text, sum.key);
    text += ':';
    text += sum.value;
  }
  return text += '}';
}

}  // namespace

bool add_usage(std::optional<JsonText>& sums, const JsonText& said) {
  std::vector<Sum> totals = sums_of(sums);
  std::size_t bytes = 1;
  for (const Sum& total : totals) bytes += size_of(total);
  bool changed = false;
  for (const JsonMember& member : json_members(said)) {
    const auto found = std::ranges::find(totals, member.key, &Sum::key);
    const bool is_new = found == totals.end();
    if (!is_new && !found->is_number) continue;
    Sum total{member.key, sum_of(is_new ? "0" : found->value, std::string(member.value))};
    const std::size_t rest = bytes - (is_new ? 0 : size_of(*found));
    if (total.value.empty() || rest + size_of(total) > kMaxUsageBytes) continue;
    bytes = rest + size_of(total);
    changed = changed || is_new || found->value != total.value;
    if (is_new) {
      totals.push_back(std::move(total));
    } else {
      *found = std::move(total);
    }
  }
  if (changed) sums = text_of(totals);
  return changed;
}

}  // namespace run_recorder
