// ScanMemo: the scans of the short texts that come again and again as simple queries (BEGIN,
// COMMIT, a ping), so that each is scanned once and not per execution, and its effects are shared,
// not allocated anew.
//
// A fixed number of places, chosen by the text's hash; a text takes the place of the one before it.
// It never grows, never forgets a text that nobody displaces, and answers exactly what scan() does.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>

#include "pg/sql_scan.h"

namespace carpool::pg {

class ScanMemo {
 public:
  static constexpr std::size_t kPlaces = 128;
  // Longer texts carry values, as a rule, and do not come again.
  static constexpr std::size_t kTextBytesMax = 64;

  // Null for a text without effects.
  // Valid for as long as somebody holds it.
  std::shared_ptr<const Scan> scan(std::string_view sql, const ScanOptions& options = {});

 private:
  struct Place {
    std::string text;
    std::shared_ptr<const Scan> scan;
    bool taken = false;
    ScanOptions options;
  };
  std::array<Place, kPlaces> places_;
};

}  // namespace carpool::pg
