// For test_cron.py: a line "zone<TAB>cron<TAB>seconds since 1970" is answered by when the expression is due first
// after that, as seconds since 1970, or by "refused: …".
#include <iostream>
#include <sstream>
#include <string>

#include "schedule/due_times.h"

namespace {

using namespace run_recorder;

std::string answer(const std::string& zone_name, const std::string& expression, std::int64_t after) {
  const auto cron = CronExpression::parse(expression);
  if (!cron) return "refused: " + cron.error().message;
  const auto zone = TimeZone::find(zone_name);
  if (!zone) return "refused: " + zone.error().message;
  const auto due = first_due_after(
      *cron, [&](Timestamp at) { return zone->period_at(at); }, Timestamp(std::chrono::seconds(after)));
  if (!due) return "never";
  return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(due->time_since_epoch()).count());
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream fields(line);
    std::string zone, expression, after;
    std::getline(fields, zone, '\t');
    std::getline(fields, expression, '\t');
    std::getline(fields, after, '\t');
    std::cout << answer(zone, expression, std::stoll(after)) << '\n';
  }
}
