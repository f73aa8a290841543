// `load`: many clients at once against one port of this machine, in one thread, for some seconds.
// Writes one JSON object a line: progress each second, and the figures last.
//
// Each client asks, reads the whole answer, and asks again: a closed loop. A query that is out when
// the time is up is waited for and counted with its true time, so that no slow one is left out.
// Clients come a few at a time, and the figures begin when each has been let in or refused once, or
// after a minute.
#include <fmt/format.h>
#include <sys/epoll.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <deque>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <queue>
#include <random>
#include <utility>
#include <vector>

#include "client.h"

namespace carpool::load {
namespace {

using Micros = std::int64_t;

constexpr std::size_t kSigningIn_max = 128;        // clients on their way in at once
constexpr Micros kComing_us_max = 60'000'000;      // then the figures begin
constexpr Micros kSignIn_us_max = 15'000'000;      // then it has failed
constexpr Micros kRetry_us = 1'000'000;            // after a refusal, give or take a half
constexpr Micros kLastAnswer_us_max = 60'000'000;  // waiting after the end
constexpr std::size_t kErrorTexts_max = 20;        // told apart; the rest is "other"

struct Options {
  std::uint16_t port = 5432;
  std::size_t clients = 10;
  double seconds = 10;
  double think_ms = 0;
  std::string user = "app";
  std::string database = "app";
  std::string query = "SELECT 1";
};

Micros monotonic_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

std::string with_length(std::string body) {
  const auto length = static_cast<std::uint32_t>(body.size() + 4);
  std::string out;
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(length >> shift);
  return out + body;
}

std::string startup_message(const Options& options) {
  std::string body("\0\3\0\0", 4);  // protocol 3.0
  for (const std::string& text :
       {std::string("user"), options.user, std::string("database"), options.database}) {
    body += text + '\0';
  }
  return with_length(body + '\0');
}

class Load {
 public:
  explicit Load(const Options& options);
  int run();

 private:
  enum class Due : std::uint8_t { Open, Ask, GiveUp };
  struct Timer {
    Micros at_us;
    std::uint32_t client;
    Due due;
    std::uint32_t attempt;  // one of an earlier attempt is out of date
    bool operator>(const Timer& other) const { return at_us > other.at_us; }
  };
  struct Seat {
    Client client;
    Micros asked_us = 0;
    std::uint32_t attempt = 0;
    bool coming = false;  // opened, and neither let in nor refused yet
    bool tried = false;   // let in or refused once
    bool served = false;  // got an answer within the time that counts
  };

  void turn(Micros until_us);
  void open(std::uint32_t index);
  void watch(std::uint32_t index, int operation, std::uint32_t events);
  void ask(std::uint32_t index);
  void happened(std::uint32_t index, Event event);
  void fire(const Timer& timer);
  void after(Micros delay_us, std::uint32_t index, Due due);
  void came(Seat& seat);
  void failed(const std::string& error, Micros since_us);
  // Whether it belongs to the time that is measured.
  bool counts(Micros at_us) const {
    return began_us_ != 0 && at_us >= began_us_ && at_us < ends_us_;
  }
  bool over() const { return began_us_ != 0 && now_us_ >= ends_us_; }
  Micros about(Micros us) { return us / 2 + static_cast<Micros>(random_() % (us + 1)); }
  std::size_t in_state(State state) const;
  void tell_progress();
  void tell_figures();

  const Options options_;
  const std::string startup_;
  const std::string query_;
  std::vector<Seat> seats_;
  std::priority_queue<Timer, std::vector<Timer>, std::greater<>> timers_;
  std::mt19937 random_{1};
  const int epoll_ = epoll_create1(EPOLL_CLOEXEC);

