// Wire: the kinds of requests, as far as the protocol tells them apart by what ends their replies.
#pragma once

#include <cstdint>

namespace carpool::pg {

// What a request is on the wire.
enum class Wire : std::uint8_t {
  Query,
  FunctionCall,
  Parse,
  Bind,
  Describe,
  Close,
  Execute,
  Sync,
  CopyEnd,  // CopyDone or CopyFail: has no reply of its own, marks where Syncs count again
  Local,    // not sent: Carpool answers it itself, once everything before it is answered
  Fence,    // requests of Carpool's own whose reply is known from all others
};

}  // namespace carpool::pg
