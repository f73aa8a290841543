#include "proxy/passthrough.h"

#include <openssl/rand.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"
#include "proxy/log.h"

namespace carpool::proxy {
namespace {

constexpr Micros kBackoffFirst_us = 100 * kMicrosPerMilli;
constexpr Micros kBackoffMax_us = 2 * kMicrosPerSecond;
// Claimants that back off; with more of them all begin anew.
constexpr std::size_t kBackoffsMax = 10'000;
// Words that are kept without a look for those that nobody keeps.
constexpr std::size_t kWordsMin = 100;

Bytes random_secret() {
  Bytes bytes(32);
  CHECK(RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) == 1);
  return bytes;
}

}  // namespace

class Passthrough::Waiting {
 public:
  explicit Waiting(Done done) : done_(std::move(done)) {}
  void tell(const Verdict& verdict) { done_(verdict); }

 private:
  Done done_;
};

struct Passthrough::Trial {
  Claim claim;
  Vouchers::Mark mark;
  std::vector<std::weak_ptr<Waiting>> waiting;
  // Known ones go first, so that guesses do not keep out those who have been in.
  enum class Turn : std::uint8_t { First, Second, Behind };
  Turn turn = Turn::Second;
  std::string place;                     // the entry of `databases`
  std::unique_ptr<Connector> connector;  // while it runs

  bool awaited() const {
    return std::any_of(waiting.begin(), waiting.end(),
                       [](const std::weak_ptr<Waiting>& one) { return !one.expired(); });
  }
};

Passthrough::Passthrough(net::Loop& loop, ServerFiles& files, Where where, OnRefused on_refused)
    : loop_(loop),
      files_(files),
      where_(std::move(where)),
      on_refused_(std::move(on_refused)),
      secret_(random_secret()) {}

Passthrough::~Passthrough() = default;

Vouchers::Mark Passthrough::mark_of(const std::string& password) const {
  return pg::hmac_sha256(secret_, as_bytes(password));
}

Vouchers::Answer Passthrough::ask(const Claim& claim, Micros recheck_us) {
  const Vouchers::Answer answer =
      vouchers_.ask(claim.who, mark_of(claim.password), loop_.now_us(), recheck_us);
  if (answer.word == Vouchers::Word::Fresh && waiting_.size() < kBehindMax) {
    Trial& trial = find_or_add(claim);
    if (!trial.awaited()) trial.turn = Trial::Turn::Behind;
    run_later(0);
  }
  return answer;
}

std::shared_ptr<Passthrough::Waiting> Passthrough::wait(Claim claim, Done done) {
  auto waiting = std::make_shared<Waiting>(std::move(done));
  Trial& trial = find_or_add(std::move(claim));
  const bool known = vouchers_.knows(trial.claim.who, trial.mark);
  trial.turn = known ? Trial::Turn::First : Trial::Turn::Second;
  trial.waiting.push_back(waiting);
  run_later(0);
  return waiting;
}

// One that runs may have been decided already: only what has yet to begin speaks of now.
Passthrough::Trial& Passthrough::find_or_add(Claim claim) {
  const Vouchers::Mark mark = mark_of(claim.password);
  for (Trial& trial : waiting_) {
    if (trial.mark == mark && trial.claim.who == claim.who) return trial;
  }
  Trial& trial = waiting_.emplace_back();
  trial.place = where_(claim.who).name;
  trial.claim = std::move(claim);
  trial.mark = mark;
  return trial;
}

void Passthrough::run_later(Micros delay_us) {
  if (closed_) return;
  const Micros due_us = loop_.now_us() + delay_us;
  if (timer_.running() && timer_due_us_ <= due_us) return;
  timer_due_us_ = due_us;
  timer_.start(loop_, delay_us, 0, [this] { run_trials(); });
}

bool Passthrough::may_begin(const Trial& trial, Micros now) const {
  const auto backoff = backoffs_.find(trial.claim.who);
  const bool backs_off = backoff != backoffs_.end();
  if (backs_off && now < backoff->second.retry_us) return false;
  std::uint32_t running = 0;
  for (const Trial& other : running_) {
    if (other.place == trial.place && ++running >= kTrialsMax) return false;
    if (backs_off && other.claim.who == trial.claim.who) return false;
  }
  return true;
}

void Passthrough::run_trials() {
  spent_.clear();
  timer_.stop();
  const Micros now = loop_.now_us();
  waiting_.remove_if([](const Trial& trial) {
    return trial.turn != Trial::Turn::Behind && !trial.awaited();  // its clients have gone
  });
  for (const Trial::Turn turn : {Trial::Turn::First, Trial::Turn::Second, Trial::Turn::Behind}) {
    for (auto i = waiting_.begin(); i != waiting_.end();) {
      const auto trial = i++;
      if (trial->turn != turn || !may_begin(*trial, now)) continue;
      running_.splice(running_.end(), waiting_, trial);
      begin(*trial);
    }
  }
  Micros next_us = std::numeric_limits<Micros>::max();
  for (const Trial& trial : waiting_) {
    const auto backoff = backoffs_.find(trial.claim.who);
    if (backoff == backoffs_.end() || backoff->second.retry_us <= now) continue;
    next_us = std::min(next_us, backoff->second.retry_us);
  }
  if (next_us != std::numeric_limits<Micros>::max()) run_later(next_us - now);
}

