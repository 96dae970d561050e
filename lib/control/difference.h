// In what two JSON objects of the same form differ, in words: for who imports a row that is there already. Pure.
#pragma once

#include <string>
#include <string_view>

namespace run_recorder {

// The first member, in the order of `imported`, whose values are not equal as JSON, with both, shortened:
// `council is "a" here and "b" in the import`. Empty: there is none. Both are valid JSON objects.
std::string first_difference(std::string_view imported, std::string_view here);

}  // namespace run_recorder
