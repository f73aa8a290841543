#include "pg/framer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

namespace carpool::pg {
namespace {

using Kind = Frame::Kind;
using Side = Framer::Side;

// A message of `total` bytes in all, with a body in which every offset looks different.
Bytes message(char type, std::uint32_t total) {
  Bytes out;
  append_u8(out, static_cast<std::uint8_t>(type));
  append_u32(out, total - 1);
  for (std::uint32_t i = Framer::kHeaderSize; i < total; ++i) {
    out.push_back(static_cast<std::uint8_t>(i * 31 + i / 251));
  }
  return out;
}

// What came out of a framer, put together again.
struct Received {
  std::vector<Bytes> messages;
  std::vector<std::uint32_t> heads;  // the size of each Head
  Bytes all;
  bool in_message = false;
};

// Stands for a connection: keeps what the framer does not take, and shows it again with more.
class Feed {
 public:
  explicit Feed(Side side) : framer_(side) {}

  void push(ByteSpan piece) {
    append(held_, piece);
    std::size_t taken = 0;
    for (;;) {
      const Frame frame = framer_.next(ByteSpan(held_).subspan(taken));
      if (frame.kind == Kind::NeedMore) break;
      ASSERT_NE(frame.kind, Kind::Bad);
      ASSERT_FALSE(frame.bytes.empty());
      receive(frame);
      framer_.take(frame);
      taken += frame.bytes.size();
      ASSERT_EQ(framer_.at_boundary(), frame.last);
    }
    held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(taken));
    held_max_ = std::max(held_max_, held_.size());
  }

  const Received& received() const { return received_; }
  std::size_t held() const { return held_.size(); }
  std::size_t held_max() const { return held_max_; }
  bool at_boundary() const { return framer_.at_boundary(); }

 private:
  void receive(const Frame& frame) {
    append(received_.all, frame.bytes);
    if (frame.kind == Kind::Body) {
      ASSERT_TRUE(received_.in_message);
      append(received_.messages.back(), frame.bytes);
    } else {
      ASSERT_FALSE(received_.in_message);
      ASSERT_EQ(static_cast<char>(frame.bytes[0]), frame.type);
      ASSERT_EQ(load_u32(frame.bytes.data() + 1) + 1, frame.total);
      ASSERT_EQ(frame.last, frame.kind == Kind::Whole);
      ASSERT_EQ(frame.body().size(), frame.bytes.size() - Framer::kHeaderSize);
      received_.messages.emplace_back(frame.bytes.begin(), frame.bytes.end());
      if (frame.kind == Kind::Head) {
        received_.heads.push_back(static_cast<std::uint32_t>(frame.bytes.size()));
      }
    }
    received_.in_message = !frame.last;
  }

