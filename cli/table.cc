#include "cli/table.h"

#include <algorithm>
#include <utility>

#include "cli/text.h"

namespace run_recorder {
namespace {

constexpr std::size_t kGap = 2;
constexpr int kSpare = 3;               // optional columns from here on go before others become hard to read
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
    : columns_(std::move(columns)), terminal_(terminal), shown_(columns_.size(), true), has_values_(columns_.size()) {
  for (const Column& column : columns_) natural_widths_.push_back(display_width(column.title));
}

void Table::add(std::vector<Cell> row) {
  row.resize(columns_.size());
  for (std::size_t i = 0; i < row.size(); ++i) {
    row[i].text = printable(row[i].text);
    natural_widths_[i] = std::max(natural_widths_[i], display_width(row[i].text));
    if (!row[i].text.empty()) has_values_[i] = true;
  }
  rows_.push_back(std::move(row));
}

// The widest column that may shrink gives first, one column of the screen at a time. False: that is not enough.
bool Table::shrink_to_fit(Floor floor) {
  const auto least = [&](std::size_t i) {
    return floor == Floor::kReadable ? std::max(columns_[i].shrinks_to, columns_[i].readable)
                                     : columns_[i].shrinks_to;
  };
  widths_ = natural_widths_;
  std::size_t total = 0;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    if (shown_[i]) total += widths_[i] + (total == 0 ? 0 : kGap);
  }
  for (; total > terminal_.columns; --total) {
    std::size_t widest = columns_.size();
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      const bool can = shown_[i] && columns_[i].shrinks_to > 0 && widths_[i] > least(i);
      if (can && (widest == columns_.size() || widths_[i] > widths_[widest])) widest = i;
    }
    if (widest == columns_.size()) return false;
    --widths_[widest];
  }
  return true;
}

// The highest of the optional columns that are at least this. False: there is none.
bool Table::leave_one_out(int least) {
  std::size_t found = columns_.size();
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    if (!shown_[i] || columns_[i].optional < least) continue;
    least = columns_[i].optional;
    found = i;
  }
  if (found == columns_.size()) return false;
  shown_[found] = false;
  return true;
}

void Table::settle_widths() {
  if (terminal_.columns == 0) {
    widths_ = natural_widths_;
    return;
  }
  for (std::size_t i = 0; i < columns_.size(); ++i) shown_[i] = has_values_[i] || !columns_[i].only_with_values;
  bool fits = shrink_to_fit(Floor::kReadable);
  while (!fits && leave_one_out(kSpare)) fits = shrink_to_fit(Floor::kReadable);
  if (!fits) fits = shrink_to_fit(Floor::kLeast);
  while (!fits && leave_one_out(1)) fits = shrink_to_fit(Floor::kLeast);
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
  if (shown_ != titled_) {
    std::vector<Cell> titles;
    for (const Column& column : columns_) titles.push_back({column.title, Colour::kDim});
    append_row(out, titles);
    titled_ = shown_;
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
