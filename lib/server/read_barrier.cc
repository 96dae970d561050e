#include "server/read_barrier.h"

#include <poll.h>
#include <sys/ioctl.h>

#include <algorithm>

namespace run_recorder {

ReadBarrier::ReadBarrier(const SessionContext& context) {
  waited_.reserve(context.sessions.size());
  for (const auto& [number, session] : context.sessions) {
    Waited waited{session, session->bytes_read(), false, false, 0};
    // The end first: what comes behind it is counted as well, what came before it certainly.
    pollfd end{session->descriptor(), POLLRDHUP, 0};
    waited.to_end = ::poll(&end, 1, 0) > 0 && (end.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
    int readable = 0;
    if (::ioctl(session->descriptor(), FIONREAD, &readable) == 0 && readable > 0) {
      waited.bytes += static_cast<std::uint64_t>(readable);
    }
    waited_.push_back(std::move(waited));
  }
}

bool ReadBarrier::passed() {
  std::erase_if(waited_, [](Waited& waited) { return is_settled(waited); });
  return waited_.empty();
}

bool ReadBarrier::is_settled(Waited& waited) {
  const Session& session = *waited.session;
  if (!waited.read) {
    waited.read = !session.reads() || (!waited.to_end && session.bytes_taken() >= waited.bytes);
    waited.line = session.lines();
  }
  return waited.read && session.has_settled(waited.line);
}

}  // namespace run_recorder
