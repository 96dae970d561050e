// Which chains of runs go: judges rows and whole chains by the retention policy and one request, and groups those
// that go into transactions. Pure: the rows are parameters, and the store is its caller's. For one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "config/policies.h"
#include "store/store.h"

namespace run_recorder {

struct PruneRequest {
  bool dry_run = false;
  // Which runs; a chain goes only where all of its runs are such.
  std::vector<Status> statuses = {};
  std::optional<std::string> council = {};
  std::optional<std::string> council_glob = {};              // a pattern as in text_match.h
  std::optional<std::chrono::milliseconds> older_than = {};  // instead of the policy's times
  std::size_t limit = 0;                                     // examine so many rows; 0: all
  std::string cursor = {};                                   // where an earlier request ended
  std::string asked_by = {};                                 // who, for the log; empty: it is a regular pass
};
// Which runs go, as the configuration spells it: "older_than=90d status=completed,failed council=x", or the times of
// [retention].
std::string rule_in_words(const PruneRequest& request, const RetentionPolicy& policy);

struct PruneReport {
  bool dry_run = false;
  std::uint64_t examined = 0;
  std::uint64_t runs = 0;    // removed, or that would be
  std::uint64_t events = 0;  // of their history
  std::uint64_t kept = 0;    // their time is over, but a run of their chain stays, or a dead letter of theirs
  bool nothing_due = false;  // no run's time is ever over
  std::string next;          // a cursor; empty: at the end
  JsonText to_json() const;
};

class PrunePlan {
 public:
  static constexpr std::size_t kLongestChain = 10'000;  // one that is longer stays
  // One transaction removes at most so many, beyond its first chain.
  static constexpr std::size_t kRunsAtOnce = 250;
  static constexpr std::uint64_t kEventsAtOnce = 2'500;

  PrunePlan(const PruneRequest& request, const RetentionPolicy& policy);

  // Younger rows need not be read; empty: no run's time is ever over.
  std::optional<std::chrono::milliseconds> shortest() const;
  // True: its whole chain is needed, to be given to examine_chain() next.
  bool examine(const AgedRow& row);
  // chain: all of it, row among them, at most kLongestChain + 1 rows; empty: they are gone by now.
  void examine_chain(const AgedRow& row, std::vector<AgedRow> chain);

  // Chains to be removed in one transaction.
  struct Group {
    std::vector<std::vector<AgedRow>> chains;
    std::size_t runs = 0;
    std::uint64_t events = 0;
  };
  // The next full one, or with `last` whatever is left. Empty: none. A dry run has none.
  std::optional<Group> take_group(bool last);
  // What the store made of it: a chain that changed meanwhile stays.
  void removed(const Group& group, const Pruned& pruned);

  PruneReport& report() { return report_; }

 private:
  static constexpr std::size_t kVerdictsKept = 100'000;
  bool is_due(const AgedRow& row) const;
  void count(const AgedRow& row, bool goes);
  void add(std::vector<AgedRow> chain);

  const PruneRequest request_;
  const RetentionPolicy policy_;
  PruneReport report_;
  std::map<std::string, bool, std::less<>> judged_;  // runs of chains that were judged as a whole: do they go?
  std::deque<Group> groups_;                         // all but the last are full
};

}  // namespace run_recorder
