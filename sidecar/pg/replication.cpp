#include "pg/replication.h"

#include <algorithm>
#include <utility>

namespace carpool::pg {
namespace {

// Letters beyond ASCII never match, whatever the locale.
char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

// Whether `value` is a prefix of `word`, at least `least` long.
bool abbreviates(std::string_view value, std::string_view word, std::size_t least) {
  return value.size() >= least && value.size() <= word.size() &&
         std::equal(value.begin(), value.end(), word.begin(),
                    [](char given, char meant) { return lower(given) == meant; });
}

}  // namespace

std::string replication_meant(std::string_view value) {
  struct Spelling {
    std::string_view word;
    std::size_t least;  // "o" could be either of two
    bool meaning;
  };
  constexpr Spelling kSpellings[] = {{"true", 1, true}, {"false", 1, false}, {"yes", 1, true},
                                     {"no", 1, false},  {"on", 2, true},     {"off", 2, false},
                                     {"1", 1, true},    {"0", 1, false}};
  for (const Spelling& spelling : kSpellings) {
    if (abbreviates(value, spelling.word, spelling.least)) return spelling.meaning ? "true" : "";
  }
  return std::string(value);
}

}  // namespace carpool::pg
