// Columns for a terminal: names to the left, figures to the right, two spaces between.
// Control characters of a cell are replaced: a client's name cannot write on the terminal.
#pragma once

#include <cstddef>
#include <initializer_list>
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

  // Makes it at most so wide: leaves out the columns of these headings, in this order, as far as is
  // needed, and at last cuts the lines. 0 columns: as wide as it likes.
  void fit(std::size_t columns, std::initializer_list<const char*> dispensable);

  // Lines, each ended by a line feed.
  std::string text() const;

 private:
  std::vector<std::size_t> widths() const;
  std::size_t columns_max_ = 0;
  std::vector<bool> left_;
  std::vector<std::vector<std::string>> rows_;  // the first holds the headings
};

// With '?' for control characters.
std::string printable(std::string text);

// Lines of at most so many columns, broken between words; a longer word has a line of its own.
std::string wrapped(const std::string& text, std::size_t columns);

// At most so many columns, with "..." where something was left out.
std::string cut(const std::string& text, std::size_t columns);

// How many columns UTF-8 text takes, one a character.
std::size_t width_of(const std::string& text);

// A time for people: "0", "85 us", "12 ms", "1.5 s", "3 min", "2 h".
std::string time_text(double seconds);

// A count for people: "950", "12.3k", "4.5M".
std::string count_text(double count);

}  // namespace carpool::cli
