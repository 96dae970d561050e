// A database that has the tables, for tests that do not look at how these are made: a copy of one that is migrated
// once in a process, which takes a third of the time.
#pragma once

#include <stdexcept>
#include <string>

#include "store/store.h"
#include "support/private_postgres.h"

namespace run_recorder::testing {

// Of the shared cluster; returns its url.
inline std::string create_migrated_database() {
  static const std::string migrated = [] {
    StoreOptions options;
    options.url = PrivatePostgres::shared().create_database();
    const auto done = migrate(options, false);
    if (!done) throw std::runtime_error(done.error().message);
    return PrivatePostgres::database_of(options.url);
  }();
  return PrivatePostgres::shared().create_database("TEMPLATE " + migrated);
}

}  // namespace run_recorder::testing
