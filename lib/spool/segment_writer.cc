#include "spool/segment_writer.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>

#include "spool/folder.h"

namespace run_recorder {
namespace {

using namespace spool_format;

constexpr std::size_t kChunkBytes = std::size_t{1024} * 1024;
// From here on a group carries the cost of new blocks by itself, and writing them twice would cost more.
constexpr std::size_t kSmallGroupBytes = std::size_t{64} * 1024;
constexpr std::size_t kZeroBytes = std::size_t{64} * 1024;
constexpr std::size_t kMaxZeroParts = 32;
const std::array<char, kZeroBytes> kZeros{};

Result<void> write_new_segment(int fd, const SegmentHeader& header, SegmentWriter::Sync sync) {
  std::string bytes;
  append_segment_header(bytes, header);
  const Result<void> written = write_all(fd, bytes);
  if (!written) return written;
  if (sync(fd) != 0) return system_error_of("sync a new segment of the spool");
  return {};
}

std::uint64_t group_bytes(std::span<const std::string_view> bodies) {
  std::uint64_t bytes = kGroupHeaderBytes;
  for (const std::string_view body : bodies) bytes += kRecordHeaderBytes + body.size();
  return bytes;
}

}  // namespace

SegmentWriter::SegmentWriter(UniqueFd file, const SegmentHeader& header, Sync sync)
    : file_(std::move(file)), incarnation_(header.incarnation), salt_(record_salt(header.incarnation)), sync_(sync) {}

Result<std::unique_ptr<SegmentWriter>> SegmentWriter::create(const std::filesystem::path& folder,
                                                             const SegmentHeader& header, Sync sync) {
  const std::filesystem::path temporary = folder / spool_folder::kNewSegment;
  const std::filesystem::path path = folder / segment_name(header.first_seq);
  // Before the file has its name: where no descriptor were left to sync that with, it would stay behind.
  const Result<UniqueFd> names = open_file(folder, O_RDONLY | O_DIRECTORY);
  if (!names) return names.error();
  Result<UniqueFd> file = open_file(temporary, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW);
  if (!file) return file.error();
  Result<void> done = write_new_segment(file->get(), header, sync);
  if (done && rename(temporary.c_str(), path.c_str()) != 0) done = system_error_of("rename " + temporary.string());
  const bool named = static_cast<bool>(done);
  if (done && fsync(names->get()) != 0) done = system_error_of("fsync " + folder.string());
  if (!done) {
    // A segment that is not used must not be found: the one before it goes on with the numbers its name claims.
    unlink((named ? path : temporary).c_str());
    return done.error();
  }
  return std::unique_ptr<SegmentWriter>(new SegmentWriter(std::move(*file), header, sync));
}

Result<void> SegmentWriter::append(std::uint64_t first_seq, std::span<const std::string_view> bodies,
                                   std::uint64_t zeros_ahead) {
  assert(!failed_ && !bodies.empty());
  Result<void> written = write_group(first_seq, bodies, zeros_ahead);
  if (!written) {
    roll_back();
    if (written.error().kind != ErrorKind::kFull) written = Error{ErrorKind::kIo, written.error().message};
    return written;
  }
  if (sync_(file_.get()) != 0) {
    // The kernel drops the dirty state of pages it could not write: a second try would succeed without having written
    // them.
    const Error error{ErrorKind::kIo, system_error_of("sync the spool").message};
    roll_back();
    failed_ = true;
    return error;
  }
  assert(written_ == end_ + group_bytes(bodies) && written_ <= zeroed_);
  end_ = written_;
  return {};
}

Result<void> SegmentWriter::write_group(std::uint64_t first_seq, std::span<const std::string_view> bodies,
                                        std::uint64_t zeros_ahead) {
  const std::uint64_t total = group_bytes(bodies) - kGroupHeaderBytes;
  if (total > UINT32_MAX) return Error{ErrorKind::kIo, "more than 4 GiB at once cannot be written to the spool"};
  written_ = end_;
  buffer_.clear();
  append_group_header(buffer_, {incarnation_, first_seq, static_cast<std::uint32_t>(total),
                                static_cast<std::uint32_t>(bodies.size())});
  for (const std::string_view body : bodies) {
    append_record(buffer_, salt_, first_seq++, body);
    if (buffer_.size() < kChunkBytes) continue;
    const Result<void> done = write_buffer(0);
    if (!done) return done;
  }
  const bool new_ground = written_ + buffer_.size() > zeroed_;
  return write_buffer(new_ground && total < kSmallGroupBytes ? zeros_ahead : 0);
}

// All of the buffer, and after it, as far as there is room, zeros.
Result<void> SegmentWriter::write_buffer(std::uint64_t zeros_ahead) {
  std::array<iovec, 1 + kMaxZeroParts> parts{};
  std::string_view left = buffer_;
  while (!left.empty()) {
    parts[0] = {const_cast<char*>(left.data()), left.size()};
    std::size_t count = 1;
    for (std::uint64_t zeros = zeros_ahead; zeros > 0 && count < parts.size(); ++count) {
      const std::size_t size = std::min<std::uint64_t>(zeros, kZeros.size());
      parts[count] = {const_cast<char*>(kZeros.data()), size};
      zeros -= size;
    }
    const ssize_t wrote = pwritev(file_.get(), parts.data(), static_cast<int>(count), static_cast<off_t>(written_));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0 && zeros_ahead > 0) {  // the group alone may still fit
      zeros_ahead = 0;
      continue;
    }
    if (wrote < 0) return system_error_of("write to the spool");
    zeroed_ = std::max(zeroed_, written_ + static_cast<std::uint64_t>(wrote));
    const std::size_t of_buffer = std::min<std::size_t>(static_cast<std::size_t>(wrote), left.size());
    left.remove_prefix(of_buffer);
    written_ += of_buffer;
  }
  buffer_.clear();
  return {};
}

void SegmentWriter::roll_back() {
  written_ = end_;
  zeroed_ = end_;
  if (ftruncate(file_.get(), static_cast<off_t>(end_)) == 0) return;
  failed_ = true;  // what is left there may pass for a group, so nothing may follow it
}

void SegmentWriter::retract(std::uint64_t end) {
  assert(end <= end_);
  end_ = end;
  roll_back();
  static_cast<void>(sync_(file_.get()));
}

void SegmentWriter::trim() {
  if (failed_ || zeroed_ == end_) return;
  if (ftruncate(file_.get(), static_cast<off_t>(end_)) == 0) zeroed_ = end_;
}

}  // namespace run_recorder
