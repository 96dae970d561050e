#include "store/chain.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>

#include "store/paging.h"

namespace run_recorder {

namespace {

using Rank = std::tuple<std::int32_t, Timestamp, std::string_view, std::size_t>;  // ends with the row's index

Rank rank_of(const Run& row, std::size_t index) {
  return {row.attempt, row.started_at.value_or(Timestamp::max()), row.run_id, index};
}

}  // namespace

void sort_chain(std::vector<Run>& rows) {
  std::map<std::string_view, std::size_t> index_of;
  for (std::size_t i = 0; i < rows.size(); ++i) index_of.emplace(rows[i].run_id, i);
  std::multimap<std::size_t, std::size_t> children;  // parent's index -> child's
  std::set<Rank> ready;
  std::set<Rank> waiting;  // for their parent
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto& parent = rows[i].parent_attempt_run_id;
    const auto found = parent ? index_of.find(*parent) : index_of.end();
    if (found == index_of.end()) {
      ready.insert(rank_of(rows[i], i));
    } else {
      children.emplace(found->second, i);
      waiting.insert(rank_of(rows[i], i));
    }
  }
  std::vector<std::size_t> order;
  while (!ready.empty() || !waiting.empty()) {
    auto& from = ready.empty() ? waiting : ready;  // only a loop is left where nothing is ready
    const std::size_t next = std::get<std::size_t>(*from.begin());
    from.erase(from.begin());
    order.push_back(next);
    for (auto [child, last] = children.equal_range(next); child != last; ++child) {
      const Rank rank = rank_of(rows[child->second], child->second);
      if (waiting.erase(rank) > 0) ready.insert(rank);
    }
  }
  std::vector<Run> sorted;
  sorted.reserve(rows.size());
  for (const std::size_t index : order) sorted.push_back(std::move(rows[index]));
  rows = std::move(sorted);
}

Result<std::size_t> place_in_chain(std::span<const Run> sorted, std::string_view cursor) {
  if (cursor.empty()) return std::size_t{0};
  const auto last = decode_cursor(cursor);
  const auto place = last ? decode_number_cursor(last->time) : std::nullopt;
  if (!place) {
    return invalid_cursor(cursor);
  }
  const auto found = std::ranges::find(sorted, last->id, &Run::run_id);
  if (found != sorted.end()) return static_cast<std::size_t>(found - sorted.begin()) + 1;
  return std::min(static_cast<std::size_t>(*place), sorted.size());
}

std::string chain_cursor(std::span<const Run> sorted, std::size_t last) {
  return encode_cursor({fmt::format("{:04}", last), sorted[last].run_id});
}

}  // namespace run_recorder
