#include "pg/reply_queue.h"

#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <string>
#include <vector>

namespace carpool::pg {
namespace {

// A request that says what it is, and by what it is known again.
struct Asked {
  Wire request;
  bool ours = false;
  std::uint32_t tag = 0;
};
Wire wire_of(const Asked& asked) {
  return asked.request;
}
bool is_ours(const Asked& asked) {
  return asked.ours;
}
using Queue = ReplyQueue<Asked>;

// A queue and what it has said, for tests that read as a conversation.
class Talk {
 public:
  Talk& send(Wire request, bool ours = false) {
    tracker.sent(Asked{request, ours, ++tag_});
    return *this;
  }
  // A message of a type; for Z with a status. Says whether it goes to the client.
  bool reply(char type, char status = 0) {
    skipped.clear();
    last = tracker.reply(type, status, [this](Asked& entry) { skipped.push_back(entry.request); });
    return last.forward;
  }
  // Several, all of which go to the client: "CZ" stands for CommandComplete, ReadyForQuery `I`.
  void replies(const std::string& types) {
    for (const char type : types) EXPECT_TRUE(reply(type, 'I')) << type;
  }

  Queue tracker;
  Queue::Verdict last;
  std::vector<Wire> skipped;

 private:
  std::uint32_t tag_ = 0;
};

TEST(ReplyQueue, OwesNothingAtFirst) {
  Queue tracker;
  EXPECT_TRUE(tracker.idle());
  EXPECT_FALSE(tracker.full());
  EXPECT_FALSE(tracker.batch_open());
  EXPECT_FALSE(tracker.copy_in());
  EXPECT_FALSE(tracker.skipping());
  EXPECT_FALSE(tracker.front_is_ours());
  EXPECT_EQ(tracker.status(), 'I');
}

TEST(ReplyQueue, EndsASimpleQueryAtReadyForQuery) {
  Talk talk;
  talk.send(Wire::Query);
  EXPECT_FALSE(talk.tracker.idle());
  EXPECT_FALSE(talk.tracker.batch_open());
  talk.replies("TDDC");
  EXPECT_FALSE(talk.last.ended);
  EXPECT_TRUE(talk.reply('Z', 'I'));
  EXPECT_TRUE(talk.last.ended);
  EXPECT_EQ(talk.last.entry->request, Wire::Query);
  EXPECT_EQ(talk.last.entry->tag, 1u);
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyQueue, EndsASimpleQueryOfSeveralStatementsOnce) {
  Talk talk;
  talk.send(Wire::Query);
  talk.replies("TDCCITDCNSn");
  EXPECT_EQ(talk.tracker.outstanding(), 1u);
  talk.reply('Z', 'I');
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyQueue, WaitsForReadyForQueryAfterAnErrorInASimpleQuery) {
  Talk talk;
  talk.send(Wire::Query);
  EXPECT_TRUE(talk.reply('E'));
  EXPECT_TRUE(talk.last.failed);
  EXPECT_FALSE(talk.last.ended);
  EXPECT_FALSE(talk.tracker.idle());
  talk.reply('Z', 'E');
  EXPECT_TRUE(talk.tracker.idle());
  EXPECT_EQ(talk.tracker.status(), 'E');
}

TEST(ReplyQueue, RemembersTheStatusOfTheLastReadyForQuery) {
  Talk talk;
  for (const char status : {'T', 'E', 'I', 'T'}) {
    talk.send(Wire::Query);
    talk.reply('C');
    talk.reply('Z', status);
    EXPECT_EQ(talk.tracker.status(), status);
  }
}

TEST(ReplyQueue, EndsEachRequestOfTheExtendedProtocolWithItsReply) {
  Talk talk;
  for (const Wire request :
       {Wire::Parse, Wire::Bind, Wire::Describe, Wire::Execute, Wire::Close, Wire::Sync}) {
    talk.send(request);
  }
  EXPECT_EQ(talk.tracker.outstanding(), 6u);
  std::uint32_t left = 6;
  for (const char type : {'1', '2', 'T', 'C', '3', 'Z'}) {
    EXPECT_TRUE(talk.reply(type, 'I'));
    EXPECT_TRUE(talk.last.ended) << type;
    EXPECT_EQ(talk.last.entry->tag, 7 - left);
    EXPECT_EQ(talk.tracker.outstanding(), --left);
  }
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyQueue, EndsADescribeOnlyAfterItsParameters) {
  Talk talk;
  talk.send(Wire::Describe).send(Wire::Describe).send(Wire::Sync);
  talk.reply('t');
  EXPECT_FALSE(talk.last.ended);
  talk.reply('T');
  EXPECT_TRUE(talk.last.ended);
  talk.reply('t');
  talk.reply('n');
  EXPECT_TRUE(talk.last.ended);
  EXPECT_EQ(talk.tracker.outstanding(), 1u);
}

TEST(ReplyQueue, EndsAnExecuteInEachOfItsWays) {
  for (const char end : {'C', 'I', 's'}) {
    Talk talk;
    talk.send(Wire::Execute).send(Wire::Sync);
    talk.reply('D');
    EXPECT_FALSE(talk.last.ended);
    talk.reply(end);
    EXPECT_TRUE(talk.last.ended) << end;
    EXPECT_EQ(talk.tracker.outstanding(), 1u);
  }
}

TEST(ReplyQueue, EndsAFunctionCallAtReadyForQuery) {
  Talk talk;
  talk.send(Wire::FunctionCall);
  EXPECT_FALSE(talk.tracker.batch_open());
  talk.replies("V");
  EXPECT_FALSE(talk.tracker.idle());
  talk.reply('Z', 'I');
  EXPECT_EQ(talk.last.entry->request, Wire::FunctionCall);
  EXPECT_TRUE(talk.tracker.idle());

  talk.send(Wire::FunctionCall);
  talk.reply('E');
  EXPECT_FALSE(talk.tracker.idle());
  talk.reply('Z', 'I');
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyQueue, CountsTheSyncsOfAPipeline) {
  Talk talk;
  for (int i = 0; i < 3; ++i) {
    talk.send(Wire::Parse).send(Wire::Bind).send(Wire::Execute).send(Wire::Sync);
  }
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(talk.tracker.idle());
    talk.replies("12DCZ");
  }
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyQueue, AnswersPipelinedQueriesInTheirOrder) {
  Talk talk;
  talk.send(Wire::Query).send(Wire::Query).send(Wire::FunctionCall);
  for (std::uint32_t tag = 1; tag <= 3; ++tag) {
    talk.replies("C");
    talk.reply('Z', 'I');
    EXPECT_EQ(talk.last.entry->tag, tag);
    EXPECT_EQ(talk.tracker.outstanding(), 3 - tag);
  }
}

TEST(ReplyQueue, SkipsToTheSyncInFlightAfterAnError) {
  Talk talk;
  talk.send(Wire::Parse).send(Wire::Bind).send(Wire::Execute).send(Wire::Sync);
  talk.send(Wire::Parse).send(Wire::Sync);
  talk.reply('1');
  EXPECT_TRUE(talk.reply('E'));
  EXPECT_TRUE(talk.last.failed);
  EXPECT_EQ(talk.last.entry->request, Wire::Bind);
  EXPECT_EQ(talk.skipped, std::vector<Wire>{Wire::Execute});
  EXPECT_FALSE(talk.tracker.skipping()) << "the Sync that ends it was sent";
  talk.reply('Z', 'I');
  EXPECT_EQ(talk.tracker.outstanding(), 2u) << "the second pipeline is carried out";
  talk.replies("1Z");
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyQueue, IgnoresWhatIsSentAfterAnErrorUntilASyncIsSent) {
  Talk talk;
  talk.send(Wire::Parse).send(Wire::Bind);
  talk.reply('E');
  EXPECT_EQ(talk.last.entry->request, Wire::Parse);
  EXPECT_EQ(talk.skipped, std::vector<Wire>{Wire::Bind});
  EXPECT_TRUE(talk.tracker.idle());
  EXPECT_TRUE(talk.tracker.skipping());
  // A Query too: PostgreSQL skips every message but Sync.
  for (const Wire request :
       {Wire::Parse, Wire::Bind, Wire::Execute, Wire::Query, Wire::Close, Wire::FunctionCall}) {
    EXPECT_FALSE(talk.tracker.sent(Asked{request}));
    EXPECT_TRUE(talk.tracker.idle());
  }
  EXPECT_TRUE(talk.tracker.sent(Asked{Wire::Sync}));
  EXPECT_FALSE(talk.tracker.skipping());
  EXPECT_FALSE(talk.tracker.idle());
  talk.reply('Z', 'E');
  EXPECT_TRUE(talk.tracker.idle());
  EXPECT_TRUE(talk.tracker.sent(Asked{Wire::Query}));
}

TEST(ReplyQueue, SaysWhetherASyncIsStillWanting) {
  Talk talk;
  talk.send(Wire::Parse);
  EXPECT_TRUE(talk.tracker.batch_open());
  talk.send(Wire::Sync);
  EXPECT_FALSE(talk.tracker.batch_open());
  talk.send(Wire::Query);
  EXPECT_FALSE(talk.tracker.batch_open());
  talk.send(Wire::Bind);
  EXPECT_TRUE(talk.tracker.batch_open());
}

TEST(ReplyQueue, PassesOnWhatComesUnasked) {
  Talk talk;
  for (const char type : {'N', 'S', 'A', 'E'}) {
    EXPECT_TRUE(talk.reply(type));
    EXPECT_FALSE(talk.last.ended);
    EXPECT_TRUE(talk.tracker.idle());
  }
  talk.send(Wire::Parse).send(Wire::Sync);
  for (const char type : {'N', 'S', 'A'}) {
    EXPECT_TRUE(talk.reply(type));
    EXPECT_FALSE(talk.last.ended);
  }
  EXPECT_EQ(talk.tracker.outstanding(), 2u);
}

// ---- Carpool's own requests

TEST(ReplyQueue, SwallowsTheRepliesToItsOwnQuery) {
  Talk talk;
  talk.send(Wire::Query, true);
  EXPECT_TRUE(talk.tracker.front_is_ours());
  for (const char type : {'T', 'D', 'C', 'Z'}) EXPECT_FALSE(talk.reply(type, 'I')) << type;
  EXPECT_TRUE(talk.tracker.idle());
  EXPECT_FALSE(talk.tracker.front_is_ours());
}

TEST(ReplyQueue, SwallowsItsOwnParseInFrontOfTheClients) {
  Talk talk;
  talk.send(Wire::Parse, true).send(Wire::Bind).send(Wire::Execute).send(Wire::Sync);
  EXPECT_FALSE(talk.reply('1'));
  EXPECT_FALSE(talk.tracker.front_is_ours());
  talk.replies("2DCZ");
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyQueue, SwallowsItsOwnQueryBetweenTwoOfTheClients) {
  Talk talk;
  talk.send(Wire::Query).send(Wire::Query, true).send(Wire::Query);
  talk.replies("CZ");
  EXPECT_FALSE(talk.reply('C'));
  EXPECT_FALSE(talk.reply('Z', 'I'));
  talk.replies("CZ");
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyQueue, SwallowsAnErrorOfItsOwnAndTellsWhatItCost) {
  Talk talk;
  talk.send(Wire::Parse, true).send(Wire::Bind).send(Wire::Execute).send(Wire::Sync);
  EXPECT_FALSE(talk.reply('E'));
  EXPECT_TRUE(talk.last.failed);
  EXPECT_EQ(talk.skipped, (std::vector<Wire>{Wire::Execute, Wire::Bind})) << "the last first";
  EXPECT_TRUE(talk.reply('Z', 'I')) << "the Sync was the client's";
}

TEST(ReplyQueue, GivesALocalAnswerItsPlaceAmongTheOthers) {
  Talk talk;
  talk.send(Wire::Bind).send(Wire::Local).send(Wire::Execute).send(Wire::Sync);
  EXPECT_FALSE(talk.tracker.front_is_local());
  talk.replies("2");
  ASSERT_TRUE(talk.tracker.front_is_local());
  EXPECT_EQ(talk.tracker.pop_local().tag, 2u);
  talk.replies("CZ");
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyQueue, SkipsALocalAnswerBehindAnError) {
  Talk talk;
  talk.send(Wire::Bind).send(Wire::Local).send(Wire::Sync);
  talk.reply('E');
  EXPECT_EQ(talk.skipped, std::vector<Wire>{Wire::Local});
  EXPECT_FALSE(talk.tracker.front_is_local());
  talk.replies("Z");
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyQueue, WantsASyncBehindALocalAnswerOnlyForWhatStandsBeforeIt) {
  Talk talk;
  talk.send(Wire::Sync).send(Wire::Local);
  EXPECT_FALSE(talk.tracker.batch_open());
  Talk open;
  open.send(Wire::Parse).send(Wire::Local);
  EXPECT_TRUE(open.tracker.batch_open());
}

// ---- COPY

TEST(ReplyQueue, FollowsACopyInOfASimpleQuery) {
  Talk talk;
  talk.send(Wire::Query);
  talk.replies("G");
  EXPECT_TRUE(talk.tracker.copy_in());
  talk.send(Wire::CopyEnd);
  EXPECT_FALSE(talk.tracker.copy_in());
  EXPECT_FALSE(talk.tracker.batch_open());
  talk.replies("C");
  talk.reply('Z', 'I');
  EXPECT_EQ(talk.last.entry->request, Wire::Query);
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyQueue, FollowsTwoCopiesOfOneSimpleQuery) {
  Talk talk;
  talk.send(Wire::Query);
  talk.replies("G");
  talk.send(Wire::CopyEnd);
  talk.replies("CG");
  EXPECT_TRUE(talk.tracker.copy_in()) << "the end of the first does not count for the second";
  EXPECT_FALSE(talk.tracker.sent(Asked{Wire::Sync})) << "ignored while COPY data is read";
  talk.send(Wire::CopyEnd);
  talk.replies("CZ");
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyQueue, FollowsACopyInOfTheExtendedProtocol) {
  Talk talk;
  talk.send(Wire::Parse).send(Wire::Bind).send(Wire::Execute);
  talk.replies("12G");
  EXPECT_TRUE(talk.tracker.copy_in());
  talk.send(Wire::CopyEnd).send(Wire::Sync);
  talk.replies("CZ");
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyQueue, OwesNothingForASyncThatACopyInSwallows) {
  // Bind, Execute, Sync in one go, as drivers send it; the server reads the Sync as COPY data.
  Talk talk;
  talk.send(Wire::Bind).send(Wire::Execute).send(Wire::Sync);
  talk.replies("2G");
  EXPECT_EQ(talk.tracker.outstanding(), 1u);
  EXPECT_FALSE(talk.tracker.sent(Asked{Wire::Sync}));
  talk.send(Wire::CopyEnd).send(Wire::Sync);
  talk.replies("C");
  EXPECT_FALSE(talk.tracker.idle());
  talk.replies("Z");
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyQueue, KeepsTheSyncBehindACopyDoneThatWasSentBeforeTheCopyBegan) {
  Talk talk;
  talk.send(Wire::Execute).send(Wire::Sync).send(Wire::CopyEnd).send(Wire::Sync);
  talk.replies("G");
  EXPECT_FALSE(talk.tracker.copy_in()) << "the client has ended it already";
  EXPECT_EQ(talk.tracker.outstanding(), 3u);
  talk.replies("CZ");
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyQueue, EndsACopyInThatFailsInASimpleQuery) {
  Talk talk;
  talk.send(Wire::Query);
  talk.replies("G");
  talk.reply('E');
  EXPECT_FALSE(talk.tracker.copy_in());
  // The client does not know yet; the server drops what comes.
  talk.send(Wire::CopyEnd);
  talk.reply('Z', 'I');
  EXPECT_TRUE(talk.tracker.idle());
  EXPECT_FALSE(talk.tracker.sent(Asked{Wire::CopyEnd}));
  EXPECT_TRUE(talk.tracker.idle());
}

// ---- a COPY that fails, and Syncs that it had passed over or not

class Doubt : public testing::Test {
 protected:
  // An Execute that begins a COPY, a Sync, and the error; the client sends no more.
  Doubt() {
    talk.send(Wire::Execute).send(Wire::Sync);
    talk.replies("G");
    talk.reply('E');
  }
  void fence() {
    talk.send(Wire::Sync, true).send(Wire::Fence, true);
    EXPECT_TRUE(talk.tracker.has_fence());
  }
  void fence_comes() {
    EXPECT_FALSE(talk.reply('1'));
    talk.tracker.fence_came([](Asked&) { FAIL() << "nothing was skipped"; });
    for (const char type : {'t', 'n', '3'}) EXPECT_FALSE(talk.reply(type)) << type;
    EXPECT_FALSE(talk.reply('Z', 'I'));
  }
  Talk talk;
};

TEST_F(Doubt, IsThereWhereASyncWasSentBeforeTheError) {
  EXPECT_EQ(talk.last.entry->request, Wire::Execute);
  EXPECT_TRUE(talk.tracker.in_doubt());
  EXPECT_FALSE(talk.tracker.idle()) << "a ReadyForQuery may come";
  EXPECT_TRUE(talk.tracker.needs_fence());
  EXPECT_FALSE(talk.tracker.sent(Asked{Wire::CopyEnd}));
  EXPECT_TRUE(talk.tracker.drops());
}

TEST_F(Doubt, FindsThatTheSyncWasPassedOver) {
  fence();
  EXPECT_FALSE(talk.tracker.needs_fence());
  EXPECT_FALSE(talk.reply('Z', 'I')) << "it is Carpool's own";
  fence_comes();
  EXPECT_TRUE(talk.tracker.idle());
  EXPECT_TRUE(talk.tracker.drops()) << "the client has still to send one";
  EXPECT_FALSE(talk.tracker.skipping());
  talk.send(Wire::Sync);
  EXPECT_FALSE(talk.tracker.drops());
  talk.replies("Z");
  EXPECT_TRUE(talk.tracker.idle());
}

TEST_F(Doubt, FindsThatTheSyncWasAnswered) {
  fence();
  EXPECT_FALSE(talk.reply('Z', 'I')) << "it might be Carpool's own";
  EXPECT_TRUE(talk.reply('Z', 'I')) << "there were two";
  fence_comes();
  EXPECT_TRUE(talk.tracker.idle());
  EXPECT_FALSE(talk.tracker.drops());
}

TEST(ReplyQueue, EndsADoubtAtTheReplyOfWhatIsBehindIt) {
  for (const std::string zs : {"Z", "ZZ"}) {
    Talk talk;
    talk.send(Wire::Execute).send(Wire::Sync).send(Wire::CopyEnd).send(Wire::Sync);
    talk.send(Wire::Parse).send(Wire::Sync);
    talk.replies("G");
    talk.reply('E');
    EXPECT_TRUE(talk.tracker.in_doubt());
    EXPECT_FALSE(talk.tracker.needs_fence()) << "the reply to the Parse ends it";
    talk.replies(zs);
    talk.replies("1");
    EXPECT_EQ(talk.last.entry->request, Wire::Parse);
    EXPECT_FALSE(talk.tracker.in_doubt());
    talk.replies("Z");
    EXPECT_TRUE(talk.tracker.idle());
  }
}

TEST(ReplyQueue, IsInDoubtBehindTheReadyForQueryOfASimpleQuery) {
  Talk talk;
  talk.send(Wire::Query);
  talk.replies("G");
  talk.send(Wire::Sync);
  talk.reply('E');
  talk.reply('Z', 'I');
  EXPECT_EQ(talk.last.entry->request, Wire::Query);
  EXPECT_TRUE(talk.tracker.needs_fence());
}

TEST(ReplyQueue, IsNotInDoubtWhereTheCopyCameToItsEnd) {
  Talk talk;
  talk.send(Wire::Execute).send(Wire::Sync);
  talk.replies("G");
  talk.send(Wire::CopyEnd).send(Wire::Sync);
  talk.replies("C");
  EXPECT_FALSE(talk.tracker.in_doubt());
  talk.replies("Z");
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyQueue, TakesTheSyncForAnAnswerWhenTheCopyNeverBegan) {
  Talk talk;
  talk.send(Wire::Execute).send(Wire::Sync);
  talk.reply('E');
  EXPECT_FALSE(talk.tracker.skipping());
  talk.reply('Z', 'I');
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyQueue, FollowsACopyOut) {
  Talk talk;
  talk.send(Wire::Query);
  talk.replies("HdddcC");
  EXPECT_FALSE(talk.tracker.copy_in());
  EXPECT_FALSE(talk.tracker.idle());
  talk.replies("Z");
  EXPECT_TRUE(talk.tracker.idle());

  talk.send(Wire::Execute).send(Wire::Sync);
  talk.replies("Hddc");
  EXPECT_EQ(talk.tracker.outstanding(), 2u);
  talk.replies("CZ");
  EXPECT_TRUE(talk.tracker.idle());
}

// ---- limits

TEST(ReplyQueue, IsFullAtItsLimitAndNotBefore) {
  Queue tracker;
  for (std::uint32_t i = 0; i < Queue::kOutstandingMax; ++i) {
    EXPECT_FALSE(tracker.full());
    tracker.sent(Asked{Wire::Bind});
  }
  EXPECT_TRUE(tracker.full());
  tracker.reply('2', 0, [](Asked&) {});
  EXPECT_FALSE(tracker.full());
}

TEST(ReplyQueue, KeepsItsOrderInAPipelineThatNeverRunsDry) {
  Queue tracker;
  std::uint32_t sent = 0;
  std::uint32_t answered = 0;
  for (; sent < 1500; ++sent) tracker.sent(Asked{Wire::Bind, false, sent});
  for (int i = 0; i < 30'000; ++i) {
    tracker.sent(Asked{Wire::Bind, false, sent++});
    const auto verdict = tracker.reply('2', 0, [](Asked&) { FAIL(); });
    ASSERT_TRUE(verdict.ended);
    ASSERT_EQ(verdict.entry->tag, answered++);
    ASSERT_EQ(tracker.outstanding(), 1500u);
  }
}

// ---- beside a model of PostgreSQL's main loop

struct Sent {
  Wire request;
  bool ours;
  std::uint32_t tag;
  enum class Fate : std::uint8_t { Works, Fails, CopyIn, CopyInFails } fate;
};
struct Said {
  char type;
  char status;
  bool ours;
  std::uint32_t tag;     // of the request that it answers
  bool ends;             // and completes
  bool client_may_copy;  // the client learns that COPY data is wanted
};

// Carries out requests as postgres.c does: one by one, skipping to Sync after an error of the
// extended protocol, ignoring Sync while it reads COPY data.
class Backend {
 public:
  void run(const Sent& sent) {
    if (copying_) {
      if (sent.request != Wire::CopyEnd) return;
      copying_ = false;
      const bool works = copy_.fate == Sent::Fate::CopyIn;
      say(works ? 'C' : 'E', copy_, copy_.request == Wire::Execute);
      if (copy_.request == Wire::Query) {
        ready(copy_);
      } else {
        skipping_ = !works;
      }
      return;
    }
    if (sent.request == Wire::CopyEnd || (skipping_ && sent.request != Wire::Sync)) return;
    skipping_ = false;
    if (sent.request == Wire::Sync) return ready(sent);
    const bool whole = sent.request == Wire::Query || sent.request == Wire::FunctionCall;
    if (sent.fate == Sent::Fate::Fails) {
      say('E', sent, !whole);
      if (whole) return ready(sent);
      skipping_ = true;
      return;
    }
    if (sent.fate != Sent::Fate::Works) {
      copying_ = true;
      copy_ = sent;
      said.push_back({'G', 0, sent.ours, sent.tag, false, true});
      return;
    }
    switch (sent.request) {
      case Wire::Parse:
        return say('1', sent, true);
      case Wire::Bind:
        return say('2', sent, true);
      case Wire::Close:
        return say('3', sent, true);
      case Wire::Describe:
        say('t', sent, false);
        return say(sent.tag % 2 == 0 ? 'T' : 'n', sent, true);
      case Wire::Execute:
        say('D', sent, false);
        return say("CIs"[sent.tag % 3], sent, true);
      case Wire::FunctionCall:
        say('V', sent, false);
        return ready(sent);
      default:
        for (const char type : {'T', 'D', 'N', 'C'}) say(type, sent, false);
        return ready(sent);
    }
  }
  bool skipping() const { return skipping_; }

