#include "pg/scan_memo.h"

#include <functional>

namespace carpool::pg {
namespace {

std::shared_ptr<const Scan> scan_shared(std::string_view sql, const ScanOptions& options) {
  Scan scan = pg::scan(sql, options);
  if (scan.effects.empty() && !scan.too_complex) return nullptr;
  return std::make_shared<const Scan>(std::move(scan));
}

}  // namespace

std::shared_ptr<const Scan> ScanMemo::scan(std::string_view sql, const ScanOptions& options) {
  if (leaves_nothing(sql)) return nullptr;
  if (sql.size() > kTextBytesMax) return scan_shared(sql, options);
  Place& place = places_[std::hash<std::string_view>()(sql) % kPlaces];
  const bool known = place.taken && place.text == sql && place.options == options;
  if (!known) {
    place.scan = scan_shared(sql, options);
    place.text = sql;
    place.taken = true;
    place.options = options;
  }
  return place.scan;
}

}  // namespace carpool::pg
