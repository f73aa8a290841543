#include "pg/result_shape.h"

#include <gtest/gtest.h>

#include "pg/messages.h"

namespace carpool::pg {
namespace {

struct Column {
  std::string_view name;
  std::uint32_t type = 23;
  std::uint32_t modifier = 0xffffffff;
  std::uint32_t table = 0;
  std::uint16_t format = 0;
};

Bytes description(std::initializer_list<Column> columns) {
  Bytes body;
  append_u16(body, static_cast<std::uint16_t>(columns.size()));
  for (const Column& column : columns) {
    append_cstring(body, column.name);
    append_u32(body, column.table);
    append_u16(body, 1);
    append_u32(body, column.type);
    append_u16(body, 4);
    append_u32(body, column.modifier);
    append_u16(body, column.format);
  }
  return body;
}

ResultShape shape(std::initializer_list<Column> columns) {
  return result_shape('T', description(columns));
}

TEST(ResultShape, IsOfNamesTypesAndModifiers) {
  const ResultShape one = shape({{.name = "n"}});
  EXPECT_EQ(one, shape({{.name = "n"}}));
  EXPECT_NE(one, shape({{.name = "m"}}));
  EXPECT_NE(one, shape({{.name = "n", .type = 25}}));
  EXPECT_NE(one, shape({{.name = "n", .modifier = 8}}));
  EXPECT_NE(one, shape({{.name = "n"}, {.name = "n"}}));
  EXPECT_NE(shape({{.name = "a"}, {.name = "b"}}), shape({{.name = "b"}, {.name = "a"}}));
  EXPECT_GT(shape({}), kShapeUnseen);
}

TEST(ResultShape, IsTheSameForAStatementAndItsPortal) {
  EXPECT_EQ(shape({{.name = "n"}}), shape({{.name = "n", .format = 1}}));
  // And for a table that was made again.
  EXPECT_EQ(shape({{.name = "n", .table = 16385}}), shape({{.name = "n", .table = 16999}}));
}

TEST(ResultShape, OfWhatIsNotWholeIsUnseen) {
  EXPECT_EQ(result_shape('n', {}), kShapeNoRows);
  EXPECT_EQ(result_shape('T', {}), kShapeUnseen);
  const Bytes body = description({{.name = "first"}, {.name = "second"}});
  for (std::size_t size = 0; size < body.size(); ++size) {
    EXPECT_EQ(result_shape('T', ByteSpan(body).first(size)), kShapeUnseen) << size;
  }
}

TEST(ResultShape, DiffersOnlyWhereBothAreKnown) {
  const ResultShape a = shape({{.name = "a"}});
  const ResultShape b = shape({{.name = "b"}});
  EXPECT_TRUE(differs(a, b));
  EXPECT_TRUE(differs(a, kShapeNoRows));
  EXPECT_FALSE(differs(a, a));
  for (const ResultShape any : {a, kShapeNoRows}) {
    EXPECT_FALSE(differs(any, kShapeUnknown));
    EXPECT_FALSE(differs(kShapeUnknown, any));
    EXPECT_FALSE(differs(any, kShapeUnseen));
    EXPECT_FALSE(differs(kShapeUnseen, any));
  }
}

}  // namespace
}  // namespace carpool::pg
