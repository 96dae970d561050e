// Preloaded into the daemon by the tests of a loss of power: writes down, in order, what happens to the files under
// some paths, and what is sent to sockets. From that torture_power.py builds the folder as any loss of power may
// leave it. FILE_TRACE_ROOTS: prefixes of paths, separated by colons. FILE_TRACE_OUTPUT: where the trace goes.
//
// A change and its record happen under one lock, so the order in the trace is the order on disk. A sync has two
// records: what was written before the first is durable when the second stands there. What is sent is recorded before
// it goes out.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cstdarg>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <string_view>

namespace {

enum class Op : std::uint8_t {
  kOpen = 1,  // number: 1 existed before, 2 truncated; bytes: the path
  kClose,
  kWrite,  // number: the offset
  kTruncate,
  kSyncBegin,
  kSyncEnd,
  kRename,  // bytes: from, NUL, to
  kUnlink,
  kMkdir,
  kSend,
};

constexpr std::size_t kMaxFiles = 65536;
std::array<bool, kMaxFiles> watched;
std::mutex mutex;

template <typename Function>
Function real(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

bool is_watched(int fd) {
  return fd >= 0 && static_cast<std::size_t>(fd) < kMaxFiles && watched[static_cast<std::size_t>(fd)];
}

bool is_under_roots(const char* path) {
  static const char* roots = std::getenv("FILE_TRACE_ROOTS");
  std::string_view rest = roots == nullptr ? "" : roots;
  while (!rest.empty()) {
    const std::string_view root = rest.substr(0, rest.find(':'));
    rest.remove_prefix(root.size() < rest.size() ? root.size() + 1 : rest.size());
    if (std::string_view(path).starts_with(root)) return true;
  }
  return false;
}

int output() {
  static const int fd = [] {
    const char* path = std::getenv("FILE_TRACE_OUTPUT");
    using Open = int (*)(const char*, int, ...);
    return path == nullptr ? -1 : real<Open>("open")(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  }();
  return fd;
}

// Called with the lock held. One write, so that kill -9 leaves whole records or one torn at the end.
void record(Op op, int fd, std::uint64_t number, std::string_view bytes) {
  struct __attribute__((packed)) {
    Op op;
    std::int32_t fd;
    std::uint64_t number;
    std::uint32_t length;
  } const header{op, fd, number, static_cast<std::uint32_t>(bytes.size())};
  const std::array<iovec, 2> parts{iovec{const_cast<void*>(static_cast<const void*>(&header)), sizeof(header)},
                                   iovec{const_cast<char*>(bytes.data()), bytes.size()}};
  static const auto real_writev = real<ssize_t (*)(int, const iovec*, int)>("writev");
  const int kept_errno = errno;
  if (real_writev(output(), parts.data(), 2) < 0) std::abort();
  errno = kept_errno;
}

std::string gathered(const iovec* parts, int count, std::size_t size) {
  std::string bytes;
  for (int i = 0; i < count && bytes.size() < size; ++i) {
    bytes.append(static_cast<const char*>(parts[i].iov_base), std::min(parts[i].iov_len, size - bytes.size()));
  }
  return bytes;
}

int opened(const char* name, const char* path, int flags, mode_t mode) {
  using Open = int (*)(const char*, int, ...);
  if (!is_under_roots(path)) return real<Open>(name)(path, flags, mode);
  const std::lock_guard lock(mutex);
  const bool existed = faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
  const int fd = real<Open>(name)(path, flags, mode);
  if (fd >= 0 && static_cast<std::size_t>(fd) < kMaxFiles) {
    watched[static_cast<std::size_t>(fd)] = true;
    const std::uint64_t how = (existed ? 1U : 0U) | ((flags & O_TRUNC) != 0 ? 2U : 0U);
    record(Op::kOpen, fd, how, path);
  }
  return fd;
}

int opened_at(const char* name, int folder, const char* path, int flags, mode_t mode) {
  using OpenAt = int (*)(int, const char*, int, ...);
  if (folder == AT_FDCWD || path[0] == '/') return opened("open", path, flags, mode);
  return real<OpenAt>(name)(folder, path, flags, mode);
}

ssize_t written(int fd, const iovec* parts, int count, off_t offset) {
  static const auto real_pwritev = real<ssize_t (*)(int, const iovec*, int, off_t)>("pwritev");
  const std::lock_guard lock(mutex);
  const ssize_t wrote = real_pwritev(fd, parts, count, offset);
  if (wrote > 0) {
    record(Op::kWrite, fd, static_cast<std::uint64_t>(offset),
           gathered(parts, count, static_cast<std::size_t>(wrote)));
  }
  return wrote;
}

// At the descriptor's own position, which moves on.
ssize_t written_here(int fd, const iovec* parts, int count) {
  const off_t offset = lseek(fd, 0, SEEK_CUR);
  const ssize_t wrote = written(fd, parts, count, offset);
  if (wrote > 0) lseek(fd, offset + wrote, SEEK_SET);
  return wrote;
}

int truncated(const char* name, int fd, off_t size) {
  const auto call = real<int (*)(int, off_t)>(name);
  if (!is_watched(fd)) return call(fd, size);
  const std::lock_guard lock(mutex);
  const int result = call(fd, size);
  if (result == 0) record(Op::kTruncate, fd, static_cast<std::uint64_t>(size), {});
  return result;
}

int synced(const char* name, int fd) {
  const auto call = real<int (*)(int)>(name);
  if (!is_watched(fd)) return call(fd);
  {
    const std::lock_guard lock(mutex);
    record(Op::kSyncBegin, fd, 0, {});
  }
  static const char* failing = std::getenv("FILE_TRACE_FAIL_SYNC");
  if (failing != nullptr && faccessat(AT_FDCWD, failing, F_OK, 0) == 0) {
    errno = EIO;
    return -1;
  }
  const int result = call(fd);
  const std::lock_guard lock(mutex);
  if (result == 0) record(Op::kSyncEnd, fd, 0, {});
  return result;
}

void record_answer(int fd, std::string_view bytes) {
  if (!bytes.starts_with("{\"acked\"") && !bytes.starts_with("{\"error\"")) return;
  const std::lock_guard lock(mutex);
  record(Op::kSend, fd, 0, bytes);
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = va_arg(rest, mode_t);
  va_end(rest);
  return opened("open", path, flags, mode);
}

int open64(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = va_arg(rest, mode_t);
  va_end(rest);
  return opened("open64", path, flags, mode);
}

int openat(int folder, const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = va_arg(rest, mode_t);
  va_end(rest);
  return opened_at("openat", folder, path, flags, mode);
}

int openat64(int folder, const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = va_arg(rest, mode_t);
  va_end(rest);
  return opened_at("openat64", folder, path, flags, mode);
}

int close(int fd) {
  static const auto call = real<int (*)(int)>("close");
  if (!is_watched(fd)) return call(fd);
  const std::lock_guard lock(mutex);
  watched[static_cast<std::size_t>(fd)] = false;
  record(Op::kClose, fd, 0, {});
  return call(fd);
}

ssize_t write(int fd, const void* bytes, size_t size) {
  static const auto call = real<ssize_t (*)(int, const void*, size_t)>("write");
  if (!is_watched(fd)) return call(fd, bytes, size);
  const iovec part{const_cast<void*>(bytes), size};
  return written_here(fd, &part, 1);
}

ssize_t writev(int fd, const iovec* parts, int count) {
  static const auto call = real<ssize_t (*)(int, const iovec*, int)>("writev");
  return is_watched(fd) ? written_here(fd, parts, count) : call(fd, parts, count);
}

ssize_t pwrite(int fd, const void* bytes, size_t size, off_t offset) {
  static const auto call = real<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite");
  if (!is_watched(fd)) return call(fd, bytes, size, offset);
  const iovec part{const_cast<void*>(bytes), size};
  return written(fd, &part, 1, offset);
}

ssize_t pwrite64(int fd, const void* bytes, size_t size, off64_t offset) {
  return pwrite(fd, bytes, size, offset);
}

ssize_t pwritev(int fd, const iovec* parts, int count, off_t offset) {
  static const auto call = real<ssize_t (*)(int, const iovec*, int, off_t)>("pwritev");
  return is_watched(fd) ? written(fd, parts, count, offset) : call(fd, parts, count, offset);
}

ssize_t pwritev64(int fd, const iovec* parts, int count, off64_t offset) {
  return pwritev(fd, parts, count, offset);
}

int ftruncate(int fd, off_t size) noexcept {
  return truncated("ftruncate", fd, size);
}

int ftruncate64(int fd, off64_t size) noexcept {
  return truncated("ftruncate64", fd, size);
}

int fsync(int fd) {
  return synced("fsync", fd);
}

int fdatasync(int fd) {
  return synced("fdatasync", fd);
}

int rename(const char* from, const char* to) noexcept {
  const auto call = real<int (*)(const char*, const char*)>("rename");
  if (!is_under_roots(from) && !is_under_roots(to)) return call(from, to);
  const std::lock_guard lock(mutex);
  const int result = call(from, to);
  if (result == 0) record(Op::kRename, -1, 0, std::string(from) + '\0' + to);
  return result;
}

int unlink(const char* path) noexcept {
  const auto call = real<int (*)(const char*)>("unlink");
  if (!is_under_roots(path)) return call(path);
  const std::lock_guard lock(mutex);
  const int result = call(path);
  if (result == 0) record(Op::kUnlink, -1, 0, path);
  return result;
}

int mkdir(const char* path, mode_t mode) noexcept {
  const auto call = real<int (*)(const char*, mode_t)>("mkdir");
  if (!is_under_roots(path)) return call(path, mode);
  const std::lock_guard lock(mutex);
  const int result = call(path, mode);
  if (result == 0) record(Op::kMkdir, -1, 0, path);
  return result;
}

ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  static const auto call = real<ssize_t (*)(int, const msghdr*, int)>("sendmsg");
  std::size_t size = 0;
  for (std::size_t i = 0; i < message->msg_iovlen; ++i) size += message->msg_iov[i].iov_len;
  record_answer(fd, gathered(message->msg_iov, static_cast<int>(message->msg_iovlen), size));
  return call(fd, message, flags);
}

ssize_t send(int fd, const void* bytes, size_t size, int flags) {
  static const auto call = real<ssize_t (*)(int, const void*, size_t, int)>("send");
  record_answer(fd, {static_cast<const char*>(bytes), size});
  return call(fd, bytes, size, flags);
}

}  // extern "C"
