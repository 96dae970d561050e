// As whom the daemon works. Started by root beside a spool of another user it becomes that user before it makes any
// file: a file of root in there would keep the service from starting ever after. For the main thread, before it
// starts others.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "config/config.h"

namespace run_recorder {

// The owner of the spool, where this is root and that is somebody else; else empty.
std::optional<uid_t> whom_to_act_as(const Config& config);
// Becomes that user for good, with its groups and its home folder; returns a sentence that says so. serves: folders
// of sockets that are missing are made first, as that user's. Throws StartError (69), with the command to use
// instead, where it may not.
std::string act_as(uid_t user, const Config& config, bool serves, const std::vector<std::string>& arguments);
// Throws StartError (69), naming the command that repairs it, where this user cannot work with a file of the spool or
// of the SQLite database.
void require_usable_files(const Config& config);

}  // namespace run_recorder