void Passthrough::begin(Trial& trial) {
  const Claimant& who = trial.claim.who;
  const config::Database settings = where_(who);
  // That of the entry, which another may stand in for.
  const std::string database = settings.name == "*" ? who.database : settings.name;
  config::Server as_client = settings.server;
  as_client.user = who.user;
  as_client.password = trial.claim.password;
  as_client.password_file.clear();
  trial.connector = std::make_unique<Connector>(
      loop_, files_, [this, &trial](const ConnectFailure* failure) { tried(trial, failure); });
  trial.connector->start(as_client, database, who.user, "", 0, {"", who.replication});
}

void Passthrough::tried(Trial& trial, const ConnectFailure* failure) {
  run_later(0);
  const auto self = std::find_if(running_.begin(), running_.end(),
                                 [&trial](const Trial& one) { return &one == &trial; });
  CHECK(self != running_.end());
  const Verdict verdict = judge(trial, failure);
  spent_.push_back(std::move(trial.connector));
  spent_.back()->finish();
  std::list<Trial> ended;
  ended.splice(ended.end(), running_, self);
  if (verdict.kind == Verdict::Kind::Taken) {
    taken(trial.claim);
  } else if (verdict.kind == Verdict::Kind::Refused && verdict.failure.of_password()) {
    refused(trial.claim);
  } else if (verdict.kind == Verdict::Kind::NoAnswer) {
    back_off(trial.claim.who);
  }
  if (verdict.kind != Verdict::Kind::NoAnswer) backoffs_.erase(trial.claim.who);
  for (const std::weak_ptr<Waiting>& one : trial.waiting) {
    if (const auto held = one.lock()) held->tell(verdict);
  }
}

Passthrough::Verdict Passthrough::judge(const Trial& trial, const ConnectFailure* failure) {
  Verdict verdict;
  verdict.taken_us = loop_.now_us();
  verdict.database = trial.connector->database();
  // Full for this role or database: that is said to whoever has shown its password.
  const bool let_in = failure != nullptr && failure->sqlstate == "53300" && failure->password_asked;
  if (failure == nullptr || let_in) {
    const bool asked = trial.connector->used_password();
    verdict.kind = asked ? Verdict::Kind::Taken : Verdict::Kind::NotAsked;
  } else {
    verdict.kind = failure->passing() ? Verdict::Kind::NoAnswer : Verdict::Kind::Refused;
    verdict.failure = *failure;
  }
  return verdict;
}

void Passthrough::back_off(const Claimant& who) {
  if (backoffs_.size() >= kBackoffsMax) backoffs_.clear();
  Backoff& backoff = backoffs_[who];
  const Micros wait_us = kBackoffFirst_us << std::min(backoff.failures++, 16u);
  backoff.retry_us = loop_.now_us() + std::min(wait_us, kBackoffMax_us);
}

Passthrough::Word Passthrough::word_on(const Claim& claim) {
  if (words_.size() >= words_swept_at_) {
    std::erase_if(words_, [](const auto& entry) { return entry.second.expired(); });
    words_swept_at_ = 2 * words_.size() + kWordsMin;
  }
  std::weak_ptr<Standing>& known =
      words_[{claim.who.database, claim.who.user, claim.who.replication, mark_of(claim.password)}];
  std::shared_ptr<Standing> word = known.lock();
  if (word == nullptr) known = word = std::make_shared<Standing>(Standing::Stands);
  return word;
}

void Passthrough::taken(const Claim& claim) {
  vouchers_.taken(claim.who, mark_of(claim.password), loop_.now_us());
}

void Passthrough::refused(const Claim& claim) {
  if (vouchers_.refused(claim.who, mark_of(claim.password))) {
    log::warn("PostgreSQL no longer takes a password by which clients have signed in",
              {{"database", claim.who.database}, {"user", claim.who.user}});
  }
  const Vouchers::Mark mark = mark_of(claim.password);
  // For replication, too.
  retract(Standing::Refused, [&](const WordKey& key) {
    return key.database == claim.who.database && key.user == claim.who.user && key.mark == mark;
  });
  on_refused_(claim.who, claim.password);
}

template <typename Of>
void Passthrough::retract(Standing why, const Of& of) {
  for (auto i = words_.begin(); i != words_.end();) {
    const auto word = i++;
    if (!of(word->first)) continue;
    if (const auto kept = word->second.lock()) *kept = why;
    words_.erase(word);
  }
}

void Passthrough::forget(const Moved& moved) {
  retract(Standing::Elsewhere, [&moved](const WordKey& key) {
    return moved({key.database, key.user, key.replication});
  });
  vouchers_.forget(moved);
  std::erase_if(backoffs_, [&moved](const auto& entry) { return moved(entry.first); });
  // What is being tried where the databases were holds up nobody, and is told to nobody.
  for (auto i = running_.begin(); i != running_.end();) {
    const auto trial = i++;
    if (!moved(trial->claim.who)) continue;
    trial->connector->finish();
    spent_.push_back(std::move(trial->connector));
    waiting_.splice(waiting_.begin(), running_, trial);
  }
  for (Trial& trial : waiting_) trial.place = where_(trial.claim.who).name;
  run_later(0);
}

void Passthrough::close() {
  closed_ = true;
  timer_.stop();
  // One of them may be on the stack.
  for (Trial& trial : running_) {
    trial.connector->finish();
    spent_.push_back(std::move(trial.connector));
  }
  running_.clear();
  waiting_.clear();
}

}  // namespace carpool::proxy
