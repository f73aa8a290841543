// ResultTable: rows that Carpool itself answers a simple query with, as protocol messages. It holds
// texts and builds RowDescription and DataRow from them; it never sends, and says neither
// CommandComplete nor ReadyForQuery.
//
// Invariant: every row has as many values as there are columns.
// Source: PostgreSQL manual, "Message Formats"; type numbers from pg_type.dat.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace carpool::pg {

enum class ColumnType : std::uint32_t { Int8 = 20, Text = 25 };

struct Column {
  std::string_view name;  // of static lifetime
  ColumnType type = ColumnType::Text;
};

class ResultTable {
 public:
  explicit ResultTable(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // As many as there are columns; CHECKed.
  void add(std::vector<std::string> row);

  const std::vector<Column>& columns() const { return columns_; }
  const std::vector<std::vector<std::string>>& rows() const { return rows_; }

  // A zero byte inside a text becomes '?'.
  void append_to(Bytes& out) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace carpool::pg
