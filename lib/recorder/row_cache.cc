#include "recorder/row_cache.h"

namespace run_recorder {
namespace {

constexpr std::size_t kLargestRowBytes = 8'192;  // an application may have written what no event could hold

std::size_t size_of(const Run& run) {
  const auto bytes = [](const auto& text) { return text ? text->size() : std::size_t{0}; };
  return 2 * sizeof(Run) + run.run_id.size() + run.council.size() + bytes(run.parent_attempt_run_id) +
         bytes(run.oban_job_state_at_finalize) + run.worker_process.size() + run.sender_process.size() +
         run.connection.size() + run.stuck_pass.size();
}

}  // namespace

const Run* RowCache::find(std::string_view run_id) const {
  const auto found = index_.find(run_id);
  return found == index_.end() ? nullptr : &found->second->run;
}

void RowCache::put(const Run& run) {
  if (run.bare) return open_.put(run);
  erase_whole(run.run_id);
  const std::size_t bytes = size_of(run);
  if (bytes > kLargestRowBytes) return open_.erase(run.run_id);
  entries_.push_back(Entry{run, bytes});
  Run& kept = entries_.back().run;
  for (JsonColumn* json : {&kept.input, &kept.result, &kept.error}) json->unload();
  index_.emplace(kept.run_id, std::prev(entries_.end()));
  bytes_ += bytes;
  while (bytes_ > max_bytes_) outdate(entries_.front().run.run_id);
}

void RowCache::outdate(std::string_view run_id) {
  const auto found = index_.find(run_id);
  if (found == index_.end()) return;
  open_.put(found->second->run);
  erase_whole(run_id);
}

void RowCache::erase(std::string_view run_id) {
  erase_whole(run_id);
  open_.erase(run_id);
}

void RowCache::erase_whole(std::string_view run_id) {
  const auto found = index_.find(run_id);
  if (found == index_.end()) return;
  const auto entry = found->second;
  index_.erase(found);
  bytes_ -= entry->bytes;
  entries_.erase(entry);
}

void RowCache::clear() {
  index_.clear();
  entries_.clear();
  bytes_ = 0;
  open_.clear();
}

}  // namespace run_recorder