  Micros now_us_ = monotonic_us();
  Micros began_us_ = 0;  // 0: not all clients have come yet
  Micros ends_us_ = 0;
  Micros told_us_ = 0;
  std::deque<std::uint32_t> to_open_;  // those who have not come yet, before those who come again
  std::size_t signing_in_ = 0;
  std::size_t tried_ = 0;
  std::size_t asking_ = 0;
  std::uint64_t failed_ = 0;
  std::uint64_t unanswered_ = 0;
  std::vector<std::uint32_t> answers_us_;
  std::uint64_t in_time_ = 0;  // answers that came in the time that is measured
  std::map<std::string, std::uint64_t> errors_;
};

Load::Load(const Options& options)
    : options_(options),
      startup_(startup_message(options)),
      query_("Q" + with_length(options.query + '\0')),
      seats_(options.clients) {
  answers_us_.reserve(1 << 20);
  to_open_.resize(seats_.size());
  std::iota(to_open_.begin(), to_open_.end(), 0U);
}

void Load::after(Micros delay_us, std::uint32_t index, Due due) {
  timers_.push({now_us_ + delay_us, index, due, seats_[index].attempt});
}

void Load::watch(std::uint32_t index, int operation, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.u32 = index;
  epoll_ctl(epoll_, operation, seats_[index].client.fd(), &event);
}

void Load::came(Seat& seat) {
  signing_in_ -= seat.coming;
  seat.coming = false;
  tried_ += !seat.tried;
  seat.tried = true;
}

void Load::failed(const std::string& error, Micros since_us) {
  if (!counts(since_us)) return;
  failed_++;
  const bool room = errors_.size() < kErrorTexts_max || errors_.count(error) > 0;
  errors_[room ? error : "other"]++;
}

void Load::open(std::uint32_t index) {
  Seat& seat = seats_[index];
  seat.attempt++;
  seat.coming = true;
  signing_in_++;
  if (!seat.client.open(options_.port, startup_)) return happened(index, Event::Lost);
  watch(index, EPOLL_CTL_ADD, EPOLLOUT);
  after(kSignIn_us_max, index, Due::GiveUp);
}

void Load::ask(std::uint32_t index) {
  Seat& seat = seats_[index];
  seat.asked_us = now_us_;
  asking_++;
  if (!seat.client.ask(query_)) happened(index, Event::Lost);
}

void Load::happened(std::uint32_t index, Event event) {
  Seat& seat = seats_[index];
  // What was asked in the time that is measured counts, whenever the answer came.
  const Micros asked_us = std::exchange(seat.asked_us, event == Event::Nothing ? seat.asked_us : 0);
  switch (event) {
    case Event::Nothing:
      return;
    case Event::Ready:
      came(seat);
      break;
    case Event::Answered:
      asking_--;
      in_time_ += counts(now_us_);  // else long queues would look slow: many asked before
      if (!counts(asked_us)) break;
      answers_us_.push_back(static_cast<std::uint32_t>(now_us_ - asked_us));
      seat.served = true;
      break;
    case Event::Failed:
      asking_--;
      failed(seat.client.error(), asked_us);
      break;
    case Event::Lost:
      asking_ -= asked_us != 0;
      came(seat);
      failed(seat.client.error(), asked_us != 0 ? asked_us : now_us_);
      seat.attempt++;
      return after(about(kRetry_us), index, Due::Open);
  }
  if (over()) return;
  if (options_.think_ms > 0) {
    return after(about(static_cast<Micros>(options_.think_ms * 1000)), index, Due::Ask);
  }
  ask(index);
}

void Load::fire(const Timer& timer) {
  Seat& seat = seats_[timer.client];
  if (timer.attempt != seat.attempt || over()) return;
  switch (timer.due) {
    case Due::Open:
      return to_open_.push_back(timer.client);
    case Due::Ask:
      return seat.client.state() == State::Ready ? ask(timer.client) : void();
    case Due::GiveUp:
      return seat.coming ? happened(timer.client, seat.client.give_up()) : void();
  }
}

void Load::turn(Micros until_us) {
  while (!to_open_.empty() && signing_in_ < kSigningIn_max) {
    const std::uint32_t index = to_open_.front();
    to_open_.pop_front();
    open(index);
  }
  if (!timers_.empty()) until_us = std::min(until_us, timers_.top().at_us);
  const Micros left_us = std::max<Micros>(0, until_us - monotonic_us());
  std::array<epoll_event, 512> events{};
  const int count =
      epoll_wait(epoll_, events.data(), events.size(), static_cast<int>((left_us + 999) / 1000));
  for (int i = 0; i < count; i++) {
    now_us_ = monotonic_us();
    const std::uint32_t index = events[static_cast<std::size_t>(i)].data.u32;
    Client& client = seats_[index].client;
    if (client.state() == State::Connecting) {
      const Event event = client.on_writable();
      if (event == Event::Nothing) watch(index, EPOLL_CTL_MOD, EPOLLIN);
      happened(index, event);
    } else if (client.state() != State::Off) {
      happened(index, client.on_readable());
    }
  }
  now_us_ = monotonic_us();
  while (!timers_.empty() && timers_.top().at_us <= now_us_) {
    const Timer timer = timers_.top();
    timers_.pop();
    fire(timer);
  }
}

std::size_t Load::in_state(State state) const {
  return static_cast<std::size_t>(std::count_if(
      seats_.begin(), seats_.end(), [&](const Seat& s) { return s.client.state() == state; }));
}

void Load::tell_progress() {
  if (now_us_ - told_us_ < 1'000'000) return;
  told_us_ = now_us_;
  const nlohmann::json line = {
      {"progress", began_us_ == 0 ? "coming"
                   : over()       ? "last answers"
                                  : "running"},
      {"seconds", began_us_ == 0 ? 0.0 : static_cast<double>(now_us_ - began_us_) / 1e6},
      {"connected", in_state(State::Ready) + in_state(State::Asking)},
      {"answered", answers_us_.size()},
      {"failed", failed_}};
  fmt::print("{}\n", line.dump());
  std::fflush(stdout);
}

void Load::tell_figures() {
  std::sort(answers_us_.begin(), answers_us_.end());
  // The nearest rank: a time that was really measured.
  const auto percentile_ms = [&](double share) -> nlohmann::json {
    if (answers_us_.empty()) return nullptr;
    const double rank = std::ceil(share * static_cast<double>(answers_us_.size()));
    return answers_us_[static_cast<std::size_t>(std::max(rank, 1.0)) - 1] / 1000.0;
  };
  nlohmann::json mean_ms;
  if (!answers_us_.empty()) {
    const double sum_us = std::accumulate(answers_us_.begin(), answers_us_.end(), 0.0);
    mean_ms = sum_us / 1000.0 / static_cast<double>(answers_us_.size());
  }
  const auto served =
      std::count_if(seats_.begin(), seats_.end(), [](const Seat& s) { return s.served; });
  if (unanswered_ > 0) errors_["no answer"] += unanswered_;
  const nlohmann::json line = {{"clients", seats_.size()},
                               {"served", served},
                               {"answered", answers_us_.size()},
                               {"failed", failed_ + unanswered_},
                               {"perSecond", static_cast<double>(in_time_) / options_.seconds},
                               {"meanMs", mean_ms},
                               {"p50Ms", percentile_ms(0.50)},
                               {"p99Ms", percentile_ms(0.99)},
                               {"maxMs", percentile_ms(1)},
                               {"errors", errors_}};
  fmt::print("{}\n", line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

int Load::run() {
  const Micros came_us_max = now_us_ + kComing_us_max;
  while (tried_ < seats_.size() && now_us_ < came_us_max) {
    turn(now_us_ + 100'000);
    tell_progress();
  }
  began_us_ = now_us_;
  ends_us_ = now_us_ + static_cast<Micros>(options_.seconds * 1e6);
  while (!over()) {
    turn(std::min(ends_us_, now_us_ + 100'000));
    tell_progress();
  }
  while (asking_ > 0 && now_us_ < ends_us_ + kLastAnswer_us_max) {
    turn(now_us_ + 100'000);
    tell_progress();
  }
  for (const Seat& seat : seats_) unanswered_ += counts(seat.asked_us);
  tell_figures();
  return 0;
}

}  // namespace
}  // namespace carpool::load

int main(int argc, char** argv) {
  carpool::load::Options options;
  CLI::App app("Many PostgreSQL clients at once, against a port of this machine.", "load");
  app.add_option("--port", options.port, "where")->required();
  app.add_option("--clients", options.clients, "how many")->check(CLI::Range(1, 100000));
  app.add_option("--seconds", options.seconds, "how long")->check(CLI::Range(0.1, 86400.0));
  app.add_option("--think-ms", options.think_ms, "pause between an answer and the next query");
  app.add_option("--user", options.user, "who");
  app.add_option("--database", options.database, "of which database");
  app.add_option("--query", options.query, "what is asked");
  CLI11_PARSE(app, argc, argv);
  return carpool::load::Load(options).run();
}
