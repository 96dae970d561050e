// A statement for PostgreSQL that is put together from parts, each of which brings its parameters. For the adapter's
// files; for one thread.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "database/pg_connection.h"

namespace run_recorder {

struct PgCommand {
  std::string sql;
  std::vector<PgParam> params;
  // Adds a parameter and returns how SQL names it. Binary ones come behind all others (PgConnection::exec).
  std::string param(PgParam value, std::string_view type) {
    params.push_back(std::move(value));
    return fmt::format("${}::{}", params.size(), type);
  }
};

}  // namespace run_recorder
