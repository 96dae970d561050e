#include "cli/table.h"

#include <algorithm>
#include <utility>

#include "cli/text.h"

namespace run_recorder {
namespace {

constexpr std::size_t kGap = 2;
constexpr std::size_t kLeastRoom = 20;  // for the values of facts; with less they are not wrapped

// Cut at spaces into lines of at most so many columns; a word that is longer stays whole. 0: one line.
std::vector<std::string_view> wrapped(std::string_view text, std::size_t columns) {
  std::vector<std::string_view> lines;
  while (columns > 0 && display_width(text) > columns) {
    std::size_t cut = std::string_view::npos;
    for (std::size_t space = text.find(' '); space != std::string_view::npos; space = text.find(' ', space + 1)) {
      if (cut != std::string_view::npos && display_width(text.substr(0, space)) > columns) break;
      cut = space;
    }
    if (cut == std::string_view::npos) break;
    lines.push_back(text.substr(0, cut));
    text.remove_prefix(cut + 1);
  }
  lines.push_back(text);
  return lines;
}

}  // namespace

Table::Table(std::vector<Column> columns, const Terminal& terminal)
    : columns_(std::move(columns)), terminal_(terminal), shown_(columns_.size(), true) {
  for (const Column& column : columns_) natural_widths_.push_back(display_width(column.title));
}

void Table::add(std::vector<Cell> row) {
  row.resize(columns_.size());
  for (std::size_t i = 0; i < row.size(); ++i) {
    row[i].text = printable(row[i].text);
    natural_widths_[i] = std::max(natural_widths_[i], display_width(row[i].text));
  }
  rows_.push_back(std::move(row));
}

// The widest column that may shrink gives first, one column of the screen at a time. False: that is not enough.
bool Table::shrink_to_fit() {
  widths_ = natural_widths_;
  std::size_t total = 0;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    if (shown_[i]) total += widths_[i] + (total == 0 ? 0 : kGap);
  }
  for (; total > terminal_.columns; --total) {
    std::size_t widest = columns_.size();
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      const bool can = shown_[i] && columns_[i].shrinks_to > 0 && widths_[i] > columns_[i].shrinks_to;
      if (can && (widest == columns_.size() || widths_[i] > widths_[widest])) widest = i;
    }
    if (widest == columns_.size()) return false;
    --widths_[widest];
  }
  return true;
}

void Table::settle_widths() {
  if (terminal_.columns == 0) {
    widths_ = natural_widths_;
    return;
  }
  while (!shrink_to_fit()) {
    std::size_t least = columns_.size();
    int highest = 0;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      if (!shown_[i] || columns_[i].optional == 0 || columns_[i].optional < highest) continue;
      highest = columns_[i].optional;
      least = i;
    }
    if (least == columns_.size()) return;
    shown_[least] = false;
  }
}

void Table::append_row(std::string& out, const std::vector<Cell>& row) const {
  std::string line;
  std::size_t owed = 0;  // padding is written only before something, so that no line ends in spaces
  for (std::size_t i = 0; i < row.size(); ++i) {
    if (!shown_[i]) continue;
    const std::string text =
        terminal_.columns == 0 || columns_[i].shrinks_to == 0 ? row[i].text : fit(row[i].text, widths_[i]);
    const std::size_t width = display_width(text);
    const std::size_t padding = widths_[i] > width ? widths_[i] - width : 0;
    const std::size_t before = columns_[i].right ? padding : 0;
    if (!text.empty()) {
      line.append(owed + before, ' ').append(coloured(text, row[i].colour, terminal_));
      owed = padding - before + kGap;
    } else {
      owed += widths_[i] + kGap;
    }
  }
  out.append(line).append("\n");
}

std::string Table::render() {
  settle_widths();
  std::string out;
  if (!titled_) {
    std::vector<Cell> titles;
    for (const Column& column : columns_) titles.push_back({column.title, Colour::kDim});
    append_row(out, titles);
    titled_ = true;
  }
  for (const std::vector<Cell>& row : rows_) append_row(out, row);
  rows_.clear();
  return out;
}

void Facts::add(std::string name, std::string_view value, Colour colour) {
  facts_.push_back({std::move(name), printable(value), colour});
}

std::string Facts::render() const {
  std::size_t widest = 0;
  for (const Fact& fact : facts_) widest = std::max(widest, display_width(fact.name));
  std::string out;
  for (const Fact& fact : facts_) {
    out += coloured(fact.name, Colour::kDim, terminal_);
    out.append(widest - display_width(fact.name) + kGap, ' ');
    const std::size_t indent = widest + kGap;
    const std::size_t room = terminal_.columns > indent + kLeastRoom ? terminal_.columns - indent : 0;
    bool first = true;
    for (const std::string_view line : wrapped(fact.value, room)) {
      if (!std::exchange(first, false)) out.append(indent, ' ');
      out += coloured(line, fact.colour, terminal_) + "\n";
    }
  }
  return out;
}

}  // namespace run_recorder
