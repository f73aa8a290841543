// SessionFollower: which state a session has, as its statements complete. It follows transactions:
// what is set in one counts when it commits, and ROLLBACK and ROLLBACK TO take it back. There is
// one for each client and one for each server, since RESET takes a client to the values of its own
// startup packet and the server to the server's.
//
//   committed() : what would be left if the open transaction failed
//   current()   : what the session has now; equal to committed() outside a transaction
//
// The caller tells what happens in the order in which the server's replies tell it: apply() at the
// CommandComplete of a statement, with each of its effects; on_error() at an ErrorResponse;
// on_ready() at a ReadyForQuery. It never looks at a message itself.
//
// Reported parameters. Where a ParameterStatus does not say what the server's follower expects
// (a function has set something), both followers learn what it says:
//
//   if (!server.expects(name, value, defaults)) {
//     server.learn(name, value, defaults);
//     client.learn(name, value, defaults);
//   }
//
// and before on_ready() both settle() on the server's values, since the text of a SET may mean
// something else on another server (SET datestyle TO iso keeps the order of day and month).
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "pg/session_effect.h"
#include "pg/session_state.h"

namespace carpool::pg {

// Savepoints that are open at once.
inline constexpr std::size_t kSavepointsMax = 4096;

class SessionFollower {
 public:
  // `table` must outlive it. `initial` is what RESET leads to: for a client its startup settings,
  // for a server null.
  SessionFollower(StateTable& table, StatePtr initial);

  void apply(const SessionEffect& effect);
  void on_error();
  void on_ready(char transaction_status);  // 'I', 'T' or 'E'

  bool expects(std::string_view name, std::string_view value, const ReportedValues& defaults) const;
  void learn(std::string_view name, std::string_view value, const ReportedValues& defaults);

  // `now`: all that the server has reported last. Where a SET was followed, its value counts and
  // not its text.
  void settle(const ReportedValues& now);

  // For a client outside of a transaction: its session began with this value, and RESET leads to
  // it, unless it has given one itself.
  void keep(std::string_view name, std::string_view value);

  // For a server, after it ran a replay() without an error; inside a transaction it is a part of
  // that.
  void replayed(const StatePtr& state);

  const StatePtr& current() const { return current_; }
  const StatePtr& committed() const { return committed_; }
  const StatePtr& initial() const { return initial_; }

  // A limit was met and the state is not known, or it cannot be replayed, since client_encoding has
  // changed after a value beyond ASCII was set: the session must keep its server. Ends with DISCARD
  // ALL.
  bool lost() const { return lost_; }

 private:
  struct Savepoint {
    std::string name;
    StatePtr state;
  };

  // To a state that differs in this parameter.
  void change(std::string_view name, StatePtr next);
  void set(std::string_view name, std::string_view sql);
  void reset(std::string_view name);
  void reset_all();
  void end_transaction(bool commit, bool chain);
  std::size_t find_savepoint(std::string_view name) const;

  StateTable* table_;
  StatePtr initial_;
  StatePtr committed_;
  StatePtr current_;
  std::unique_ptr<std::vector<Savepoint>> savepoints_;  // null while there are none
  std::vector<Parameter> unsettled_;                    // since the last settle(), as they were set
  bool in_block_ = false;  // between BEGIN and its end; outside, what one Query or Sync runs
  bool failed_ = false;    // an error in the block: only ROLLBACK leads on
  bool lost_ = false;
};

}  // namespace carpool::pg
