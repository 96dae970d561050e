// Events that `exec` could not send, kept in a file of this user's until an `exec` or `emit` reaches the daemon: each
// socket has a file of its own, one event a line, so that no daemon gets those of another and `emit < FILE` works by
// hand. Events carry ids: whoever sends them twice harms nothing. One thread, and any number of processes: one of
// them sends at a time, and none waits for the others but while a file is written.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "cli/event_client.h"
#include "config/config.h"

namespace run_recorder {

// All files of a user together.
inline constexpr std::size_t kMaxUnsentBytes = std::size_t{16} << 20;

// $XDG_STATE_HOME/run-recorder/unsent, else below .local/state in $HOME or, without one, in the user's own home;
// empty where there is none of them. A folder of the environment that belongs to another user does not count.
std::string unsent_folder(const Environment& environment, uid_t uid);

class UnsentEvents {
 public:
  // Looks at nothing yet. Both paths absolute; an empty folder keeps nothing.
  UnsentEvents(std::string folder, const std::string& socket_path);

  // The lines that were kept before, in their order, for the caller to send; none where another process sends them.
  const std::vector<std::string>& take();
  // Of the lines taken: acknowledged, and so to be forgotten.
  void acknowledged(std::size_t line);
  // The daemon will never take it: it is moved to a file beside the other, which is returned; empty where that
  // failed.
  std::string set_aside(std::size_t line);
  // Whether every line taken is settled in one of these ways.
  bool all_settled() const { return left_ == 0; }
  // Takes what is settled out of the file, once; others may send the rest then.
  void release();

  // Appends lines, each with its newline, durably, and returns the file's path.
  Result<std::string> keep(std::string_view lines);

 private:
  Result<UniqueFd> open_folder(bool make) const;
  std::string path_of(const std::string& name) const { return folder_ + "/" + name; }

  std::string folder_;
  std::string name_;                // of the file in it; empty: the socket's path is too long for one
  UniqueFd sender_;                 // the folder, locked while this process sends
  std::string taken_;               // the file's beginning, as it was taken
  std::vector<std::string> lines_;  // of it
  std::vector<bool> settled_;       // by line
  std::size_t left_ = 0;
};

// Does that, and says it for people.
std::string set_aside_in_words(UnsentEvents& events, std::size_t line, const EventRefusal& refusal);

}  // namespace run_recorder
