#include <exception>
#include <string>

#include "cli/command_line.h"
#include "cli/terminal.h"

int main(int argc, char** argv) {
  try {
    return run_recorder::run_command_line(argc, argv);
  } catch (const run_recorder::StartError& error) {
    run_recorder::complain(error.what());
    return error.exit_status();
  } catch (const std::exception& error) {
    run_recorder::complain(std::string("unexpected: ") + error.what());
    return run_recorder::kExitOther;
  }
}
