#include "cli/patience.h"

#include <fmt/format.h>

#include <thread>

#include "cli/terminal.h"

namespace run_recorder {
namespace {

constexpr std::chrono::seconds kPatience{60};
constexpr std::chrono::milliseconds kPause{500};

}  // namespace

bool Patience::wait(const Error& error) {
  if (error.kind != ErrorKind::kUnavailable || !answered_) return false;
  const auto now = Clock::now();
  if (!away_) {
    away_ = true;
    give_up_ = now + kPatience;
    complain(fmt::format("{}; trying again for {} s", error.message, kPatience.count()));
  }
  if (now > give_up_) return false;
  std::this_thread::sleep_for(kPause);
  return true;
}

}  // namespace run_recorder
