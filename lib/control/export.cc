// The way out: see move.h.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "base/json_writer.h"
#include "control/move.h"
#include "control/request.h"
#include "control/row_json.h"
#include "store/paging.h"

namespace run_recorder {
namespace {

constexpr std::size_t kBytesAtOnce = 1 << 20;  // of a page; its last line may be longer
constexpr std::size_t kSlimRunBytes = 512 << 10;
constexpr std::size_t kRunsAtOnce = 50;
constexpr std::size_t kEventsAtOnce = 1'000;
constexpr std::size_t kPrunedAtOnce = 1'000;
constexpr std::size_t kRowsAtOnce = 20;

// A cursor is the section's name and the place in it. They come in this order.
enum class Section { kHead, kRecorders, kPruned, kPasses, kLetters, kRuns, kHistory, kEnd };
constexpr std::string_view kNames[] = {"head", "recorders", "pruned", "passes", "letters", "runs", "history", "end"};

struct Place {
  Section section = Section::kHead;
  std::string rest;
};

Result<Place> parse_place(std::string_view cursor) {
  if (cursor.empty()) return Place();
  const std::size_t dot = cursor.find('.');
  for (std::size_t i = 0; i < std::size(kNames); ++i) {
    if (dot != std::string_view::npos && cursor.substr(0, dot) == kNames[i]) {
      return Place{static_cast<Section>(i), std::string(cursor.substr(dot + 1))};
    }
  }
  return invalid_cursor(cursor);
}

// Inside of a run's history: its entries up to last_seq come behind this one, then the runs behind the place.
struct HistoryPlace {
  std::int64_t seq = 0;
  std::int64_t last_seq = 0;
  std::string run_id;
  std::string run_place;
  std::string text() const { return fmt::format("{}.{}.{}.{}", seq, last_seq, encode_id_cursor(run_id), run_place); }
};

std::optional<HistoryPlace> parse_history(std::string_view text) {
  const std::vector<std::string_view> parts = split(text, '.');
  if (parts.size() != 4) return std::nullopt;
  const auto seq = decode_number_cursor(parts[0]);
  const auto last_seq = decode_number_cursor(parts[1]);
  auto run_id = decode_id_cursor(parts[2]);
  if (!seq || !last_seq || !run_id) return std::nullopt;
  return HistoryPlace{*seq, *last_seq, std::move(*run_id), std::string(parts[3])};
}

class Exporter {
 public:
  Exporter(Store& store, std::size_t limit, Place place, std::optional<std::uint64_t> runs_about)
      : store_(store), limit_(limit), runs_about_(runs_about), place_(std::move(place)) {}

  Result<JsonText> page() {
    while (!done_ && taken_ < limit_ && bytes_ < kBytesAtOnce) {
      if (const auto stepped = step(); !stepped) return stepped.error();
    }
    if (done_) return list_.close({});
    return list_.close(fmt::format("{}.{}", kNames[static_cast<std::size_t>(place_.section)], place_.rest));
  }

 private:
  Result<void> step() {
    switch (place_.section) {
      case Section::kHead:
        add(head());
        go_to(Section::kRecorders);
        return {};
      case Section::kRecorders:
        return recorders();
      case Section::kPruned:
        return pruned();
      case Section::kPasses:
        return passes();
      case Section::kLetters:
        return letters();
      case Section::kRuns:
        return runs();
      case Section::kHistory:
        return history();
      case Section::kEnd:
        add(R"({"end":true})");
        done_ = true;
        return {};
    }
    return {};
  }

  JsonText head() const {
    JsonWriter out;
    out.number("format", kExportFormat);
    out.text("version", RR_VERSION);
    out.number("runs_about", runs_about_);
    return "{\"export\":" + std::move(out).object() + "}";
  }

  void add(const JsonText& line) {
    list_.add(line);
    bytes_ += line.size();
    ++taken_;
  }
  void go_to(Section section, std::string rest = {}) { place_ = {section, std::move(rest)}; }
  // Where a section's page has no next the next section begins.
  void go_on(Section next_section, std::string next) {
    next.empty() ? go_to(next_section) : go_to(place_.section, std::move(next));
  }
  std::size_t rows() const { return std::min(kRowsAtOnce, limit_ - taken_); }

  Result<void> recorders() {
    const std::size_t wanted = rows();
    const auto some = store_.list_recorders(place_.rest, wanted);
    if (!some) return some.error();
    for (const RecorderRow& row : *some) add("{\"recorder\":" + recorder_json(row) + "}");
    go_on(Section::kPruned, some->size() < wanted ? "" : some->back().self.id);
    return {};
  }

