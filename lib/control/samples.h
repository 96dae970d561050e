// The samples of metrics in Prometheus' text format, one family after the other. For the metrics' files; one thread.
#pragma once

#include <fmt/format.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/time.h"
#include "control/metrics.h"

namespace run_recorder {

// name="value", with what the format needs escaped.
std::string label(std::string_view name, std::string_view value);
double seconds(std::chrono::microseconds time);
double seconds(Timestamp time);

class Samples {
 public:
  void begin(const Metric& metric);
  template <class T>
  void add(T value, std::string_view labels = {}) {
    suffixed("", value, labels);
  }
  // A part of a histogram.
  template <class T>
  void suffixed(std::string_view suffix, T value, std::string_view labels = {}) {
    text_ += labels.empty() ? fmt::format("{}{} {}\n", name_, suffix, value)
                            : fmt::format("{}{}{{{}}} {}\n", name_, suffix, labels, value);
  }
  // A histogram of durations. buckets: not cumulative, one more than there are bounds.
  template <class Bounds, class Buckets>
  void add_histogram(const Bounds& bounds, const Buckets& buckets, std::chrono::microseconds sum,
                     const std::string& labels = {}) {
    const std::string before = labels.empty() ? labels : labels + ",";
    std::uint64_t below = 0;
    for (std::size_t i = 0; i < bounds.size(); ++i) {
      below += buckets[i];
      suffixed("_bucket", below, before + fmt::format("le=\"{}\"", seconds(bounds[i])));
    }
    below += buckets.back();
    suffixed("_bucket", below, before + "le=\"+Inf\"");
    suffixed("_sum", seconds(sum), labels);
    suffixed("_count", below, labels);
  }
  std::string take() && { return std::move(text_); }

 private:
  std::string name_;
  std::string text_;
};

}  // namespace run_recorder
