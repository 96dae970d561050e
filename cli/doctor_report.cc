#include "cli/doctor_report.h"

#include <algorithm>

#include "cli/event_line.h"
#include "cli/table.h"

namespace run_recorder {

bool DoctorReport::all_fine() const {
  return std::ranges::all_of(all_, [](const Finding& finding) { return finding.fine; });
}

std::string DoctorReport::json() const {
  std::string lines;
  for (const Finding& finding : all_) {
    EventLine line;
    line.text("check", finding.check).flag("ok", finding.fine).text("found", finding.found);
    if (finding.advice.empty()) {
      line.json("advice", "null");
    } else {
      line.text("advice", finding.advice);
    }
    lines += line.str() + "\n";
  }
  return lines;
}

std::string DoctorReport::for_people(const Terminal& terminal) const {
  Facts facts(terminal);
  for (const Finding& finding : all_) {
    const bool warns = finding.fine && !finding.advice.empty();
    facts.add(finding.check,
              (warns          ? "warning: "
               : finding.fine ? "fine: "
                              : "") +
                  finding.found,
              warns          ? Colour::kYellow
              : finding.fine ? Colour::kGreen
                             : Colour::kRed);
    if (!finding.advice.empty()) facts.add("", "→ " + finding.advice, Colour::kBold);
  }
  return facts.render();
}

}  // namespace run_recorder
