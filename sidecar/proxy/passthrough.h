// Passthrough: whether PostgreSQL takes a client's password. It tries passwords on PostgreSQL, a
// few at a time, and remembers what PostgreSQL has said (Vouchers). It talks to no client; SignIn
// does.
//
// A trial is a connection of its own, opened as the client would open it and closed at once. Who
// asks for the same password of the same claimant shares a trial that has not begun. Places are
// counted for each entry of `databases`, so that a PostgreSQL that keeps silent holds up nobody who
// goes elsewhere; where one gives no answer, its trials for that claimant back off.
//
// Only where PostgreSQL asks for a password does it vouch for one.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "config/config.h"
#include "net/loop.h"
#include "net/timer.h"
#include "proxy/connector.h"
#include "proxy/vouchers.h"

namespace carpool::proxy {

class Passthrough {
 public:
  // Trials of one entry of `databases` at once; the others wait for their turn.
  static constexpr std::uint32_t kTrialsMax = 4;
  // Passwords that wait to be tried behind their clients; past it they are tried once they are Old.
  static constexpr std::size_t kBehindMax = 1000;

  struct Claim {
    Claimant who;
    std::string password;
  };
  // PostgreSQL's, by which a client is let in: to be kept until it is greeted, since it may be
  // taken back before.
  enum class Standing : std::uint8_t {
    Stands,
    Refused,    // since, by PostgreSQL
    Elsewhere,  // the database has moved since: PostgreSQL is to be asked again
  };
  using Word = std::shared_ptr<const Standing>;
  struct Verdict {
    enum class Kind : std::uint8_t {
      Taken,
      NotAsked,  // PostgreSQL lets in without a password: that says nothing of this one
      Refused,   // `failure` says why: the password, or anything else that waiting does not mend
      NoAnswer,  // full, starting or not to be reached, as `failure` says
    };
    Kind kind = Kind::Taken;
    Micros taken_us = 0;
    ConnectFailure failure;
    std::string database;  // that of the trial, as PostgreSQL calls it
  };
  // Called once, never from inside wait(), and not after the Waiting is gone.
  using Done = std::function<void(const Verdict&)>;
  class Waiting;

  // Where a claimant's password is tried.
  using Where = std::function<config::Database(const Claimant&)>;
  // PostgreSQL refuses the password of that database and user.
  using OnRefused = std::function<void(const Claimant&, const std::string& password)>;

  // `loop` and `files` must outlive it.
  Passthrough(net::Loop& loop, ServerFiles& files, Where where, OnRefused on_refused);
  ~Passthrough();

  // What PostgreSQL has said of it. Where that is Fresh, it is tried again behind the client.
  Vouchers::Answer ask(const Claim& claim, Micros recheck_us);
  // Tries it. To drop the Waiting is to leave.
  std::shared_ptr<Waiting> wait(Claim claim, Done done);
  Word word_on(const Claim& claim);
  config::Database where(const Claimant& who) const { return where_(who); }

  // What PostgreSQL has said to a server that was opened with it.
  void taken(const Claim& claim);
  void refused(const Claim& claim);

  // Whose database is somewhere else now: what was said of them before, or is being tried, says
  // nothing any more.
  using Moved = std::function<bool(const Claimant&)>;
  void forget(const Moved& moved);
  // Nothing is tried or told any more.
  void close();

 private:
  struct Trial;
  struct Backoff {
    std::uint32_t failures = 0;
    Micros retry_us = 0;
  };

  Vouchers::Mark mark_of(const std::string& password) const;
  Trial& find_or_add(Claim claim);
  void run_trials();
  bool may_begin(const Trial& trial, Micros now) const;
  void begin(Trial& trial);
  void tried(Trial& trial, const ConnectFailure* failure);
  Verdict judge(const Trial& trial, const ConnectFailure* failure);
  void back_off(const Claimant& who);
  template <typename Of>
  void retract(Standing why, const Of& of);
  void run_later(Micros delay_us);

  net::Loop& loop_;
  ServerFiles& files_;
  const Where where_;
  const OnRefused on_refused_;
  const Bytes secret_;  // of this process, for the marks
  Vouchers vouchers_;
  // The words that somebody keeps, and others that are swept out when there are many.
  struct WordKey {
    std::string database;
    std::string user;
    std::string replication;
    Vouchers::Mark mark;
    auto operator<=>(const WordKey&) const = default;
  };
  std::map<WordKey, std::weak_ptr<Standing>> words_;
  std::size_t words_swept_at_ = 0;
  std::list<Trial> waiting_;  // in the order in which they were asked for
  std::list<Trial> running_;
  std::map<Claimant, Backoff> backoffs_;
  std::vector<std::unique_ptr<Connector>> spent_;  // may be on the stack still
  net::Timer timer_;
  Micros timer_due_us_ = 0;
  bool closed_ = false;
};

}  // namespace carpool::proxy
