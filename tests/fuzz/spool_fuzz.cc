// SegmentReader on any file. The input is either the file itself, or a recipe: a sound segment to be made, and what
// is done to it. Whatever is in the file, reading ends, stays within it, and gives records with rising numbers; a
// sound segment is read completely; and where only bytes were changed, what is read is what was written.
#include <sys/mman.h>
#include <unistd.h>

#include <map>
#include <string>

#include "require.h"
#include "spool/format.h"
#include "spool/segment_reader.h"

namespace run_recorder {
namespace {

using namespace spool_format;

constexpr Id kIncarnation = {'i', 'n', 'c', 'a', 'r', 'n', 'a', 't', 'i', 'o', 'n'};
constexpr std::uint64_t kFirstSeq = 0xfffffff0;  // the lower halves of the numbers begin anew soon

class Input {
 public:
  explicit Input(std::string_view bytes) : bytes_(bytes) {}
  bool empty() const { return bytes_.empty(); }
  unsigned take() {
    if (bytes_.empty()) return 0;
    const auto byte = static_cast<unsigned char>(bytes_.front());
    bytes_.remove_prefix(1);
    return byte;
  }
  std::string_view rest() const { return bytes_; }

 private:
  std::string_view bytes_;
};

struct Made {
  std::string bytes;
  std::map<std::uint64_t, std::string> bodies;
};

Made make_segment(Input& input) {
  Made made;
  append_segment_header(made.bytes, {kVersion, {}, kIncarnation, kFirstSeq});
  std::uint64_t seq = kFirstSeq;
  for (unsigned groups = input.take() % 5; groups > 0; --groups) {
    std::string records;
    const std::uint64_t first = seq;
    for (unsigned count = input.take() % 6; count > 0; --count) {
      std::string body(input.take(), static_cast<char>(input.take()));
      append_record(records, record_salt(kIncarnation), seq, body);
      made.bodies[seq++] = std::move(body);
    }
    append_group_header(made.bytes, {kIncarnation, first, static_cast<std::uint32_t>(records.size()),
                                     static_cast<std::uint32_t>(seq - first)});
    made.bytes += records;
  }
  return made;
}

// False where nothing was changed.
bool spoil(std::string& bytes, Input& input) {
  const std::string before = bytes;
  while (!input.empty()) {
    const unsigned what = input.take() % 4;
    const std::size_t at = (input.take() << 8 | input.take()) % bytes.size();
    const std::size_t size = std::min<std::size_t>(input.take() + 1, bytes.size() - at);
    if (what == 0) bytes[at] = static_cast<char>(bytes[at] ^ static_cast<char>(size));
    if (what == 1) bytes.replace(at, size, size, '\0');
    if (what == 2) bytes.resize(std::max<std::size_t>(at, 1));
    if (what == 3) bytes.append(size, '\0');
  }
  return bytes != before;
}

std::map<std::uint64_t, std::string> read_all(std::string_view bytes, bool knows_incarnation) {
  UniqueFd file(memfd_create("segment", MFD_CLOEXEC));
  require(write_all(file.get(), bytes).has_value(), "a file in memory can be written");
  SegmentReader::Extent extent{kFirstSeq, UINT64_MAX, bytes.size(), std::nullopt};
  if (knows_incarnation) extent.incarnation = kIncarnation;
  SegmentReader reader(std::move(file), extent);
  std::map<std::uint64_t, std::string> found;
  std::uint64_t offset = reader.offset();
  std::uint64_t expected = kFirstSeq;
  for (std::size_t steps = 0;; ++steps) {
    require(steps <= 2 * bytes.size() + 2, "reading ends");
    const Result<SegmentReader::Step> step = reader.next();
    require(step.has_value(), "a file in memory can be read");
    require(reader.offset() >= offset && reader.expected() >= expected, "it never goes back");
    if (*step == SegmentReader::Step::kEnd) return found;
    if (*step == SegmentReader::Step::kRecord) {
      require(reader.seq() >= expected && reader.expected() == reader.seq() + 1, "numbers rise");
      found[reader.seq()] = std::string(reader.body());
    } else {
      const DamagedRange& damage = reader.damage();
      require(damage.from >= offset && damage.from <= damage.to && damage.to <= bytes.size(),
              "damage is in the file");
      require(damage.to_end || damage.first_lost + damage.lost == reader.expected(), "what is lost is counted");
    }
    offset = reader.offset();
    expected = reader.expected();
  }
}

void run(std::string_view data) {
  Input input(data);
  const unsigned mode = input.take();
  const bool knows_incarnation = (mode & 2) != 0;
  if ((mode & 1) != 0) {
    read_all(input.rest(), knows_incarnation);
    return;
  }
  Made made = make_segment(input);
  const bool spoilt = spoil(made.bytes, input);
  const std::map<std::uint64_t, std::string> found = read_all(made.bytes, knows_incarnation);
  if (!spoilt) require(found == made.bodies, "a sound segment is read completely");
  for (const auto& [seq, body] : found) {
    const auto written = made.bodies.find(seq);
    require(written != made.bodies.end() && written->second == body, "what is read was written");
  }
}

}  // namespace
}  // namespace run_recorder

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  run_recorder::run({reinterpret_cast<const char*>(data), size});
  return 0;
}
