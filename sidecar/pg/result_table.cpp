#include "pg/result_table.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "pg/messages.h"

namespace carpool::pg {

void ResultTable::add(std::vector<std::string> row) {
  CHECK(row.size() == columns_.size());
  for (std::string& value : row) std::replace(value.begin(), value.end(), '\0', '?');
  rows_.push_back(std::move(row));
}

void ResultTable::append_to(Bytes& out) const {
  const auto count = static_cast<std::uint16_t>(columns_.size());
  const std::size_t description = begin_message(out, 'T');
  append_u16(out, count);
  for (const Column& column : columns_) {
    append_cstring(out, column.name);
    append_u32(out, 0);  // no table
    append_u16(out, 0);  // and no column of one
    append_u32(out, static_cast<std::uint32_t>(column.type));
    append_u16(out, column.type == ColumnType::Int8 ? 8 : 0xffff);
    append_u32(out, 0xffffffff);  // no modifier
    append_u16(out, 0);           // as text
  }
  finish_message(out, description);
  for (const std::vector<std::string>& row : rows_) {
    const std::size_t start = begin_message(out, 'D');
    append_u16(out, count);
    for (const std::string& value : row) {
      append_u32(out, static_cast<std::uint32_t>(value.size()));
      append_text(out, value);
    }
    finish_message(out, start);
  }
}

}  // namespace carpool::pg
