// When things happened, as bars of characters under each other. Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "base/time.h"
#include "cli/terminal.h"

namespace run_recorder {

// Too narrow for what can be left out.
bool is_narrow(const Terminal& terminal);

// From the first of the times that it includes to the last.
class Timeline {
 public:
  explicit Timeline(const Terminal& terminal);
  void include(const std::optional<Timestamp>& time);
  // Empty where all the times are the same.
  std::string draw(Timestamp from, Timestamp to) const;

 private:
  const std::size_t columns_;
  std::optional<Timestamp> first_, last_;
};

// A bar of that many columns: from and to are parts (0 to 1) of its length, something is always drawn.
std::string bar(double from, double to, std::size_t columns);

}  // namespace run_recorder