  Framer framer_;
  Bytes held_;
  std::size_t held_max_ = 0;
  Received received_;
};

Bytes joined(const std::vector<Bytes>& messages) {
  Bytes out;
  for (const Bytes& one : messages) append(out, one);
  return out;
}

class BothSides : public testing::TestWithParam<Side> {};

INSTANTIATE_TEST_SUITE_P(Framer, BothSides, testing::Values(Side::FromClient, Side::FromServer),
                         [](const testing::TestParamInfo<Side>& side) {
                           return std::string(side.param == Side::FromClient ? "FromClient"
                                                                             : "FromServer");
                         });

TEST_P(BothSides, GiveTheSameMessagesForEverySplitPoint) {
  const std::vector<Bytes> sent = {message('S', 5),  message('Q', 30), message('D', 17),
                                   message('d', 64), message('C', 11), message('Z', 6),
                                   message('P', 40), message('E', 9),  message('T', 33)};
  const Bytes stream = joined(sent);
  for (std::size_t split = 0; split <= stream.size(); ++split) {
    Feed feed(GetParam());
    feed.push(ByteSpan(stream).first(split));
    feed.push(ByteSpan(stream).subspan(split));
    ASSERT_EQ(feed.received().messages, sent) << "split at " << split;
    ASSERT_TRUE(feed.at_boundary());
    ASSERT_EQ(feed.held(), 0u);
  }
}

TEST_P(BothSides, GiveTheSameMessagesForEveryPairOfSplitPoints) {
  const std::vector<Bytes> sent = {message('d', 12), message('S', 5), message('Q', 14)};
  const Bytes stream = joined(sent);
  for (std::size_t first = 0; first <= stream.size(); ++first) {
    for (std::size_t second = first; second <= stream.size(); ++second) {
      Feed feed(GetParam());
      feed.push(ByteSpan(stream).first(first));
      feed.push(ByteSpan(stream).subspan(first, second - first));
      feed.push(ByteSpan(stream).subspan(second));
      ASSERT_EQ(feed.received().messages, sent) << first << ", " << second;
    }
  }
}

// Of a client, those that bring neither a text nor data.
bool is_small(char type) {
  return std::string_view("CDEXcf").find(type) != std::string_view::npos;
}

TEST(Framer, TakesNoSmallMessageOfAClientThatIsLongerThanPostgresqlTakes) {
  for (const char type : std::string_view("CDEXcf")) {
    Bytes longest = message(type, 1 + Framer::kSmallMax);
    EXPECT_EQ(Framer(Side::FromClient).next(longest).kind, Kind::Whole) << type;
    const Bytes longer = message(type, 2 + Framer::kSmallMax);
    EXPECT_EQ(Framer(Side::FromClient).next(longer).kind, Kind::Bad) << type;
    EXPECT_EQ(Framer(Side::FromServer).next(longer).kind, Kind::Whole) << type;
  }
  for (const char type : std::string_view("HS")) {
    EXPECT_EQ(Framer(Side::FromClient).next(message(type, 5)).kind, Kind::Whole) << type;
    EXPECT_EQ(Framer(Side::FromClient).next(message(type, 6)).kind, Kind::Bad) << type;
  }
}

TEST_P(BothSides, LoseNothingOfALargeMessageForEverySplitNearItsEdges) {
  for (const char type : {'d', 'D', 'B', 'Q', 'T', 'E'}) {
    if (GetParam() == Side::FromClient && is_small(type)) continue;
    const std::vector<Bytes> sent = {message('S', 5), message(type, Framer::kHeadSize + 900),
                                     message('S', 5)};
    const Bytes stream = joined(sent);
    std::vector<std::size_t> splits;
    for (std::size_t i = 0; i < 40; ++i) {
      splits.push_back(i);
      splits.push_back(Framer::kHeadSize - 20 + i);
      splits.push_back(stream.size() - i);
    }
    for (const std::size_t split : splits) {
      Feed feed(GetParam());
      feed.push(ByteSpan(stream).first(split));
      feed.push(ByteSpan(stream).subspan(split));
      ASSERT_EQ(feed.received().messages, sent) << type << " split at " << split;
    }
  }
}

TEST_P(BothSides, PutRandomStreamsTogetherAgainFromPiecesOfRandomSize) {
  constexpr char kTypes[] = "QPBDECSHFdcfpX123nTtZAKRNGWHVIvs";
  for (std::uint32_t seed = 1; seed <= 24; ++seed) {
    std::mt19937 random(seed);
    const auto upto = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
    std::vector<Bytes> sent;
    for (std::uint32_t i = 0; i < 120; ++i) {
      const char type = kTypes[upto(sizeof kTypes - 1)];
      const std::uint32_t dice = upto(100);
      const bool small = GetParam() == Side::FromClient && is_small(type);
      const bool bare = GetParam() == Side::FromClient && (type == 'H' || type == 'S');
      const std::uint32_t body = bare                 ? 0
                                 : dice < 80          ? upto(60)
                                 : dice < 97 || small ? upto(3000)
                                                      : upto(90'000);
      sent.push_back(message(type, Framer::kHeaderSize + body));
    }
    const Bytes stream = joined(sent);
    Feed feed(GetParam());
    const std::uint32_t piece_max = seed % 3 == 0 ? 7 : seed % 3 == 1 ? 1500 : 70'000;
    for (std::size_t at = 0; at < stream.size();) {
      const std::size_t n = std::min<std::size_t>(1 + upto(piece_max), stream.size() - at);
      feed.push(ByteSpan(stream).subspan(at, n));
      at += n;
    }
    ASSERT_EQ(feed.received().all, stream) << "seed " << seed;
    ASSERT_EQ(feed.received().messages, sent) << "seed " << seed;
    ASSERT_TRUE(feed.at_boundary());
  }
}

TEST(Framer, WaitsForTheRestOfAHeaderSplitAcrossReads) {
  const Bytes query = message('Q', 20);
  const Framer framer(Side::FromClient);
  for (std::size_t n = 0; n < Framer::kHeaderSize; ++n) {
    const Frame frame = framer.next(ByteSpan(query).first(n));
    EXPECT_EQ(frame.kind, Kind::NeedMore);
    EXPECT_EQ(frame.total, 0u) << "nothing is known yet";
  }
  const Frame frame = framer.next(ByteSpan(query).first(Framer::kHeaderSize));
  EXPECT_EQ(frame.kind, Kind::NeedMore);
  EXPECT_EQ(frame.total, 20u);
  EXPECT_EQ(frame.type, 'Q');
}

TEST(Framer, TakesTheShortestMessageWhole) {
  const Bytes sync = message('S', 5);
  const Frame frame = Framer(Side::FromClient).next(sync);
  EXPECT_EQ(frame.kind, Kind::Whole);
  EXPECT_TRUE(frame.last);
  EXPECT_TRUE(frame.body().empty());
}

TEST(Framer, LooksAgainAtWhatWasNotTaken) {
  const Bytes stream = joined({message('Q', 20), message('S', 5)});
  Framer framer(Side::FromClient);
  for (int i = 0; i < 3; ++i) {
    const Frame frame = framer.next(stream);
    EXPECT_EQ(frame.kind, Kind::Whole);
    EXPECT_EQ(frame.type, 'Q');
    EXPECT_EQ(frame.bytes.size(), 20u);
  }
}

TEST_P(BothSides, RefuseEveryLengthThatCannotBe) {
  for (const std::uint32_t length : {0u, 1u, 2u, 3u, Framer::kFrameMax, Framer::kFrameMax + 1,
                                     0x7fffffffu, 0x80000000u, 0xffffffffu}) {
    for (const char type : {'Q', 'D', 'd', 'Z', '\0', '\xff'}) {
      Bytes bytes;
      append_u8(bytes, static_cast<std::uint8_t>(type));
      append_u32(bytes, length);
      EXPECT_EQ(Framer(GetParam()).next(bytes).kind, Kind::Bad) << type << " " << length;
      bytes.resize(4000);
      EXPECT_EQ(Framer(GetParam()).next(bytes).kind, Kind::Bad) << type << " " << length;
    }
  }
}

TEST(Framer, AcceptsTheLongestMessageThatPostgresqlDoes) {
  Bytes bytes;
  append_u8(bytes, 'D');
  append_u32(bytes, Framer::kFrameMax - 1);
  Framer framer(Side::FromServer);
  const Frame head = framer.next(bytes);
  ASSERT_EQ(head.kind, Kind::Head);
  EXPECT_EQ(head.total, Framer::kFrameMax);
  framer.take(head);
  const Bytes piece(1u << 20);
  std::uint32_t left = Framer::kFrameMax - Framer::kHeaderSize;
  while (left > 0) {
    ASSERT_FALSE(framer.at_boundary());
    const Frame body = framer.next(piece);
    ASSERT_EQ(body.kind, Kind::Body);
    ASSERT_EQ(body.bytes.size(), std::min<std::size_t>(left, piece.size()));
    left -= static_cast<std::uint32_t>(body.bytes.size());
    ASSERT_EQ(body.last, left == 0);
    framer.take(body);
  }
  EXPECT_TRUE(framer.at_boundary());
}

// How many bytes of a message of `total` bytes must be there before it is given out.
std::uint32_t needed(Side side, char type, std::uint32_t total) {
  const Bytes bytes = message(type, total);
  const Framer framer(side);
  std::uint32_t low = 0;
  std::uint32_t high = total;
  while (low < high) {
    const std::uint32_t middle = (low + high) / 2;
    if (framer.next(ByteSpan(bytes).first(middle)).kind == Kind::NeedMore) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

TEST(Framer, HoldsOnlyTheHeaderOfWhatIsPassedOnUnread) {
  for (const char type : {'D', 'd', 'T', 't', 'V'}) {
    EXPECT_EQ(needed(Side::FromServer, type, 100'000), Framer::kHeaderSize) << type;
    EXPECT_EQ(needed(Side::FromServer, type, 6), Framer::kHeaderSize) << type;
  }
  for (const char type : {'d', 'F'}) {
    EXPECT_EQ(needed(Side::FromClient, type, 100'000), Framer::kHeaderSize) << type;
  }
}

TEST(Framer, HoldsAStatementTextWholeUpToItsLimit) {
  for (const char type : {'Q', 'P'}) {
    EXPECT_EQ(needed(Side::FromClient, type, 100'000), 100'000u) << type;
    EXPECT_EQ(needed(Side::FromClient, type, Framer::kTextMax), Framer::kTextMax) << type;
    EXPECT_EQ(needed(Side::FromClient, type, Framer::kTextMax + 5000), Framer::kTextMax) << type;
  }
}

TEST(Framer, HoldsAPasswordWholeUpToPostgresLimit) {
  EXPECT_EQ(needed(Side::FromClient, 'p', 2000), 2000u);
  EXPECT_EQ(needed(Side::FromClient, 'p', Framer::kPasswordMax), Framer::kPasswordMax);
  EXPECT_EQ(needed(Side::FromClient, 'p', 500'000), Framer::kPasswordMax);
}

TEST(Framer, HoldsTheStartOfOtherMessages) {
  EXPECT_EQ(needed(Side::FromClient, 'B', 500), 500u);
  EXPECT_EQ(needed(Side::FromClient, 'B', 500'000), Framer::kHeadSize);
  for (const char type : {'E', 'N', 'S', 'C', 'A'}) {
    EXPECT_EQ(needed(Side::FromServer, type, 500), 500u) << type;
    EXPECT_EQ(needed(Side::FromServer, type, 500'000), Framer::kHeadSize) << type;
  }
}

TEST_P(BothSides, NeverMakeTheCallerHoldMoreThanTheTextLimit) {
  const std::vector<Bytes> sent = {message('Q', Framer::kTextMax * 2), message('d', 3'000'000),
                                   message('B', 400'000), message('P', Framer::kTextMax - 1)};
  const Bytes stream = joined(sent);
  Feed feed(GetParam());
  constexpr std::size_t kPiece = 4096;
  for (std::size_t at = 0; at < stream.size(); at += kPiece) {
    feed.push(ByteSpan(stream).subspan(at, std::min(kPiece, stream.size() - at)));
    ASSERT_LT(feed.held(), Framer::kTextMax);
  }
  EXPECT_EQ(feed.received().messages, sent);
  if (GetParam() == Side::FromServer) {
    EXPECT_LT(feed.held_max(), Framer::kHeadSize);
  }
}

TEST(Framer, TellsTheMessageOfABodyByItsHead) {
  const Bytes copy = message('d', 50);
  Framer framer(Side::FromClient);
  const Frame head = framer.next(ByteSpan(copy).first(20));
  ASSERT_EQ(head.kind, Kind::Head);
  framer.take(head);
  EXPECT_EQ(framer.next({}).kind, Kind::NeedMore);
  // 'S' would be a message of its own, were this not the middle of another.
  const Bytes sync_like = message('S', 30);
  const Frame body = framer.next(sync_like);
  EXPECT_EQ(body.kind, Kind::Body);
  EXPECT_EQ(body.type, 'd');
  EXPECT_EQ(body.bytes.size(), 30u);
  EXPECT_TRUE(body.last);
}

}  // namespace
}  // namespace carpool::pg
