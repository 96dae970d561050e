// How quickly a backlog is worked off while a few senders wait for their acknowledgements: a database that works on
// a large batch leaves a small machine's processors to nobody. Pure: the clock is a parameter. A Pacer is for one
// thread at a time.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace run_recorder {

// The slower, the sooner senders have their acknowledgements. Each but the first writes a batch in pieces, in one
// transaction.
enum class Pace {
  kFull,     // large batches, one behind the other
  kPieces,   // without a rest between them
  kResting,  // each with a rest as long as it took behind it
  kSlow,     // with one three times as long
};

// The pace after a tenth of a second in which so many events arrived and were applied. Slow where they are a few:
// five or more, and less than a twelfth. From there a step quicker where they become more than a third, and full
// where pieces do not keep them below a half; a step slower again where they are less than a sixth.
Pace next_pace(Pace pace, std::uint64_t arrived, std::uint64_t applied);

class Pacer {
 public:
  using Clock = std::chrono::steady_clock;
  // How long a trickle of events gathers behind a commit: fewer transactions, and fewer syncs beside the spool's own.
  // An event after a pause does not wait.
  static constexpr std::chrono::milliseconds kGather{40};
  static constexpr std::chrono::milliseconds kLongestRest{50};  // between pieces
  static constexpr std::chrono::milliseconds kWindow{100};      // in which arrivals are compared with what is applied

  // in_pieces: at most so many events has a batch that is written so, because the pace of a batch stays to its end.
  // trickle: fewer waiting events than this gather. newest: the newest durable record.
  Pacer(std::size_t in_pieces, std::size_t trickle, std::uint64_t newest)
      : in_pieces_(in_pieces), trickle_(trickle), window_newest_(newest) {}

  // How many events the next batch may have, of at most `most`. Sets the pace once a window has passed.
  std::size_t batch_events(std::size_t most, std::uint64_t newest, Clock::time_point now);
  // A commit of so many events ended now.
  void committed(std::size_t events, Clock::time_point now);
  // Until when nothing is committed although so many events wait.
  Clock::time_point throttled_until(std::uint64_t waiting) const;
  // Until when a commit rests that has written a piece for so long.
  Clock::time_point rests_until(Clock::time_point now, Clock::duration worked) const;
  Pace pace() const { return pace_; }

 private:
  const std::size_t in_pieces_;
  const std::size_t trickle_;
  Pace pace_ = Pace::kFull;
  Clock::time_point last_commit_{};
  // The window: since when, how far records had come then, and how many were applied since.
  Clock::time_point window_began_{};
  std::uint64_t window_newest_;
  std::uint64_t window_applied_ = 0;
};

}  // namespace run_recorder
