// What a text of the configuration must fulfil beyond being one; only for the table of keys. Pure, thread-safe.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace run_recorder {

struct TextRule {
  std::string_view allowed;  // what a value of such a key is, in words
  // What is wrong with a text (an element, where the key is a list): "" where `allowed` says it all; nothing where it
  // fits.
  std::optional<std::string> (*check)(std::string_view text);
};

extern const TextRule kPathRule;
extern const TextRule kOptionalPathRule;
extern const TextRule kSocketPathRule;
extern const TextRule kUrlRule;
extern const TextRule kQueueUrlRule;
extern const TextRule kPrefixRule;
// Whether the host knows a user or a group is asked later.
extern const TextRule kGroupRule;
extern const TextRule kUsersRule;
extern const TextRule kGroupsRule;
extern const TextRule kEventTypesRule;
extern const TextRule kTableRule;
extern const TextRule kSchemaRule;
extern const TextRule kListenRule;
extern const TextRule kHostRule;
extern const TextRule kPatternRule;
extern const TextRule kCronRule;
extern const TextRule kTimeZoneRule;

}  // namespace run_recorder
