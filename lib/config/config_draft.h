// A configuration while it is put together from its sources; only for lib/config. For one thread.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "config/config_table.h"

namespace run_recorder {

struct ConfigDraft {
  const ConfigSources& sources;
  Config config = {};
  ConfigProblems problems = {};
  std::map<std::string, std::string> places = {};  // key -> where it was set last

  void report(std::string where, std::string key, std::string message) {
    problems.all.push_back({std::move(where), std::move(key), std::move(message)});
  }
  bool given(const std::string& key) const { return places.contains(key); }
  std::string where(const std::string& key) const {
    const auto at = places.find(key);
    return at == places.end() ? "defaults" : at->second;
  }
};

// After the keys are read: default paths and groups, the password's file, keys that exclude each other, and whether
// the host knows the users and groups. Mistakes go to draft.problems.
void settle(ConfigDraft& draft);

}  // namespace run_recorder