  std::deque<Said> said;

 private:
  void say(char type, const Sent& sent, bool ends) {
    said.push_back({type, 0, sent.ours, sent.tag, ends, false});
  }
  void ready(const Sent& sent) {
    said.push_back({'Z', "ITE"[sent.tag % 3], sent.ours, sent.tag, true, false});
  }

  bool copying_ = false;
  bool skipping_ = false;
  Sent copy_{};
};

TEST(ReplyQueue, AgreesWithAModelOfPostgresqlOverRandomConversations) {
  for (std::uint32_t seed = 1; seed <= 300; ++seed) {
    std::mt19937 random(seed);
    const auto chance = [&](std::uint32_t percent) { return random() % 100 < percent; };
    Queue tracker;
    Backend backend;
    std::deque<Sent> wire;  // towards the server
    std::uint32_t tags = 0;
    bool copy_begun = false;   // a COPY was asked for and not ended: no other request until then
    bool copy_wanted = false;  // and the server has said that it wants the data
    bool extended = false;     // requests were sent since the last Sync
    bool syncs_copy = false;   // the COPY is Execute's: a Sync behind its end is due
    const auto send = [&](Wire request, Sent::Fate fate) {
      const bool ours = fate != Sent::Fate::CopyIn && fate != Sent::Fate::CopyInFails && chance(20);
      const Sent sent{request, ours, ++tags, fate};
      tracker.sent(Asked{request, sent.ours, sent.tag});
      wire.push_back(sent);
    };
    const auto deliver = [&] {
      backend.run(wire.front());
      wire.pop_front();
    };
    const auto receive = [&] {
      const Said said = backend.said.front();
      backend.said.pop_front();
      std::vector<std::uint32_t> skipped;
      const auto verdict = tracker.reply(said.type, said.status,
                                         [&](Asked& entry) { skipped.push_back(entry.tag); });
      ASSERT_EQ(verdict.forward, !said.ours) << said.type << " seed " << seed;
      ASSERT_EQ(verdict.ended, said.ends) << said.type << " seed " << seed;
      ASSERT_EQ(verdict.entry->tag, said.tag) << said.type << " seed " << seed;
      ASSERT_EQ(verdict.failed, said.type == 'E');
      ASSERT_TRUE(said.type == 'E' || skipped.empty()) << said.type << " seed " << seed;
      ASSERT_TRUE(said.type != 'Z' || tracker.status() == said.status);
      if (said.client_may_copy) copy_wanted = true;
    };
    const auto ask = [&] {
      if (copy_begun) {
        if (!copy_wanted) return;
        send(Wire::CopyEnd, Sent::Fate::Works);
        copy_begun = copy_wanted = false;
        if (syncs_copy) send(Wire::Sync, Sent::Fate::Works);
        extended = false;
        return;
      }
      const Sent::Fate fate = chance(12) ? Sent::Fate::Fails : Sent::Fate::Works;
      const std::uint32_t dice = random() % 100;
      if (dice < 8 && !extended) {
        send(Wire::Query, chance(30) ? Sent::Fate::CopyIn : fate);
        copy_begun = wire.back().fate == Sent::Fate::CopyIn;
        syncs_copy = false;
      } else if (dice < 12 && !extended) {
        send(Wire::FunctionCall, fate);
      } else if (dice < 30) {
        send(Wire::Sync, Sent::Fate::Works);
        extended = false;
      } else if (dice < 34 && !extended) {
        send(Wire::Execute, chance(50) ? Sent::Fate::CopyIn : Sent::Fate::CopyInFails);
        copy_begun = true;
        syncs_copy = true;
        // To be ignored; where the COPY fails, it could not be known whether it is.
        if (wire.back().fate == Sent::Fate::CopyIn && chance(50)) {
          send(Wire::Sync, Sent::Fate::Works);
        }
      } else {
        constexpr Wire kRequests[] = {Wire::Parse, Wire::Bind, Wire::Describe, Wire::Execute,
                                      Wire::Close};
        send(kRequests[random() % 5], fate);
        extended = true;
      }
    };
    for (int step = 0; step < 400; ++step) {
      const std::uint32_t dice = random() % 3;
      if (dice == 0) ask();
      if (dice == 1 && !wire.empty()) deliver();
      if (dice == 2 && !backend.said.empty()) receive();
      if (HasFatalFailure()) return;
      ASSERT_LE(tracker.outstanding(), wire.size() + backend.said.size() + 400);
    }
    // All that was asked is carried out, and nothing is owed.
    for (int step = 0; step < 2000; ++step) {
      if (!wire.empty()) {
        deliver();
      } else if (!backend.said.empty()) {
        receive();
      } else if (copy_wanted) {
        ask();
      } else if (tracker.batch_open() || tracker.skipping()) {
        send(Wire::Sync, Sent::Fate::Works);
      } else {
        break;
      }
      if (HasFatalFailure()) return;
    }
    ASSERT_TRUE(wire.empty() && backend.said.empty());
    ASSERT_TRUE(tracker.idle()) << "seed " << seed;
    ASSERT_FALSE(tracker.skipping()) << "seed " << seed;
    ASSERT_FALSE(tracker.copy_in()) << "seed " << seed;
    ASSERT_FALSE(backend.skipping()) << "seed " << seed;
  }
}

TEST(ReplyQueue, TellsOwnQueriesAndAnswersFromWhatTheClientIsOwed) {
  Queue tracker;
  EXPECT_TRUE(tracker.owes_only_ours());
  tracker.sent(Asked{Wire::Query, true});
  tracker.sent(Asked{Wire::Local});
  EXPECT_TRUE(tracker.owes_only_ours());
  tracker.sent(Asked{Wire::Parse, true});
  EXPECT_FALSE(tracker.owes_only_ours());
  Queue client;
  client.sent(Asked{Wire::Query, true});
  client.sent(Asked{Wire::Bind});
  EXPECT_FALSE(client.owes_only_ours());
}

}  // namespace
}  // namespace carpool::pg
