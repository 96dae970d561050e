// One-dimensional arrays in PostgreSQL's binary format, as parameters: they cost the server a fraction of what their
// text does. Pure; for one thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace run_recorder {

class PgArray {
 public:
  // Of the elements, as in pg_type.
  enum class Type : std::uint32_t { kBoolean = 16, kBigint = 20, kText = 25, kTimestamp = 1114, kTimestamptz = 1184 };
  explicit PgArray(Type type);

  void text(std::string_view value);  // kText
  void bigint(std::int64_t value);    // kBigint, and of the times the microseconds since 2000
  void boolean(bool value);           // kBoolean
  void null();

  std::string take() &&;

 private:
  void begin_element(std::int32_t bytes);

  std::string bytes_;
  std::int32_t elements_ = 0;
  bool has_null_ = false;
};

}  // namespace run_recorder
