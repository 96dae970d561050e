#include "base/standard_streams.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <initializer_list>

namespace run_recorder {
namespace {

// Opened for the opposite of what a stream is for, so that using it fails; what standard error gets is discarded.
int access_of(int stream) {
  return stream == STDOUT_FILENO ? O_RDONLY : O_WRONLY;
}

}  // namespace

void open_standard_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(stream, F_GETFD) >= 0 || errno != EBADF) continue;
    // The lowest free number is this stream's: those below it are open by now.
    int fd = ::open("/dev/null", access_of(stream) | O_CLOEXEC);
    // A root without /dev: a descriptor that can neither be read nor written.
    if (fd < 0) fd = ::open("/", O_PATH | O_CLOEXEC);
    if (fd != stream) std::abort();
  }
}

}  // namespace run_recorder