  Result<void> pruned() {
    const auto page = store_.list_pruned(kPrunedAtOnce, place_.rest);
    if (!page) return page.error();
    if (!page->runs.empty()) add("{\"pruned\":" + json_array(page->runs, pruned_json) + "}");
    go_on(Section::kPasses, page->next);
    return {};
  }

  Result<void> passes() {
    const auto page = store_.list_reconciliations(rows(), place_.rest, "");
    if (!page) return page.error();
    for (const ReconciliationRow& row : page->passes) add("{\"reconciliation\":" + reconciliation_json(row) + "}");
    go_on(Section::kLetters, page->next);
    return {};
  }

  Result<void> letters() {
    const auto page = store_.list_dead_letters(rows(), place_.rest);
    if (!page) return page.error();
    for (const DeadLetter& letter : page->dead_letters) add("{\"dead_letter\":" + moved_letter_json(letter) + "}");
    go_on(Section::kRuns, page->next);
    return {};
  }

  Result<void> runs() {
    const auto page = store_.whole_runs(std::min(kRunsAtOnce, limit_ - taken_), place_.rest);
    if (!page) return page.error();
    for (const WholeRun& whole : page->runs) {
      if (bytes_ >= kBytesAtOnce) return {};
      if (const auto begun = begin_run(whole); !begun) return begun.error();
      if (place_.section == Section::kHistory) return {};
    }
    go_on(Section::kEnd, page->next);
    return {};
  }

  // The whole of it in one line, or its first part.
  Result<void> begin_run(const WholeRun& whole) {
    const Run& run = whole.run;
    JsonText row = run_json(run, true);
    HistoryPlace at{0, run.last_seq, run.run_id, whole.place};
    auto part = EventPart();
    if (row.size() < kSlimRunBytes && run.last_seq > 0) {
      auto read = next_part(at);
      if (!read) return read.error();
      part = std::move(*read);
      if (part.gone) return go_to(Section::kRuns, whole.place), Result<void>();
    }
    const bool more = at.seq < run.last_seq;
    add("{\"run\":" + row + ",\"events\":[" + part.events + (more ? "],\"more\":true}" : "]}"));
    more ? go_to(Section::kHistory, at.text()) : go_to(Section::kRuns, whole.place);
    return {};
  }

  Result<void> history() {
    auto at = parse_history(place_.rest);
    if (!at) return invalid_cursor(place_.rest);
    const auto part = next_part(*at);
    if (!part) return part.error();
    const std::string id = json_string(at->run_id);
    if (part->gone) {
      add("{\"run_id\":" + id + ",\"withdrawn\":true}");
    } else {
      const bool more = at->seq < at->last_seq;
      add("{\"run_id\":" + id + ",\"events\":[" + part->events + (more ? "],\"more\":true}" : "]}"));
      if (more) return go_to(Section::kHistory, at->text()), Result<void>();
    }
    go_to(Section::kRuns, at->run_place);
    return {};
  }

  struct EventPart {
    std::string events;
    bool gone = false;  // the run was removed meanwhile
  };
  // Moves `at` on. What was appended to the history since the row was read is left out.
  Result<EventPart> next_part(HistoryPlace& at) {
    const auto page = store_.list_events(at.run_id, kEventsAtOnce, std::to_string(at.seq));
    if (!page) return page.error();
    EventPart part;
    for (const StoredEvent& event : page->events) {
      if (event.entry.seq > at.last_seq) break;
      if (!part.events.empty()) part.events += ',';
      part.events += event_json(event);
      at.seq = event.entry.seq;
    }
    if (at.seq >= at.last_seq || !page->next.empty()) return part;
    const auto run = store_.find_run(at.run_id);
    if (!run) return run.error();
    part.gone = !run->has_value();
    at.seq = at.last_seq;  // a table that was taken over may lack entries
    return part;
  }

  Store& store_;
  const std::size_t limit_;
  const std::optional<std::uint64_t> runs_about_;
  Place place_;
  JsonList list_{"lines"};
  std::size_t taken_ = 0;
  std::size_t bytes_ = 0;
  bool done_ = false;
};

}  // namespace

Result<JsonText> export_page(Store& store, std::size_t limit, std::string_view cursor,
                             std::optional<std::uint64_t> runs_about) {
  auto place = parse_place(cursor);
  if (!place) return place.error();
  return Exporter(store, limit, std::move(*place), runs_about).page();
}

}  // namespace run_recorder
