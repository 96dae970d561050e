#include "recorder/batch_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "protocol/protocol.h"

namespace run_recorder {
namespace {

constexpr std::size_t kUnreadableAtOnce = 1'000;
constexpr std::size_t kReadBehind = 32;
constexpr std::size_t kReadBehindBytes = 1 << 20;

// Dead letters for the records from `from` to `to`, or the first of them.
void set_unreadable(Batch& batch, std::uint64_t from, std::uint64_t to, const std::string& recorder,
                    std::string_view why) {
  batch.to = std::min<std::uint64_t>(to, from + kUnreadableAtOnce - 1);
  for (std::uint64_t seq = from; seq <= batch.to; ++seq) {
    DeadLetter letter;
    letter.recorder = recorder;
    letter.reason = fmt::format("event {} of this recorder cannot be read: {}", seq, why);
    batch.unreadable.push_back(std::move(letter));
  }
}

}  // namespace

BatchReader::BatchReader(Spool& spool, std::size_t fresh_bytes, std::size_t batch_bytes)
    : spool_(spool),
      fresh_(fresh_bytes),
      batch_bytes_(batch_bytes),
      unreadable_(LogLevel::kError, "the spool cannot be read, nothing is applied", "the spool can be read again") {}

Batch BatchReader::read(const SpoolProgress::Part& part, std::size_t max_events, const std::string& recorder) {
  Batch batch;
  batch.range = part.range;
  batch.from = batch.to = part.from;
  if (part.last <= part.from) return batch;
  max_events = std::min<std::uint64_t>(max_events, part.last - part.from);
  batch.events = fresh_.take(part.from + 1, max_events, batch_bytes_, spare_.take());
  if (batch.events.empty()) read_stored(part, max_events, recorder, batch);
  if (!batch.events.empty()) batch.to = batch.events.back().seq;
  assert(batch.events.size() + batch.unreadable.size() == batch.to - batch.from);
  return batch;
}

void BatchReader::read_stored(const SpoolProgress::Part& part, std::size_t max_events, const std::string& recorder,
                              Batch& batch) {
  const std::uint64_t seq = part.from + 1;
  auto read = read_records(seq, max_events, batch_bytes_);
  if (!read) {
    unreadable_.report(read.error().message);
    return;
  }
  unreadable_.clear();
  std::vector<SpoolRecord>& records = read.value();
  const std::uint64_t found = records.empty() ? part.last + 1 : records.front().seq;
  if (found > seq) {
    std::string why = "its bytes in the spool were damaged";
    if (!last_damage_.empty()) why += ": " + last_damage_;
    return set_unreadable(batch, seq, std::min(found - 1, part.last), recorder, why);
  }
  batch.events.reserve(records.size());
  for (SpoolRecord& record : records) {
    if (record.seq != seq + batch.events.size()) break;
    auto event = decode_record(record.body);
    if (!event) {
      if (!batch.events.empty()) break;
      set_unreadable(batch, record.seq, record.seq, recorder, event.error().message);
      batch.unreadable.front().record = std::move(record.body);
      return;
    }
    batch.events.push_back(SpooledEvent{record.seq, std::move(event.value()), record.body.size()});
    std::string().swap(record.body);  // large ones are not there twice
  }
}

Result<std::vector<SpoolRecord>> BatchReader::read_records(std::uint64_t seq, std::size_t max_records,
                                                           std::size_t max_bytes) {
  std::vector<std::string> damage;
  auto records = spool_.read(seq, max_records, max_bytes, damage);
  for (const std::string& sentence : damage) {
    log_error("the spool is damaged", {{"WHAT", sentence}});
    last_damage_ = sentence;
  }
  return records;
}

std::vector<SpooledEvent> BatchReader::read_behind(std::uint64_t seq) {
  std::vector<SpooledEvent> events;
  auto records = read_records(seq + 1, kReadBehind, kReadBehindBytes);
  if (!records) return events;
  for (SpoolRecord& record : records.value()) {
    auto event = decode_record(record.body);
    if (event) events.push_back({record.seq, std::move(event.value()), record.body.size()});
  }
  return events;
}

std::string BatchReader::record_of(const SpooledEvent& event) {
  auto records = read_records(event.seq, 1, event.bytes);
  if (!records || records.value().empty() || records.value().front().seq != event.seq) return {};
  return std::move(records.value().front().body);
}

}  // namespace run_recorder
