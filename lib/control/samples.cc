#include "control/samples.h"

namespace run_recorder {

std::string label(std::string_view name, std::string_view value) {
  std::string out = fmt::format("{}=\"", name);
  for (const char c : value) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    out += c;
  }
  return out + '"';
}

double seconds(std::chrono::microseconds time) {
  return static_cast<double>(time.count()) / 1e6;
}

double seconds(Timestamp time) {
  return seconds(std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()));
}

void Samples::begin(const Metric& metric) {
  name_ = full_name(metric);
  text_ += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name_, metric.help, name_, metric.type);
}

}  // namespace run_recorder
