// Events that `exec` could not send, kept in a file of this user's until an `exec` or `emit` reaches the daemon: each
// socket has a file of its own, one event a line, so that no daemon gets those of another and `emit < FILE` works by
// hand. Clients in other languages leave files beside it, NAME@UNIQUE.ndjson for the socket whose file is
// NAME.ndjson: they are whole once they have that name, and whoever has settled all lines of one removes it. Where
// the configuration that says the socket could not be read the file is that configuration's: whoever finds the socket
// by it sends them. Events carry ids: whoever sends them twice harms nothing. One thread, and any number of
// processes: one of them sends at a time, and none waits for the others but while a file is written.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "cli/event_client.h"
#include "cli/event_socket.h"
#include "config/config.h"

namespace run_recorder {

// All files of a user together.
inline constexpr std::size_t kMaxUnsentBytes = std::size_t{16} << 20;

// $XDG_STATE_HOME/run-recorder/unsent, else below .local/state in $HOME or, without one, in the user's own home;
// empty where there is none of them. A folder of the environment that belongs to another user does not count.
std::string unsent_folder(const Environment& environment, uid_t uid);

class UnsentEvents {
 public:
  // Looks at nothing yet. All paths absolute; an empty folder keeps nothing.
  UnsentEvents(std::string folder, const EventSocket& socket);

  // The lines that were kept before, in their order, for the caller to send; none where another process sends them.
  const std::vector<std::string>& take();
  // Of the lines taken: acknowledged, and so to be forgotten.
  void acknowledged(std::size_t line);
  // The daemon will never take it: it is moved to a file beside the other, which is returned; empty where that
  // failed.
  std::string set_aside(std::size_t line);
  // Whether every line taken is settled in one of these ways.
  bool all_settled() const { return left_ == 0; }
  // Takes what is settled out of the files, once; others may send the rest then.
  void release();

  // Appends lines, each with its newline, durably, and returns the file's path.
  Result<std::string> keep(std::string_view lines);

 private:
  Result<UniqueFd> open_folder(bool make) const;
  std::string path_of(const std::string& name) const { return folder_ + "/" + name; }
  struct Taken {
    std::string name;       // of the file
    std::string content;    // its beginning, as it was taken
    std::size_t first = 0;  // of its lines, among all
    std::size_t lines = 0;
  };
  enum class Whole { kYes, kNo };  // whether it is complete as it is there, a last line without newline too
  void take_file(int folder, const std::string& name, Whole whole);
  void shorten(int folder, const Taken& taken) const;

  std::string folder_;
  std::string name_;         // of the socket's file in it; empty: its path is too long for one
  std::string config_name_;  // of the configuration's; empty: a flag or the environment says the socket
  bool assumed_;             // the socket may be another one
  UniqueFd sender_;          // the folder, locked while this process sends
  std::vector<Taken> taken_;
  std::vector<std::string> lines_;  // of all of them
  std::vector<bool> settled_;       // by line
  std::size_t left_ = 0;
};

// Does that, and says it for people.
std::string set_aside_in_words(UnsentEvents& events, std::size_t line, const EventRefusal& refusal);

}  // namespace run_recorder
