#include "pg/reply_tracker.h"

#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <string>
#include <vector>

namespace carpool::pg {
namespace {

// A tracker and what it has said, for tests that read as a conversation.
class Talk {
 public:
  Talk& send(Request request, bool ours = false) {
    tracker.sent(request, ours, ++tag_);
    return *this;
  }
  // A message of a type; for Z with a status. Says whether it goes to the client.
  bool reply(char type, char status = 0) {
    skipped.clear();
    last = tracker.reply(type, status, [this](const ReplyTracker::Entry& entry) {
      skipped.push_back(entry.request);
    });
    return last.forward;
  }
  // Several, all of which go to the client: "CZ" stands for CommandComplete, ReadyForQuery `I`.
  void replies(const std::string& types) {
    for (const char type : types) EXPECT_TRUE(reply(type, 'I')) << type;
  }

  ReplyTracker tracker;
  ReplyTracker::Verdict last;
  std::vector<Request> skipped;

 private:
  std::uint32_t tag_ = 0;
};

TEST(ReplyTracker, OwesNothingAtFirst) {
  const ReplyTracker tracker;
  EXPECT_TRUE(tracker.idle());
  EXPECT_FALSE(tracker.full());
  EXPECT_FALSE(tracker.needs_sync());
  EXPECT_FALSE(tracker.copy_in());
  EXPECT_FALSE(tracker.skipping());
  EXPECT_FALSE(tracker.front_is_ours());
  EXPECT_EQ(tracker.status(), 'I');
}

TEST(ReplyTracker, EndsASimpleQueryAtReadyForQuery) {
  Talk talk;
  talk.send(Request::Query);
  EXPECT_FALSE(talk.tracker.idle());
  EXPECT_FALSE(talk.tracker.needs_sync());
  talk.replies("TDDC");
  EXPECT_FALSE(talk.last.ended);
  EXPECT_TRUE(talk.reply('Z', 'I'));
  EXPECT_TRUE(talk.last.ended);
  EXPECT_EQ(talk.last.entry.request, Request::Query);
  EXPECT_EQ(talk.last.entry.tag, 1u);
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyTracker, EndsASimpleQueryOfSeveralStatementsOnce) {
  Talk talk;
  talk.send(Request::Query);
  talk.replies("TDCCITDCNSn");
  EXPECT_EQ(talk.tracker.outstanding(), 1u);
  talk.reply('Z', 'I');
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyTracker, WaitsForReadyForQueryAfterAnErrorInASimpleQuery) {
  Talk talk;
  talk.send(Request::Query);
  EXPECT_TRUE(talk.reply('E'));
  EXPECT_TRUE(talk.last.failed);
  EXPECT_FALSE(talk.last.ended);
  EXPECT_FALSE(talk.tracker.idle());
  talk.reply('Z', 'E');
  EXPECT_TRUE(talk.tracker.idle());
  EXPECT_EQ(talk.tracker.status(), 'E');
}

TEST(ReplyTracker, RemembersTheStatusOfTheLastReadyForQuery) {
  Talk talk;
  for (const char status : {'T', 'E', 'I', 'T'}) {
    talk.send(Request::Query);
    talk.reply('C');
    talk.reply('Z', status);
    EXPECT_EQ(talk.tracker.status(), status);
  }
}

TEST(ReplyTracker, EndsEachRequestOfTheExtendedProtocolWithItsReply) {
  Talk talk;
  for (const Request request : {Request::Parse, Request::Bind, Request::Describe, Request::Execute,
                                Request::Close, Request::Sync}) {
    talk.send(request);
  }
  EXPECT_EQ(talk.tracker.outstanding(), 6u);
  std::uint32_t left = 6;
  for (const char type : {'1', '2', 'T', 'C', '3', 'Z'}) {
    EXPECT_TRUE(talk.reply(type, 'I'));
    EXPECT_TRUE(talk.last.ended) << type;
    EXPECT_EQ(talk.last.entry.tag, 7 - left);
    EXPECT_EQ(talk.tracker.outstanding(), --left);
  }
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyTracker, EndsADescribeOnlyAfterItsParameters) {
  Talk talk;
  talk.send(Request::Describe).send(Request::Describe).send(Request::Sync);
  talk.reply('t');
  EXPECT_FALSE(talk.last.ended);
  talk.reply('T');
  EXPECT_TRUE(talk.last.ended);
  talk.reply('t');
  talk.reply('n');
  EXPECT_TRUE(talk.last.ended);
  EXPECT_EQ(talk.tracker.outstanding(), 1u);
}

TEST(ReplyTracker, EndsAnExecuteInEachOfItsWays) {
  for (const char end : {'C', 'I', 's'}) {
    Talk talk;
    talk.send(Request::Execute).send(Request::Sync);
    talk.reply('D');
    EXPECT_FALSE(talk.last.ended);
    talk.reply(end);
    EXPECT_TRUE(talk.last.ended) << end;
    EXPECT_EQ(talk.tracker.outstanding(), 1u);
  }
}

TEST(ReplyTracker, EndsAFunctionCallAtReadyForQuery) {
  Talk talk;
  talk.send(Request::FunctionCall);
  EXPECT_FALSE(talk.tracker.needs_sync());
  talk.replies("V");
  EXPECT_FALSE(talk.tracker.idle());
  talk.reply('Z', 'I');
  EXPECT_EQ(talk.last.entry.request, Request::FunctionCall);
  EXPECT_TRUE(talk.tracker.idle());

  talk.send(Request::FunctionCall);
  talk.reply('E');
  EXPECT_FALSE(talk.tracker.idle());
  talk.reply('Z', 'I');
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyTracker, CountsTheSyncsOfAPipeline) {
  Talk talk;
  for (int i = 0; i < 3; ++i) {
    talk.send(Request::Parse).send(Request::Bind).send(Request::Execute).send(Request::Sync);
  }
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(talk.tracker.idle());
    talk.replies("12DCZ");
  }
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyTracker, AnswersPipelinedQueriesInTheirOrder) {
  Talk talk;
  talk.send(Request::Query).send(Request::Query).send(Request::FunctionCall);
  for (std::uint32_t tag = 1; tag <= 3; ++tag) {
    talk.replies("C");
    talk.reply('Z', 'I');
    EXPECT_EQ(talk.last.entry.tag, tag);
    EXPECT_EQ(talk.tracker.outstanding(), 3 - tag);
  }
}

TEST(ReplyTracker, SkipsToTheSyncInFlightAfterAnError) {
  Talk talk;
  talk.send(Request::Parse).send(Request::Bind).send(Request::Execute).send(Request::Sync);
  talk.send(Request::Parse).send(Request::Sync);
  talk.reply('1');
  EXPECT_TRUE(talk.reply('E'));
  EXPECT_TRUE(talk.last.failed);
  EXPECT_EQ(talk.last.entry.request, Request::Bind);
  EXPECT_EQ(talk.skipped, std::vector<Request>{Request::Execute});
  EXPECT_FALSE(talk.tracker.skipping()) << "the Sync that ends it was sent";
  talk.reply('Z', 'I');
  EXPECT_EQ(talk.tracker.outstanding(), 2u) << "the second pipeline is carried out";
  talk.replies("1Z");
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyTracker, IgnoresWhatIsSentAfterAnErrorUntilASyncIsSent) {
  Talk talk;
  talk.send(Request::Parse).send(Request::Bind);
  talk.reply('E');
  EXPECT_EQ(talk.last.entry.request, Request::Parse);
  EXPECT_EQ(talk.skipped, std::vector<Request>{Request::Bind});
  EXPECT_TRUE(talk.tracker.idle());
  EXPECT_TRUE(talk.tracker.skipping());
  // A Query too: PostgreSQL skips every message but Sync.
  for (const Request request : {Request::Parse, Request::Bind, Request::Execute, Request::Query,
                                Request::Close, Request::FunctionCall}) {
    EXPECT_FALSE(talk.tracker.sent(request));
    EXPECT_TRUE(talk.tracker.idle());
  }
  EXPECT_TRUE(talk.tracker.sent(Request::Sync));
  EXPECT_FALSE(talk.tracker.skipping());
  EXPECT_FALSE(talk.tracker.idle());
  talk.reply('Z', 'E');
  EXPECT_TRUE(talk.tracker.idle());
  EXPECT_TRUE(talk.tracker.sent(Request::Query));
}

TEST(ReplyTracker, SaysWhetherASyncIsStillWanting) {
  Talk talk;
  talk.send(Request::Parse);
  EXPECT_TRUE(talk.tracker.needs_sync());
  talk.send(Request::Sync);
  EXPECT_FALSE(talk.tracker.needs_sync());
  talk.send(Request::Query);
  EXPECT_FALSE(talk.tracker.needs_sync());
  talk.send(Request::Bind);
  EXPECT_TRUE(talk.tracker.needs_sync());
}

TEST(ReplyTracker, PassesOnWhatComesUnasked) {
  Talk talk;
  for (const char type : {'N', 'S', 'A', 'E'}) {
    EXPECT_TRUE(talk.reply(type));
    EXPECT_FALSE(talk.last.ended);
    EXPECT_TRUE(talk.tracker.idle());
  }
  talk.send(Request::Parse).send(Request::Sync);
  for (const char type : {'N', 'S', 'A'}) {
    EXPECT_TRUE(talk.reply(type));
    EXPECT_FALSE(talk.last.ended);
  }
  EXPECT_EQ(talk.tracker.outstanding(), 2u);
}

// ---- Carpool's own requests

TEST(ReplyTracker, SwallowsTheRepliesToItsOwnQuery) {
  Talk talk;
  talk.send(Request::Query, true);
  EXPECT_TRUE(talk.tracker.front_is_ours());
  for (const char type : {'T', 'D', 'C', 'Z'}) EXPECT_FALSE(talk.reply(type, 'I')) << type;
  EXPECT_TRUE(talk.tracker.idle());
  EXPECT_FALSE(talk.tracker.front_is_ours());
}

TEST(ReplyTracker, SwallowsItsOwnParseInFrontOfTheClients) {
  Talk talk;
  talk.send(Request::Parse, true).send(Request::Bind).send(Request::Execute).send(Request::Sync);
  EXPECT_FALSE(talk.reply('1'));
  EXPECT_FALSE(talk.tracker.front_is_ours());
  talk.replies("2DCZ");
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyTracker, SwallowsItsOwnQueryBetweenTwoOfTheClients) {
  Talk talk;
  talk.send(Request::Query).send(Request::Query, true).send(Request::Query);
  talk.replies("CZ");
  EXPECT_FALSE(talk.reply('C'));
  EXPECT_FALSE(talk.reply('Z', 'I'));
  talk.replies("CZ");
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyTracker, SwallowsAnErrorOfItsOwnAndTellsWhatItCost) {
  Talk talk;
  talk.send(Request::Parse, true).send(Request::Bind).send(Request::Execute).send(Request::Sync);
  EXPECT_FALSE(talk.reply('E'));
  EXPECT_TRUE(talk.last.failed);
  EXPECT_EQ(talk.skipped, (std::vector<Request>{Request::Bind, Request::Execute}));
  EXPECT_TRUE(talk.reply('Z', 'I')) << "the Sync was the client's";
}

TEST(ReplyTracker, GivesALocalAnswerItsPlaceAmongTheOthers) {
  Talk talk;
  talk.send(Request::Bind).send(Request::Local).send(Request::Execute).send(Request::Sync);
  EXPECT_FALSE(talk.tracker.front_is_local());
  talk.replies("2");
  ASSERT_TRUE(talk.tracker.front_is_local());
  EXPECT_EQ(talk.tracker.pop_local().tag, 2u);
  talk.replies("CZ");
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyTracker, SkipsALocalAnswerBehindAnError) {
  Talk talk;
  talk.send(Request::Bind).send(Request::Local).send(Request::Sync);
  talk.reply('E');
  EXPECT_EQ(talk.skipped, std::vector<Request>{Request::Local});
  EXPECT_FALSE(talk.tracker.front_is_local());
  talk.replies("Z");
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyTracker, WantsASyncBehindALocalAnswerOnlyForWhatStandsBeforeIt) {
  Talk talk;
  talk.send(Request::Sync).send(Request::Local);
  EXPECT_FALSE(talk.tracker.needs_sync());
  Talk open;
  open.send(Request::Parse).send(Request::Local);
  EXPECT_TRUE(open.tracker.needs_sync());
}

// ---- COPY

TEST(ReplyTracker, FollowsACopyInOfASimpleQuery) {
  Talk talk;
  talk.send(Request::Query);
  talk.replies("G");
  EXPECT_TRUE(talk.tracker.copy_in());
  talk.send(Request::CopyEnd);
  EXPECT_FALSE(talk.tracker.copy_in());
  EXPECT_FALSE(talk.tracker.needs_sync());
  talk.replies("C");
  talk.reply('Z', 'I');
  EXPECT_EQ(talk.last.entry.request, Request::Query);
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyTracker, FollowsTwoCopiesOfOneSimpleQuery) {
  Talk talk;
  talk.send(Request::Query);
  talk.replies("G");
  talk.send(Request::CopyEnd);
  talk.replies("CG");
  EXPECT_TRUE(talk.tracker.copy_in()) << "the end of the first does not count for the second";
  EXPECT_FALSE(talk.tracker.sent(Request::Sync)) << "ignored while COPY data is read";
  talk.send(Request::CopyEnd);
  talk.replies("CZ");
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyTracker, FollowsACopyInOfTheExtendedProtocol) {
  Talk talk;
  talk.send(Request::Parse).send(Request::Bind).send(Request::Execute);
  talk.replies("12G");
  EXPECT_TRUE(talk.tracker.copy_in());
  talk.send(Request::CopyEnd).send(Request::Sync);
  talk.replies("CZ");
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyTracker, OwesNothingForASyncThatACopyInSwallows) {
  // Bind, Execute, Sync in one go, as drivers send it; the server reads the Sync as COPY data.
  Talk talk;
  talk.send(Request::Bind).send(Request::Execute).send(Request::Sync);
  talk.replies("2G");
  EXPECT_EQ(talk.tracker.outstanding(), 1u);
  EXPECT_FALSE(talk.tracker.sent(Request::Sync));
  talk.send(Request::CopyEnd).send(Request::Sync);
  talk.replies("C");
  EXPECT_FALSE(talk.tracker.idle());
  talk.replies("Z");
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyTracker, KeepsTheSyncBehindACopyDoneThatWasSentBeforeTheCopyBegan) {
  Talk talk;
  talk.send(Request::Execute).send(Request::Sync).send(Request::CopyEnd).send(Request::Sync);
  talk.replies("G");
  EXPECT_FALSE(talk.tracker.copy_in()) << "the client has ended it already";
  EXPECT_EQ(talk.tracker.outstanding(), 3u);
  talk.replies("CZ");
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyTracker, EndsACopyInThatFailsInASimpleQuery) {
  Talk talk;
  talk.send(Request::Query);
  talk.replies("G");
  talk.reply('E');
  EXPECT_FALSE(talk.tracker.copy_in());
  // The client does not know yet; the server drops what comes.
  talk.send(Request::CopyEnd);
  talk.reply('Z', 'I');
  EXPECT_TRUE(talk.tracker.idle());
  EXPECT_FALSE(talk.tracker.sent(Request::CopyEnd));
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyTracker, EndsACopyInThatFailsInTheExtendedProtocol) {
  Talk talk;
  talk.send(Request::Execute).send(Request::Sync);
  talk.replies("G");
  talk.reply('E');
  EXPECT_EQ(talk.last.entry.request, Request::Execute);
  EXPECT_TRUE(talk.tracker.skipping()) << "the Sync sent before was read as COPY data";
  EXPECT_FALSE(talk.tracker.sent(Request::CopyEnd));
  EXPECT_TRUE(talk.tracker.sent(Request::Sync));
  talk.reply('Z', 'I');
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyTracker, TakesTheSyncForAnAnswerWhenTheCopyNeverBegan) {
  Talk talk;
  talk.send(Request::Execute).send(Request::Sync);
  talk.reply('E');
  EXPECT_FALSE(talk.tracker.skipping());
  talk.reply('Z', 'I');
  EXPECT_TRUE(talk.tracker.idle());
}

TEST(ReplyTracker, FollowsACopyOut) {
  Talk talk;
  talk.send(Request::Query);
  talk.replies("HdddcC");
  EXPECT_FALSE(talk.tracker.copy_in());
  EXPECT_FALSE(talk.tracker.idle());
  talk.replies("Z");
  EXPECT_TRUE(talk.tracker.idle());

  talk.send(Request::Execute).send(Request::Sync);
  talk.replies("Hddc");
  EXPECT_EQ(talk.tracker.outstanding(), 2u);
  talk.replies("CZ");
  EXPECT_TRUE(talk.tracker.idle());
}

// ---- limits

TEST(ReplyTracker, IsFullAtItsLimitAndNotBefore) {
  ReplyTracker tracker;
  for (std::uint32_t i = 0; i < ReplyTracker::kOutstandingMax; ++i) {
    EXPECT_FALSE(tracker.full());
    tracker.sent(Request::Bind);
  }
  EXPECT_TRUE(tracker.full());
  tracker.reply('2', 0, [](const ReplyTracker::Entry&) {});
  EXPECT_FALSE(tracker.full());
}

TEST(ReplyTracker, KeepsItsOrderInAPipelineThatNeverRunsDry) {
  ReplyTracker tracker;
  std::uint32_t sent = 0;
  std::uint32_t answered = 0;
  for (; sent < 1500; ++sent) tracker.sent(Request::Bind, false, sent);
  for (int i = 0; i < 30'000; ++i) {
    tracker.sent(Request::Bind, false, sent++);
    const auto verdict = tracker.reply('2', 0, [](const ReplyTracker::Entry&) { FAIL(); });
    ASSERT_TRUE(verdict.ended);
    ASSERT_EQ(verdict.entry.tag, answered++);
    ASSERT_EQ(tracker.outstanding(), 1500u);
  }
}

// ---- beside a model of PostgreSQL's main loop

struct Sent {
  Request request;
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
      if (sent.request != Request::CopyEnd) return;
      copying_ = false;
      const bool works = copy_.fate == Sent::Fate::CopyIn;
      say(works ? 'C' : 'E', copy_, copy_.request == Request::Execute);
      if (copy_.request == Request::Query) {
        ready(copy_);
      } else {
        skipping_ = !works;
      }
      return;
    }
    if (sent.request == Request::CopyEnd || (skipping_ && sent.request != Request::Sync)) return;
    skipping_ = false;
    if (sent.request == Request::Sync) return ready(sent);
    const bool whole = sent.request == Request::Query || sent.request == Request::FunctionCall;
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
      case Request::Parse:
        return say('1', sent, true);
      case Request::Bind:
        return say('2', sent, true);
      case Request::Close:
        return say('3', sent, true);
      case Request::Describe:
        say('t', sent, false);
        return say(sent.tag % 2 == 0 ? 'T' : 'n', sent, true);
      case Request::Execute:
        say('D', sent, false);
        return say("CIs"[sent.tag % 3], sent, true);
      case Request::FunctionCall:
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

TEST(ReplyTracker, AgreesWithAModelOfPostgresqlOverRandomConversations) {
  for (std::uint32_t seed = 1; seed <= 300; ++seed) {
    std::mt19937 random(seed);
    const auto chance = [&](std::uint32_t percent) { return random() % 100 < percent; };
    ReplyTracker tracker;
    Backend backend;
    std::deque<Sent> wire;  // towards the server
    std::uint32_t tags = 0;
    bool copy_begun = false;   // a COPY was asked for and not ended: no other request until then
    bool copy_wanted = false;  // and the server has said that it wants the data
    bool extended = false;     // requests were sent since the last Sync
    bool syncs_copy = false;   // the COPY is Execute's: a Sync behind its end is due
    const auto send = [&](Request request, Sent::Fate fate) {
      const bool ours = fate != Sent::Fate::CopyIn && fate != Sent::Fate::CopyInFails && chance(20);
      const Sent sent{request, ours, ++tags, fate};
      tracker.sent(request, sent.ours, sent.tag);
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
      const auto verdict =
          tracker.reply(said.type, said.status,
                        [&](const ReplyTracker::Entry& entry) { skipped.push_back(entry.tag); });
      ASSERT_EQ(verdict.forward, !said.ours) << said.type << " seed " << seed;
      ASSERT_EQ(verdict.ended, said.ends) << said.type << " seed " << seed;
      ASSERT_EQ(verdict.entry.tag, said.tag) << said.type << " seed " << seed;
      ASSERT_EQ(verdict.failed, said.type == 'E');
      ASSERT_TRUE(said.type == 'E' || skipped.empty()) << said.type << " seed " << seed;
      ASSERT_TRUE(said.type != 'Z' || tracker.status() == said.status);
      if (said.client_may_copy) copy_wanted = true;
    };
    const auto ask = [&] {
      if (copy_begun) {
        if (!copy_wanted) return;
        send(Request::CopyEnd, Sent::Fate::Works);
        copy_begun = copy_wanted = false;
        if (syncs_copy) send(Request::Sync, Sent::Fate::Works);
        extended = false;
        return;
      }
      const Sent::Fate fate = chance(12) ? Sent::Fate::Fails : Sent::Fate::Works;
      const std::uint32_t dice = random() % 100;
      if (dice < 8 && !extended) {
        send(Request::Query, chance(30) ? Sent::Fate::CopyIn : fate);
        copy_begun = wire.back().fate == Sent::Fate::CopyIn;
        syncs_copy = false;
      } else if (dice < 12 && !extended) {
        send(Request::FunctionCall, fate);
      } else if (dice < 30) {
        send(Request::Sync, Sent::Fate::Works);
        extended = false;
      } else if (dice < 34 && !extended) {
        send(Request::Execute, chance(50) ? Sent::Fate::CopyIn : Sent::Fate::CopyInFails);
        copy_begun = true;
        syncs_copy = true;
        if (chance(50)) send(Request::Sync, Sent::Fate::Works);  // to be ignored
      } else {
        constexpr Request kRequests[] = {Request::Parse, Request::Bind, Request::Describe,
                                         Request::Execute, Request::Close};
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
      } else if (tracker.needs_sync() || tracker.skipping()) {
        send(Request::Sync, Sent::Fate::Works);
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

TEST(ReplyTracker, TellsOwnQueriesAndAnswersFromWhatTheClientIsOwed) {
  ReplyTracker tracker;
  EXPECT_TRUE(tracker.owes_only_ours());
  tracker.sent(Request::Query, true);
  tracker.sent(Request::Local);
  EXPECT_TRUE(tracker.owes_only_ours());
  tracker.sent(Request::Parse, true);
  EXPECT_FALSE(tracker.owes_only_ours());
  ReplyTracker client;
  client.sent(Request::Query, true);
  client.sent(Request::Bind);
  EXPECT_FALSE(client.owes_only_ours());
}

}  // namespace
}  // namespace carpool::pg
