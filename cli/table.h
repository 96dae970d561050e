// Rows in aligned columns that fit the terminal. Into a pipe nothing is cut. One thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "cli/terminal.h"

namespace run_recorder {

struct Column {
  std::string title;
  bool right = false;          // numbers stand at the right
  std::size_t shrinks_to = 0;  // may be cut to this many columns where the terminal is narrow; 0: never cut
  int optional = 0;            // above 0: left out where it still does not fit, the highest and then the last first
  bool only_with_values = false;  // on a terminal left out until a row has a value
  std::size_t readable = 0;       // cut to less than this only once what is optional above 2 is left out
};

struct Cell {
  std::string text;  // made printable by the table
  Colour colour = Colour::kNone;
};

class Table {
 public:
  Table(std::vector<Column> columns, const Terminal& terminal);

  void add(std::vector<Cell> row);
  bool empty() const { return rows_.empty(); }
  // The rows added since the last call, under the titles the first time, and again where a column has come in. Widths
  // only grow from call to call, so pages of a long list stand under each other.
  std::string render();

 private:
  void settle_widths();
  enum class Floor { kReadable, kLeast };
  bool shrink_to_fit(Floor floor);
  bool leave_one_out(int least);
  void append_row(std::string& out, const std::vector<Cell>& row) const;

  std::vector<Column> columns_;
  Terminal terminal_;
  std::vector<std::vector<Cell>> rows_;
  std::vector<std::size_t> natural_widths_;
  std::vector<std::size_t> widths_;  // as shown
  std::vector<bool> shown_;
  std::vector<bool> has_values_;
  std::vector<bool> titled_;  // the columns under the last titles; empty before the first
};

// "name:  value" lines with the values under each other.
class Facts {
 public:
  explicit Facts(const Terminal& terminal) : terminal_(terminal) {}
  void add(std::string name, std::string_view value, Colour colour = Colour::kNone);
  std::string render() const;

 private:
  struct Fact {
    std::string name;
    std::string value;
    Colour colour;
  };
  Terminal terminal_;
  std::vector<Fact> facts_;
};

}  // namespace run_recorder
