// The parts that serving and the other actions have in common, made from the configuration. For the main thread.
#pragma once

#include <chrono>
#include <memory>
#include <optional>

#include "config/config.h"
#include "database/sqlite.h"
#include "queue/queues.h"
#include "recorder/recorder.h"
#include "spool/spool.h"

namespace run_recorder {

StoreOptions store_options_of(const Config& config);
QueueOptions queue_options_of(const Config& config, const Config::Queue& queue);
// All that are configured; none is connected to yet. deadline: of one question.
NamedQueues open_queues(const Config& config, std::chrono::milliseconds deadline);
// Opens and locks the spool and logs what was found. Throws StartError.
std::unique_ptr<Spool> open_spool(const Config& config);
// Claims the SQLite file; empty for PostgreSQL. Throws StartError (69) where another daemon has it.
std::optional<SqliteFileLock> claim_database(const Config& config);
// Not started. The spool outlives it.
std::unique_ptr<Recorder> make_recorder(const Config& config, Spool& spool, bool with_queues);

}  // namespace run_recorder
