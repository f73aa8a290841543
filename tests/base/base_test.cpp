#include <gtest/gtest.h>

#include <numeric>

#include "base/buffer.h"
#include "base/bytes.h"
#include "base/intrusive_list.h"
#include "base/result.h"

namespace carpool {
namespace {

Bytes pattern(std::size_t n) {
  Bytes bytes(n);
  std::iota(bytes.begin(), bytes.end(), std::uint8_t{1});
  return bytes;
}

TEST(Buffer, OwnsNoMemoryWhenEmpty) {
  Buffer buffer;
  EXPECT_EQ(buffer.room(), 0u);
  buffer.append(pattern(10));
  EXPECT_GT(buffer.room(), 0u);
  buffer.consume(10);
  EXPECT_EQ(buffer.room(), 0u);
}

TEST(Buffer, KeepsItsBytesInOrderThroughGrowthAndConsumption) {
  Buffer buffer;
  Bytes expected;
  for (std::uint32_t round = 0; round < 200; ++round) {
    Bytes piece = pattern(round * 7 % 997 + 1);
    buffer.append(piece);
    append(expected, piece);
    std::uint32_t drop = round * 13 % 400;
    if (drop > buffer.size()) drop = buffer.size();
    buffer.consume(drop);
    expected.erase(expected.begin(), expected.begin() + drop);
    ASSERT_EQ(Bytes(buffer.bytes().begin(), buffer.bytes().end()), expected);
  }
}

TEST(Buffer, IsFilledInPlace) {
  Buffer buffer;
  buffer.append(pattern(5));
  std::uint8_t* room = buffer.reserve(5000);
  ASSERT_GE(buffer.room(), 5000u);
  std::memset(room, 7, 5000);
  buffer.add(5000);
  EXPECT_EQ(buffer.size(), 5005u);
  EXPECT_EQ(buffer.bytes()[4], 5);
  EXPECT_EQ(buffer.bytes()[5004], 7);
}

TEST(Buffer, GivesUnfilledRoomBackWhenNothingWasAdded) {
  Buffer buffer;
  buffer.reserve(100);
  buffer.add(0);
  EXPECT_EQ(buffer.room(), 0u);
}

TEST(Reader, StopsAtTheEndAndStaysThere) {
  Bytes body;
  append_u32(body, 0x01020304);
  append_cstring(body, "name");
  append_u8(body, 9);
  Reader reader(body);
  EXPECT_EQ(reader.u32(), 0x01020304u);
  EXPECT_EQ(reader.cstring(), "name");
  EXPECT_EQ(reader.u8(), 9);
  EXPECT_TRUE(reader.ok());
  EXPECT_EQ(reader.u16(), 0);
  EXPECT_FALSE(reader.ok());
  EXPECT_EQ(reader.u8(), 0);
}

TEST(Reader, RefusesAStringWithoutItsZero) {
  Reader reader(as_bytes("open"));
  EXPECT_EQ(reader.cstring(), "");
  EXPECT_FALSE(reader.ok());
}

struct ByName {};
struct Item : ListHook<ByName> {
  explicit Item(int n) : number(n) {}
  int number;
};

TEST(IntrusiveList, KeepsOrderAndCount) {
  IntrusiveList<Item, ByName> list;
  Item a(1), b(2), c(3);
  list.push_back(b);
  list.push_back(c);
  list.push_front(a);
  EXPECT_EQ(list.size(), 3u);
  EXPECT_EQ(list.front()->number, 1);
  EXPECT_EQ(list.back()->number, 3);
  EXPECT_EQ(list.next(a)->number, 2);
  EXPECT_EQ(list.next(c), nullptr);
  list.remove(b);
  EXPECT_FALSE(b.linked());
  int sum = 0;
  list.for_each([&](Item& item) {
    sum += item.number;
    list.remove(item);
  });
  EXPECT_EQ(sum, 4);
  EXPECT_TRUE(list.empty());
}

TEST(IntrusiveListDeathTest, AnElementInAListMustNotDie) {
  using List = IntrusiveList<Item, ByName>;
  EXPECT_DEATH(
      {
        List list;
        Item item(1);
        list.push_back(item);
      },
      "CHECK failed");
}

TEST(Result, HoldsAValueOrTheReasonForNone) {
  Result<int> good = 7;
  Result<int> bad = Error{"no such host"};
  EXPECT_TRUE(good);
  EXPECT_EQ(*good, 7);
  EXPECT_FALSE(bad);
  EXPECT_EQ(bad.error().message, "no such host");
}

}  // namespace
}  // namespace carpool
