// load_config on any file: it never fails otherwise than by naming mistakes, each on one bounded line with what is
// wrong; and every value of what it accepts can be shown.
#include <sys/mman.h>

#include <string>

#include "base/file.h"
#include "config/config_table.h"
#include "require.h"

namespace run_recorder {
namespace {

LoadedConfig load(std::string_view text) {
  const UniqueFd file(memfd_create("config", MFD_CLOEXEC));
  require(write_all(file.get(), text).has_value(), "a file in memory can be written");
  ConfigSources sources;
  sources.flags = {{"--config", "/proc/self/fd/" + std::to_string(file.get())}};
  sources.environment = {{"HOME", "/nowhere"}};
  sources.uid = 1'000;
  return load_config(sources);
}

void check_problems(const ConfigProblems& problems) {
  require(!problems.all.empty(), "a refusal has a reason");
  for (const ConfigProblem& problem : problems.all) {
    const std::string text = problem.text();
    require(!problem.where.empty() && !problem.message.empty(), "a mistake has a place and a message");
    require(text.find('\n') == std::string::npos, "a mistake is one line");
    require(text.size() < 8'192, "a mistake's line is bounded");
  }
}

void run(std::string_view text) {
  const LoadedConfig loaded = load(text);
  if (!loaded) return check_problems(loaded.error());
  for (const ConfigEntry& entry : config_entries()) {
    require(!value_text(*loaded, entry).empty(), "every value can be shown");
  }
  const ConfigDifference none = diff_config(*loaded, with_reloadable(*loaded, *loaded));
  require(none.reloadable.empty() && none.need_restart.empty(), "a configuration does not differ from itself");
}

}  // namespace
}  // namespace run_recorder

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  run_recorder::run({reinterpret_cast<const char*>(data), size});
  return 0;
}
