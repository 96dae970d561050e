// How many connections the limit of open files allows. For start and reload, one call at a time: it may raise the
// process's limit.
#pragma once

#include <cstddef>

namespace run_recorder {

// The open files that the daemon needs for so many connections and all it does but watching processes.
std::size_t descriptors_for(std::size_t connections);

// As many of the wanted connections as the limit of open files allows, raised as far as the system lets us; `taken`
// of them are for something else. Fewer than wanted are logged.
std::size_t connections_possible(std::size_t wanted, std::size_t taken);

}  // namespace run_recorder
