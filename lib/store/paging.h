// Cursors of pages, the same for every database, and the bounds of a page. Pure, thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "store/store.h"

namespace run_recorder {

// A page ends at its limit of rows, or where its rows' JSON and texts exceed this (but never before its first row).
// Some copies of a page are in memory at once, on its way from the database to the socket, and of several readers.
inline constexpr std::size_t kPageBytes = 1 << 20;

// For one that none of these decodes (kInvalid).
Error invalid_cursor(std::string_view cursor);

// A place in a list ordered by (time, id): the last row of a page, by the text of its time as the database has it.
struct PagePlace {
  std::string time;
  std::string id;
};
// Opaque, of characters that need no escaping in a URL.
std::string encode_cursor(const PagePlace& place);
// Empty where the text is no such cursor.
std::optional<PagePlace> decode_cursor(std::string_view cursor);

// The same of a list of runs, which has two orders: kInvalid where the cursor is none, or belongs to the other order.
std::string encode_run_cursor(RunOrder by, const PagePlace& place);
Result<PagePlace> decode_run_cursor(RunOrder by, std::string_view cursor);

// A place in a list ordered by an id.
std::string encode_id_cursor(std::string_view id);
std::optional<std::string> decode_id_cursor(std::string_view cursor);  // the empty cursor is the empty id

// A place in a list ordered by a number (a seq, an id): its decimal digits. The empty cursor is 0.
std::optional<std::int64_t> decode_number_cursor(std::string_view cursor);

}  // namespace run_recorder
