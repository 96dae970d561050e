#include "store/pg_array.h"

#include <utility>

namespace run_recorder {
namespace {

// Dimensions, whether there are NULLs, the elements' type; then of the dimension its length and its first index.
constexpr std::size_t kHasNullAt = 4;
constexpr std::size_t kLengthAt = 12;

void append_big_endian(std::string& bytes, std::uint64_t value, int count) {
  for (int shift = (count - 1) * 8; shift >= 0; shift -= 8) bytes += static_cast<char>((value >> shift) & 0xFFU);
}

void write_big_endian(std::string& bytes, std::size_t at, std::uint32_t value) {
  std::string four;
  append_big_endian(four, value, 4);
  bytes.replace(at, four.size(), four);
}

}  // namespace

PgArray::PgArray(Type type) {
  for (const std::uint32_t word : {1U, 0U, static_cast<std::uint32_t>(type), 0U, 1U})
    append_big_endian(bytes_, word, 4);
}

void PgArray::begin_element(std::int32_t bytes) {
  ++elements_;
  append_big_endian(bytes_, static_cast<std::uint32_t>(bytes), 4);
}

void PgArray::text(std::string_view value) {
  begin_element(static_cast<std::int32_t>(value.size()));
  bytes_ += value;
}

void PgArray::bigint(std::int64_t value) {
  begin_element(8);
  append_big_endian(bytes_, static_cast<std::uint64_t>(value), 8);
}

void PgArray::boolean(bool value) {
  begin_element(1);
  bytes_ += value ? '\1' : '\0';
}

void PgArray::null() {
  begin_element(-1);
  has_null_ = true;
}

std::string PgArray::take() && {
  write_big_endian(bytes_, kHasNullAt, has_null_ ? 1 : 0);
  write_big_endian(bytes_, kLengthAt, static_cast<std::uint32_t>(elements_));
  return std::move(bytes_);
}

}  // namespace run_recorder
