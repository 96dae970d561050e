#include "base/utf8.h"

namespace run_recorder {
namespace {

bool is_continuation(unsigned char byte) {
  return (byte & 0xC0) == 0x80;
}

// How long the sequence is that begins with lead, and what its second byte may be; length 0 where none begins so.
struct SequenceForm {
  std::size_t length;
  unsigned char lowest_second, highest_second;
};

SequenceForm form_of(unsigned char lead) {
  if (lead < 0x80) return {1, 0, 0};
  if (lead < 0xC2) return {0, 0, 0};
  if (lead < 0xE0) return {2, 0x80, 0xBF};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};
  if (lead == 0xED) return {3, 0x80, 0x9F};
  if (lead < 0xF0) return {3, 0x80, 0xBF};
  if (lead == 0xF0) return {4, 0x90, 0xBF};
  if (lead < 0xF4) return {4, 0x80, 0xBF};
  if (lead == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

std::size_t utf8_sequence_length(std::string_view text) {
  if (text.empty()) return 0;
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const SequenceForm form = form_of(byte(0));
  if (form.length == 0 || text.size() < form.length) return 0;
  if (form.length > 1 && (byte(1) < form.lowest_second || byte(1) > form.highest_second)) return 0;
  for (std::size_t i = 2; i < form.length; ++i) {
    if (!is_continuation(byte(i))) return 0;
  }
  return form.length;
}

std::string_view utf8_prefix(std::string_view text, std::size_t max_bytes) {
  if (text.size() <= max_bytes) return text;
  while (max_bytes > 0 && is_continuation(static_cast<unsigned char>(text[max_bytes]))) --max_bytes;
  return text.substr(0, max_bytes);
}

}  // namespace run_recorder
