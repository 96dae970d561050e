#include "cli/whole_id.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "cli/json_object.h"

namespace run_recorder {
namespace {

constexpr std::size_t kNamed = 5;
constexpr std::string_view kCut = "…";  // as tables end what they cut
constexpr std::size_t kPassIdBytes = 36;

}  // namespace

Result<std::string> whole_id(const ControlClient& client, Ids ids, const std::string& beginning) {
  const bool runs = ids == Ids::kRuns;
  std::string_view prefix = beginning;
  if (prefix.ends_with(kCut)) prefix.remove_suffix(kCut.size());
  const Error none{ErrorKind::kNotFound,
                   fmt::format("there is no {} whose id begins with {}", runs ? "run" : "pass", beginning)};
  if (prefix.empty()) return none;
  Target target(runs ? "/v1/runs" : "/v1/reconciliations");
  target.add("id_prefix", prefix).add("limit", std::to_string(kNamed + 1));
  const Result<ControlAnswer> answer = client.get(target.str());
  if (!answer) return answer.error();
  const JsonObject page(answer->body);
  std::vector<std::string> found;
  for (const std::string_view item : page.elements(runs ? "runs" : "reconciliations")) {
    found.push_back(JsonObject(item).text(runs ? "run_id" : "pass_id"));
  }
  // The report of a pass may be gone, what it marked may not.
  if (found.empty() && !runs && beginning.size() == kPassIdBytes) return beginning;
  if (found.empty()) return none;
  if (found.size() == 1 || std::ranges::count(found, beginning) > 0) {
    return found.size() == 1 ? found.front() : beginning;
  }
  const bool more = found.size() > kNamed || !page.text("next").empty();
  found.resize(std::min(found.size(), kNamed));
  return Error{ErrorKind::kConflict,
               fmt::format("{} is the beginning of several {}; write more of one: {}{}", beginning,
                           runs ? "runs" : "passes", fmt::join(found, ", "), more ? " …" : "")};
}

}  // namespace run_recorder
