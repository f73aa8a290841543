// Columns for a terminal: names to the left, figures to the right, two spaces between.
// Control characters of a cell are replaced: a client's name cannot write on the terminal.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace carpool::cli {

class Table {
 public:
  // A column whose heading starts with '<' is aligned to the left, and the heading written without
  // it; the others are aligned to the right.
  explicit Table(std::vector<std::string> headings);

  // As many cells as headings.
  void add(std::vector<std::string> cells);

  // Lines, each ended by a line feed.
  std::string text() const;

 private:
  std::vector<bool> left_;
  std::vector<std::vector<std::string>> rows_;  // the first holds the headings
};

// With '?' for control characters.
std::string printable(std::string text);

// How many columns UTF-8 text takes, one a character.
std::size_t width_of(const std::string& text);

// A time for people: "0", "85 us", "12 ms", "1.5 s", "3 min", "2 h".
std::string time_text(double seconds);

// A count for people: "950", "12.3k", "4.5M".
std::string count_text(double count);

}  // namespace carpool::cli
