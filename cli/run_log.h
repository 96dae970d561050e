// What a run wrote to its standard streams, in a file of its own: `exec --log-dir` writes it, `logs` reads it. It is
// what was written, byte by byte, both streams in the order in which exec read them, and by whole lines where they
// are written without a pause. The file only grows while it is written, and its writer holds a lock on it (flock(2)),
// so that a reader sees when nothing more will come. It is bounded: its beginning is kept, and its end, which is
// added when the command has ended. For a single-threaded process.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace run_recorder {

inline constexpr std::uint64_t kDefaultLogBytes = std::uint64_t{16} << 20;

// The name of a run's log without its ending: readable, one file's name whatever the id is, and never hidden. Pure.
std::string log_name_of(std::string_view run_id);

class RunLog {
 public:
  // Makes a new file in the folder, which is made too where it is not there, for this user alone. Where the run has
  // one already, as when an id is used again, it is NAME@2.log, and so on.
  static Result<RunLog> create(const std::string& folder, std::string_view run_id, std::uint64_t max_bytes);

  const std::string& path() const { return path_; }

  enum class Stream { kOutput, kErrors };
  void write(Stream stream, std::string_view bytes);
  // That stream has nothing more for now: what is not a whole line yet is shown, as of a question or a progress bar.
  void pause(Stream stream);
  // The command has ended. Nothing is written any more.
  void finish();

  // Why it is not complete, once; the writer goes on without.
  std::optional<Error> take_problem() { return std::exchange(problem_, {}); }

 private:
  // max_bytes: of the file.
  RunLog(UniqueFd fd, std::string path, std::uint64_t max_bytes);
  void append(std::string_view bytes);
  void keep_end(std::string_view bytes);
  void write_end();
  void write_file(std::string_view bytes);
  void write_own_line(const std::string& text);

  UniqueFd fd_;
  std::string path_;
  std::uint64_t room_;                // for the beginning
  std::size_t end_bytes_;             // that are kept of what does not fit there
  std::array<std::string, 2> lines_;  // by stream, what is no whole line yet
  std::string end_;
  std::uint64_t left_out_ = 0;
  bool full_said_ = false;
  bool in_line_ = false;  // the file does not end with a newline
  std::optional<Error> problem_;
};

// The files of runs' logs in a folder whose id is this one, or else begins so: of each the newest. The error is about
// the folder.
struct FoundLog {
  std::string path;
  std::string name;  // as of log_name_of()
};
Result<std::vector<FoundLog>> find_logs(const std::string& folder, std::string_view run_id);

// For reading; a link, a pipe or a device is none. The error names the path.
Result<UniqueFd> open_log(const std::string& path);
// Its writer has not finished.
bool is_being_written(int log_fd);

}  // namespace run_recorder
