// Cuts a stream of bytes into lines, in bounded memory: a line that fits into what was read is never copied, an
// unfinished one is kept (a short one here, a longer one with a share of the common pool), one that is too large is
// skipped to its end. Not synchronised: for the sessions' thread.
//
// A Sink has three functions. Each is called once for its line, and returns false to make feed() stop behind it.
// - `bool line(std::string_view)`: a line without its newline; the view ends with the call.
// - `bool too_large()`: the current line has passed the limit; its rest is skipped.
// - `bool no_room()`: the current line must grow and the pool has no room; its rest is skipped.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>

#include "server/line_pool.h"

namespace run_recorder {

class LineFramer {
 public:
  LineFramer(LinePool& pool, std::size_t partial_bytes) : share_(pool), partial_bytes_(partial_bytes) {}

  // How many bytes, at most `wanted`, may be fed now with a place for all of them; 0: the unfinished line has to wait
  // for the pool. line_bytes here and below: the most that a line may have.
  std::size_t room(std::size_t line_bytes, std::size_t wanted) const;

  // Returns how many of the bytes it used: all, unless the sink stopped it.
  template <class Sink>
  std::size_t feed(std::string_view bytes, std::size_t line_bytes, Sink& sink);

  // The input has ended: what there is of a last line is one.
  template <class Sink>
  void end(Sink& sink) {
    if (size_ > 0) {
      sink.line(std::string_view(data_.get(), size_));
      drop();
    }
  }

  // Forgets the unfinished line, whose rest is skipped.
  void abandon() {
    drop();
    skipping_ = true;
  }

  bool holds_share() const { return share_.bytes() > 0; }

 private:
  bool append(std::string_view piece, std::size_t line_bytes);
  bool reserve(std::size_t bytes, std::size_t line_bytes);
  void drop();

  LinePool::Share share_;  // of capacity_, where that is more than partial_bytes_
  std::size_t partial_bytes_;
  std::unique_ptr<char[]> data_;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
  bool skipping_ = false;
};

template <class Sink>
std::size_t LineFramer::feed(std::string_view bytes, std::size_t line_bytes, Sink& sink) {
  std::size_t used = 0;
  bool go_on = true;
  while (go_on && used < bytes.size()) {
    std::string_view piece = bytes.substr(used);
    const auto* newline = static_cast<const char*>(std::memchr(piece.data(), '\n', piece.size()));
    if (newline != nullptr) {
      piece = piece.substr(0, static_cast<std::size_t>(newline - piece.data()));
    }
    if (!skipping_ && piece.size() > line_bytes - std::min(size_, line_bytes)) {
      abandon();
      go_on = sink.too_large();
      continue;  // the newline, if it is here, ends the skipping in the next round
    }
    used += piece.size() + (newline != nullptr ? 1 : 0);
    if (skipping_) {
      skipping_ = newline == nullptr;
    } else if (newline != nullptr && size_ == 0) {
      go_on = sink.line(piece);
    } else if (!append(piece, line_bytes)) {
      abandon();
      skipping_ = newline == nullptr;
      go_on = sink.no_room();
    } else if (newline != nullptr) {
      go_on = sink.line(std::string_view(data_.get(), size_));
      drop();
    }
  }
  return used;
}

}  // namespace run_recorder
