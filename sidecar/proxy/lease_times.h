// LeaseTimes: when what was asked in a lease was sent and answered. CancelsOf: the cancels that are
// on their way to its server. Values that begin with the lease and end with it, so that no client
// is judged by another's time.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/units.h"

namespace carpool::proxy {

class LeaseTimes {
 public:
  // How much of the last statement is remembered for the slow-query log.
  static constexpr std::size_t kQueryPrefixMax = 512;

  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-member-init): the text has its size
  LeaseTimes(Micros now, Micros waited_us) : lent_us_(now), heard_us_(now), waited_us_(waited_us) {}

  // A request is sent that runs something, or prepares it; `text` may be empty.
  void begins(Micros now, ByteSpan text) {
    if (query_us_ == 0) {
      query_us_ = statement_us_ = now;
      first_reply_us_ = 0;
    }
    if (text.empty()) return;
    query_size_ = static_cast<std::uint16_t>(std::min(text.size(), kQueryPrefixMax));
    std::memcpy(query_.data(), text.data(), query_size_);
  }
  // Nothing runs: what was waited for has been answered without PostgreSQL.
  void rests() { query_us_ = statement_us_ = 0; }
  // A request of the client's has to wait for what Carpool asks ahead of it.
  void waits(Micros now) {
    if (query_us_ == 0) query_us_ = statement_us_ = now;
  }
  // The client, or the server, has said something.
  void said(Micros now) { heard_us_ = now; }
  void heard(Micros now) {
    heard_us_ = now;
    if (query_us_ != 0 && first_reply_us_ == 0) first_reply_us_ = now;
  }
  // A statement of a batch is over: the next has its own time.
  void statement_over(Micros now) { statement_us_ = now; }
  // ReadyForQuery. `more`: what was pipelined behind it begins to count now.
  void ready(Micros now, bool more) {
    waited_us_ = 0;
    query_us_ = statement_us_ = more ? now : 0;
    first_reply_us_ = 0;
  }

  Micros lent_us() const { return lent_us_; }
  // How long the client had to wait for the request at hand.
  Micros waited_us() const { return waited_us_; }
  // When the last word was said, by either side.
  Micros heard_us() const { return heard_us_; }
  // When the requests at hand, up to the next ReadyForQuery, were sent; 0: there are none.
  Micros query_us() const { return query_us_; }
  // The same, of the statement at hand.
  Micros statement_us() const { return statement_us_; }
  Micros first_reply_us() const { return first_reply_us_; }
  // The start of the last statement.
  std::string_view query() const { return {query_.data(), query_size_}; }

 private:
  Micros lent_us_;
  Micros heard_us_;
  Micros waited_us_;
  Micros query_us_ = 0;
  Micros statement_us_ = 0;
  Micros first_reply_us_ = 0;
  std::uint16_t query_size_ = 0;
  std::array<char, kQueryPrefixMax> query_;
};

class CancelsOf {
 public:
  // A cancel that has brought nothing by then never will: PostgreSQL is gone without a word, or
  // waits for a client that does not read. And one that has to wait for others so long waits for
  // such.
  static constexpr Micros kTravelMax_us = 4 * kMicrosPerSecond;
  static constexpr Micros kQueueMax_us = 15 * kMicrosPerSecond;

  // `why`: the setting whose timeout asks; null: somebody else.
  void sent(Micros now, const char* why) {
    ++in_flight_;
    begun_ = false;
    sent_us_ = now;
    why_ = why;
    asked_ = true;
  }
  // It is on its way: until then it has waited for others.
  void begins(Micros now) {
    begun_ = true;
    sent_us_ = now;
  }
  void landed() { --in_flight_; }
  // A client's cancel connection, by the client's id: PostgreSQL closes it once the cancel has
  // landed, and drivers wait for that.
  void asked_by(std::uint32_t client) { asking_.push_back(client); }
  std::vector<std::uint32_t> take_asking() { return std::exchange(asking_, {}); }
  // From now on again and again: its client is gone.
  void repeat() { repeats_ = true; }
  bool repeats() const { return repeats_; }
  // What it was meant for is over.
  void met() {
    asked_ = false;
    why_ = nullptr;
  }

  std::uint32_t in_flight() const { return in_flight_; }
  Micros sent_us() const { return sent_us_; }
  // How long it may take from sent_us() on.
  Micros limit_us() const { return begun_ ? kTravelMax_us : kQueueMax_us; }
  // One has been sent for what runs.
  bool asked() const { return asked_; }
  const char* why() const { return why_; }

 private:
  std::uint32_t in_flight_ = 0;
  Micros sent_us_ = 0;  // the last
  const char* why_ = nullptr;
  bool asked_ = false;
  bool begun_ = false;
  bool repeats_ = false;
  std::vector<std::uint32_t> asking_;
};

}  // namespace carpool::proxy
