// What `doctor` has found, and what to do about it. One thread.
#pragma once

#include <string>
#include <vector>

#include "cli/terminal.h"

namespace run_recorder {

class DoctorReport {
 public:
  void fine(std::string check, std::string found) { all_.push_back({std::move(check), true, std::move(found), {}}); }
  void wrong(std::string check, std::string found, std::string advice) {
    all_.push_back({std::move(check), false, std::move(found), std::move(advice)});
  }
  // Works, and should not stay so.
  void warning(std::string check, std::string found, std::string advice) {
    all_.push_back({std::move(check), true, std::move(found), std::move(advice)});
  }
  bool all_fine() const;
  // One object a line.
  std::string json() const;
  std::string for_people(const Terminal& terminal) const;

 private:
  struct Finding {
    std::string check;
    bool fine = true;
    std::string found;
    std::string advice;  // what to do; where it is fine only for a warning
  };
  std::vector<Finding> all_;
};

}  // namespace run_recorder
