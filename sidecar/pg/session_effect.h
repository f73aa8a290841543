// SessionEffect: one thing that a statement does to the session that runs it, as scan() finds it
// and as session_state and session_pins follow it. A value; it does nothing itself.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace carpool::pg {

struct SessionEffect {
  enum class Kind : std::uint8_t {
    // Parameters. `name` is in lower case; "role" and "session_authorization" are parameters, too.
    Set,         // `sql` is the statement that does the same on another server
    SetLocal,    // ends with the transaction: SET LOCAL, SET TRANSACTION, set_config(.., .., true)
    SetUnknown,  // something is set, but what is not in the text; `name` is empty where unknown too
    Reset,
    ResetAll,
    // What lives on a server and cannot be replayed. `name` is the channel, statement, relation,
    // cursor, or, for a lock, its key as "shared 1,2" where the text tells it. For locks see
    // `column`, too.
    Listen,
    Unlisten,
    UnlistenAll,
    SqlPrepare,
    SqlDeallocate,
    DeallocateAll,
    CreateTemp,
    DropRelation,
    RenameRelation,  // its old name
    DeclareHold,
    CloseCursor,
    CloseAllCursors,
    AdvisoryLock,
    AdvisoryUnlock,
    AdvisoryUnlockAll,
    Load,
    DiscardAll,
    DiscardTemp,
    DiscardPlans,
    DiscardSequences,
    // Transactions. `name` is the savepoint; `and_chain` says that the next one begins at once.
    Begin,
    Commit,
    Rollback,
    Savepoint,
    Release,
    RollbackTo,
    PrepareTransaction,
  };

  Kind kind;
  std::uint32_t statement = 0;  // which statement of the text, from 0; empty ones do not count
  std::string name;
  std::string sql;  // Set, and the value alone of a SetUnknown: see below
  // SetUnknown, where all that set_config is given stands in the text or in the Bind: which of the
  // Bind's parameters, from 1, are its name, value and is_local; 0: that stands here, in `name`,
  // `sql` and `is_local`. See with_values().
  std::uint32_t name_parameter = 0;
  std::uint32_t value_parameter = 0;
  std::uint32_t local_parameter = 0;
  // Of a function that is called once: which column of the statement's only row, from 1, is its
  // answer, which for a lock says whether it came true (came_true()); 0: it is no function, or how
  // often that is called is not in the text.
  std::uint16_t column = 0;
  bool is_local = false;
  bool and_chain = false;  // Commit, Rollback

  bool operator==(const SessionEffect&) const = default;
};

// Whether an effect of a completed statement came true, by the body of its DataRow: not a lock that
// was tried and not won, or given back and not held. Empty: there was none, so that nothing was
// called (a portal that is read on). One that cannot be read: what holds on to the server.
bool came_true(const SessionEffect& effect, ByteSpan row);

// The word for logs, metrics and the corpus of the tests, such as "set_local".
std::string_view to_string(SessionEffect::Kind kind);

// The statement that sets the parameter to this value; for set_config and ParameterStatus, whose
// value is the flat text of a list where the parameter is one.
std::string set_sql(std::string_view parameter, std::string_view value);

// The value of such a statement, or of a SET as a client has written it. Nullopt where it is not
// one word, number or string.
std::optional<std::string> value_set_by(std::string_view sql);

// `parameter` as SET and RESET want it: each part between dots quoted.
std::string quote_parameter(std::string_view parameter);

}  // namespace carpool::pg
