#include <algorithm>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "base/standard_streams.h"
#include "base/url.h"
#include "cli/command_line.h"
#include "cli/terminal.h"

int main(int argc, char** argv) {
  run_recorder::open_standard_streams();
  std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  run_recorder::hide_passwords_in_arguments(argc, argv);
  try {
    return run_recorder::run_command_line(std::move(arguments));
  } catch (const run_recorder::StartError& error) {
    run_recorder::complain(error.what());
    return error.exit_status();
  } catch (const std::exception& error) {
    run_recorder::complain(std::string("unexpected: ") + error.what());
    return run_recorder::kExitOther;
  }
}
