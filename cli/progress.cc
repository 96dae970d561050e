#include "cli/progress.h"

#include <unistd.h>

#include "base/file.h"
#include "cli/text.h"

namespace run_recorder {
namespace {

constexpr std::chrono::milliseconds kNotWithin{500};
constexpr std::chrono::milliseconds kEvery{200};
constexpr std::string_view kStartOver = "\r\033[K";

}  // namespace

bool Progress::wanted() const {
  const auto now = Clock::now();
  return terminal_.is_terminal && now - began_ >= kNotWithin && now - shown_at_ >= kEvery;
}

void Progress::show(std::string_view words) {
  if (!wanted()) return;
  shown_at_ = Clock::now();
  shown_ = true;
  (void)write_all(STDERR_FILENO, std::string(kStartOver) + fit(words, terminal_.columns - 1));
}

void Progress::clear() {
  if (shown_) (void)write_all(STDERR_FILENO, kStartOver);
  shown_ = false;
}

}  // namespace run_recorder
