// The table of commands. Each is defined beside its code.
#include <array>

#include "cli/command.h"

namespace run_recorder {

extern const Command kEmitCommand, kExecCommand, kListCommand, kShowCommand, kEventsCommand, kChainCommand,
    kExplainCommand, kLogsCommand, kWatchCommand, kStatsCommand, kStatusCommand, kReconcileCommand,
    kReconciliationsCommand, kExpectCommand, kFindingsCommand, kPruneCommand, kDeadLettersCommand, kSpoolCommand,
    kExportCommand, kImportCommand, kDoctorCommand, kAdminCommand, kHelpCommand, kVersionCommand;

std::span<const Command* const> commands() {
  static constexpr std::array kCommands = {&kEmitCommand,
                                           &kExecCommand,
                                           &kListCommand,
                                           &kShowCommand,
                                           &kEventsCommand,
                                           &kChainCommand,
                                           &kExplainCommand,
                                           &kLogsCommand,
                                           &kWatchCommand,
                                           &kStatsCommand,
                                           &kStatusCommand,
                                           &kReconcileCommand,
                                           &kReconciliationsCommand,
                                           &kExpectCommand,
                                           &kFindingsCommand,
                                           &kPruneCommand,
                                           &kDeadLettersCommand,
                                           &kSpoolCommand,
                                           &kExportCommand,
                                           &kImportCommand,
                                           &kDoctorCommand,
                                           &kAdminCommand,
                                           &kHelpCommand,
                                           &kVersionCommand};
  return kCommands;
}

}  // namespace run_recorder
