// Documents that are compared with the tables of the program.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <regex>
#include <string>
#include <vector>

namespace run_recorder::testing {

// The lines of a document's section that match, without what comes behind the match.
inline std::vector<std::string> lines_of(const std::string& document, const std::string& section,
                                         const std::regex& wanted) {
  const char* source = std::getenv("RR_SOURCE_DIR");
  std::ifstream file(std::string(source == nullptr ? "." : source) + "/" + document);
  EXPECT_TRUE(file.is_open()) << document << ": set RR_SOURCE_DIR";
  std::vector<std::string> lines;
  std::string line;
  std::string heading;
  while (std::getline(file, line)) {
    if (line.starts_with("#")) heading = line;
    std::smatch match;
    if (heading == section && std::regex_search(line, match, wanted)) lines.push_back(match[0]);
  }
  return lines;
}

}  // namespace run_recorder::testing
