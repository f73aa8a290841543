// Reading: how a server will read a text that is sent now: by standard_conforming_strings, and by
// client_encoding. Where what is under way may change that, it is not known. One for each lease.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "pg/session_follower.h"
#include "pg/sql_scan.h"
#include "pg/text_encoding.h"
#include "proxy/session.h"

namespace carpool::proxy {

class Reading {
 public:
  // `server` must outlive it.
  explicit Reading(const ServerSession& server) : server_(server) {}

  // The text is about to run, and may change how later ones are read.
  void runs(const pg::Scan& scan, const pg::SessionFollower& client);
  // Nothing is under way any more; `status` is ReadyForQuery's.
  void settled(char status) {
    changes_ = Changes::None;
    if (status == 'I') local_ = Local::None;
  }

  // As far as it is known. `owed`: the client is owed a ReadyForQuery, so that an error may take
  // back what its state says.
  pg::ScanOptions options(std::string_view text, const pg::SessionFollower& client,
                          bool owed) const;
  std::optional<pg::TextEncoding> encoding(const pg::SessionFollower& client, bool owed) const;
  // Whether nothing that is under way, and nothing that is not reported, changes it.
  bool certain() const { return changes_ == Changes::None && local_ != Local::Unseen; }

 private:
  // Something that is under way may change it; client_encoding too.
  enum class Changes : std::uint8_t { None, NotEncoding, Any };
  // Something holds until the transaction ends; and it is not reported.
  enum class Local : std::uint8_t { None, Reported, Unseen };

  void note_change(std::string_view parameter);  // empty: any of them

  const ServerSession& server_;
  Changes changes_ = Changes::None;
  Local local_ = Local::None;
};

}  // namespace carpool::proxy
