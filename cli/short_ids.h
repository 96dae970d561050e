// Ids as narrow terminals show them: the beginning of a UUID that no other one shown has. The tool takes such a
// beginning wherever it takes an id. One thread.
#pragma once

#include <cstddef>
#include <set>
#include <string>
#include <string_view>

#include "cli/terminal.h"

namespace run_recorder {

class ShortIds {
 public:
  // Whole where there is no terminal, or a wide one.
  explicit ShortIds(const Terminal& terminal);
  // Before any of what is shown beside it is asked for.
  void include(std::string_view id);
  // The id itself where it is no UUID: what people named is left to be read.
  std::string of(std::string_view id) const;

 private:
  bool shortens_;
  std::size_t length_ = 0;  // by which all are different
  std::set<std::string, std::less<>> ids_;
};

}  // namespace run_recorder
