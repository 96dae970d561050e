// What CMake makes of the files under migrations/ (lib/store/CMakeLists.txt writes the definitions). Read through
// migrations.h. Pure, thread-safe.
#pragma once

#include <span>
#include <string_view>

namespace run_recorder {

struct MigrationFile {
  std::string_view name;  // without ".sql"
  std::string_view sql;
};
std::span<const MigrationFile> postgresql_migration_files();
std::span<const MigrationFile> sqlite_migration_files();

}  // namespace run_recorder
