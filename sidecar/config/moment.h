// From when a new value of a live key counts: what is under way goes on by the old one, so that a
// change cuts no transaction and skips no cleaning.
#pragma once

#include <cstdint>
#include <string_view>

#include "config/keys.h"

namespace carpool::config {

enum class Moment : std::uint8_t {
  Restart,
  AtOnce,
  NextClient,       // to connect
  EachServer,       // to be opened, and those that are open are replaced as they come back
  NextLease,        // in session mode a lease is a session
  NextTransaction,  // of a session too
};

Moment moment_of(const Key& key);

// For a table: "restart", "live", "live, next lease".
std::string_view name_of(Moment moment);
// For a sentence about a change: "applies live", "applies live, from the next lease".
std::string_view sentence_of(Moment moment);

}  // namespace carpool::config
