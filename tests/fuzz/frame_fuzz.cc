// LineFramer on any bytes, cut anywhere, with a sink that stops it anywhere: the lines are those of a plain split,
// one that is too large is said once and skipped, and none is lost, doubled or changed. Where the pool is small a
// line may find no room, and only that.
#include "server/line_framer.h"

#include <string>
#include <vector>

#include "require.h"

namespace run_recorder {
namespace {

enum class Kind { kLine, kTooLarge, kNoRoom };

struct Seen {
  Kind kind;
  std::string text;
};

struct Sink {
  std::vector<Seen> seen;
  unsigned stops;  // each bit decides whether feed() goes on behind a line

  bool goes_on() {
    stops = stops >> 1 | (stops & 1) << 7;
    return (stops & 1) == 0;
  }
  bool line(std::string_view text) {
    seen.push_back({Kind::kLine, std::string(text)});
    return goes_on();
  }
  bool too_large() {
    seen.push_back({Kind::kTooLarge, {}});
    return goes_on();
  }
  bool no_room() {
    seen.push_back({Kind::kNoRoom, {}});
    return goes_on();
  }
};

std::vector<std::string_view> split(std::string_view bytes) {
  std::vector<std::string_view> lines;
  while (!bytes.empty()) {
    const std::size_t end = bytes.find('\n');
    lines.push_back(bytes.substr(0, end));
    bytes.remove_prefix(end == std::string_view::npos ? bytes.size() : end + 1);
  }
  return lines;
}

void run(std::string_view data) {
  if (data.size() < 5) return;
  const auto byte = [&data](std::size_t at) { return static_cast<unsigned char>(data[at]); };
  const std::size_t line_bytes = byte(0) * 8U + 1;
  const std::size_t partial_bytes = byte(1) * 2U + 1;
  const bool small_pool = (byte(2) & 1) != 0;
  unsigned random = byte(3) + 1;
  Sink sink{{}, byte(4)};
  const std::string_view bytes = data.substr(5);
  LinePool pool(small_pool ? byte(2) * 4U : std::size_t{1} << 20);
  {
    LineFramer framer(pool, partial_bytes);
    for (std::size_t at = 0; at < bytes.size();) {
      random = random * 1'103'515'245U + 12'345U;
      std::string_view piece = bytes.substr(at, (random >> 16) % 97 + 1);
      at += piece.size();
      while (!piece.empty()) {
        const std::size_t used = framer.feed(piece, line_bytes, sink);
        require(used <= piece.size(), "it uses what it was given");
        piece.remove_prefix(used);
      }
    }
    framer.end(sink);
    require(!framer.holds_share(), "nothing is held behind the end");
    const std::size_t seen = sink.seen.size();
    framer.end(sink);
    require(sink.seen.size() == seen, "the last line is given once");
  }
  require(pool.used() == 0, "every share is given back");
  const std::vector<std::string_view> lines = split(bytes);
  require(sink.seen.size() == lines.size(), "one answer for each line");
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const Seen& seen = sink.seen[i];
    if (seen.kind == Kind::kLine) require(seen.text == lines[i] && lines[i].size() <= line_bytes, "the line as sent");
    if (seen.kind == Kind::kTooLarge) require(lines[i].size() > line_bytes, "only what is too large is called so");
    if (seen.kind == Kind::kNoRoom) require(small_pool, "a large pool has room");
  }
}

}  // namespace
}  // namespace run_recorder

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  run_recorder::run({reinterpret_cast<const char*>(data), size});
  return 0;
}
