// One client's connection as the property test sees it: messages out, replies in, one line each.
//
// libpq signs in and then steps aside, as it does in Carpool itself: the test speaks the protocol
// over PQsocket(), since only so can it send every order of messages that a driver might (a Bind
// long after its Parse, a Close, a Flush in the middle, an error in a pipeline). PostgreSQL manual,
// chapter "Frontend/Backend Protocol".
//
// Reply lines leave out what two honest servers may say differently: OIDs of tables, process ids,
// places in the source. Invariant: after exchange() nothing is owed, or `lost` says why.
#pragma once

#include <libpq-fe.h>

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace carpool::property {

// A message to the server: its type, its body without the length, and how the script prints it.
struct Message {
  char type;
  std::string body;
  std::string shown;
};

Message query(const std::string& sql);
Message parse(const std::string& statement, const std::string& sql);
Message bind(const std::string& portal, const std::string& statement,
             const std::vector<std::optional<std::string>>& values);
Message describe(char what, const std::string& name);
Message execute(const std::string& portal, int rows_max);
Message close(char what, const std::string& name);
Message sync();
Message flush();
Message copy_data(const std::string& text);
Message copy_done();
Message copy_fail(const std::string& why);

// What came back for one step.
struct Reply {
  std::vector<std::string> lines;  // in order; parameters and notifications stand elsewhere
  char status = '?';               // of the last ReadyForQuery: I, T or E
  std::string lost;                // empty, or why the connection is of no more use

  bool has_error(std::string_view sqlstate) const;
};

class Connection {
 public:
  explicit Connection(const std::string& conninfo);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection();

  // The process of the server, where it is PostgreSQL itself.
  int pid() const { return PQbackendPID(conn_); }

  // Empty when signed in.
  const std::string& failure() const { return failure_; }

  // Sends the messages and reads until each Query and Sync among them had its ReadyForQuery. At
  // a Flush it waits for the replies that are due so far, as a driver does.
  // `piece`: so many bytes at a time, each likely to be read before the next; 0: at once.
  Reply exchange(const std::vector<Message>& messages, int timeout_ms, size_t piece = 0);

  // Sends without reading, and cuts the connection without a Terminate.
  void send_and_cut(const std::vector<Message>& messages);

  // The parameters that the server reports, of those that the test follows.
  const std::map<std::string, std::string>& parameters() const { return parameters_; }

  // Reads what is there within `wait_ms` and returns the notifications so far, "channel payload".
  std::vector<std::string>& notifications(int wait_ms);

 private:
  bool send_all(std::string_view bytes);
  bool send_in_pieces(std::string_view bytes, size_t piece);
  // Takes one message, waiting up to `deadline_ms` from the clock's start; false at its end.
  bool next(char& type, std::string& body, long deadline_ms);
  void take(char type, std::string_view body, Reply& reply);

  PGconn* conn_;
  int fd_ = -1;
  std::string failure_;
  std::string received_;
  std::map<std::string, std::string> parameters_;
  std::vector<std::string> notifications_;
};

}  // namespace carpool::property
