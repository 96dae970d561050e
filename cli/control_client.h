// The daemon's control socket as the tool uses it: one HTTP request, one JSON answer. Blocking; one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_text.h"
#include "base/result.h"

namespace run_recorder {

struct ControlAnswer {
  JsonText body;              // valid JSON
  std::uint64_t pending = 0;  // events acknowledged but not applied when it was made
};

// The daemon itself gives up on its database much sooner.
inline constexpr std::chrono::seconds kAnswerPatience{60};
// An answer that takes longer may be worth waiting for: then the daemon is asked whether it lives, which it answers
// at once whatever its database does, and is given up where it does not within the other time.
inline constexpr std::chrono::seconds kSoonAnswered{2};
inline constexpr std::chrono::seconds kProofOfLife{5};
// After which it is asked again.
inline constexpr std::chrono::seconds kBetweenProofs{10};
// For a question whose answer can be done without.
inline constexpr std::chrono::seconds kShortPatience{2};

class ControlClient {
 public:
  // patience: for each step of a request that changes nothing.
  explicit ControlClient(std::string path, std::chrono::seconds patience = kAnswerPatience)
      : path_(std::move(path)), patience_(patience) {}

  // target begins with a slash. An answer that is no success is an error with the daemon's own words: kUnavailable
  // (the daemon or its database is away), kNotFound, kConflict, kInvalid, kDenied.
  Result<ControlAnswer> get(std::string_view target) const;
  // Waits for as long as the daemon takes, and lives.
  Result<ControlAnswer> post(std::string_view target, JsonText body) const;
  Result<ControlAnswer> remove(std::string_view target) const;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::chrono::seconds patience_;
};

// A target with its query, put together: Target("/v1/runs").add("status", "running").str().
class Target {
 public:
  explicit Target(std::string path) : text_(std::move(path)) {}
  Target& add(std::string_view key, std::string_view value);
  const std::string& str() const { return text_; }

 private:
  std::string text_;
  bool query_ = false;
};

// What became of a list that was fetched page by page.
struct Listed {
  std::uint64_t items = 0;
  bool more = false;          // limit was reached, and there is more
  bool truncated = false;     // the daemon says that it looked at a part only
  std::uint64_t pending = 0;  // as of the first page
  std::string cut_at;         // it was given up, and no item older than this RFC 3339 time was looked at
};
// How long a list may be looked for: the daemon answers pages without an item where it has looked at many in vain.
struct PagePatience {
  std::chrono::milliseconds at_most = std::chrono::hours{24 * 365};
  bool shows_progress = false;  // on standard error, on a terminal; and the caller has an Interrupt
};
// Fetches {"<name>":[…],"next":…} pages and gives each page's items to `take`, until `limit` items or the end.
Result<Listed> list_pages(const ControlClient& client, const Target& target, std::string_view name,
                          std::uint64_t limit, const std::function<void(const std::vector<std::string_view>&)>& take,
                          const PagePatience& patience = {});

}  // namespace run_recorder
