// What a Client (client.h) is made of, by how far it has come: Entering, then AtConsole or Pooled.
// Plain data of the Client's, which alone reads and writes it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "base/bytes.h"
#include "config/config.h"
#include "pg/scram_verifier.h"
#include "pg/session_state.h"
#include "proxy/connector.h"
#include "proxy/console.h"
#include "proxy/passthrough.h"
#include "proxy/session.h"
#include "proxy/sign_in.h"

namespace carpool::proxy {

class LivePool;
class Server;

// What a client is let in by, until it is greeted: the rules may change in between, and nobody
// comes in whom those in force would keep out.
struct LetInBy {
  config::AuthMode mode = config::AuthMode::Trust;
  std::string user;
  std::optional<pg::ScramVerifier> verifier;  // that its password was checked against
  std::optional<Passthrough::Word> word;      // of PostgreSQL, on its password
  std::shared_ptr<net::TlsContext> tls;       // of its handshake; null: it came in clear
};

// Until it has shown who it is. A stranger makes no pool.
struct Entering {
  enum class Step : std::uint8_t {
    Speaks,    // it has as long as one that has said nothing
    OnTrial,   // PostgreSQL has been asked for the first time whether it may enter
    SignedIn,  // is who it says
  };
  struct Destination {
    std::string database;
    std::string user;
    ServerStartup startup;
    pg::StartupSettings settings;
  };

  std::optional<Destination> destination;  // as its startup packet says
  std::unique_ptr<Console> console;        // where it wants to go instead
  std::unique_ptr<SignIn> sign_in;         // while it must show who it is
  LetInBy by;
  Bytes values;  // ParameterStatus messages of what its startup packet sets
  Step step = Step::Speaks;
  bool direct_tls = false;  // began with TLS, without asking
  bool ssl_asked = false;
  bool gss_asked = false;
};

struct AtConsole {
  std::unique_ptr<Console> console;
};

// In a pool: waits to be greeted, and then asks.
struct Pooled {
  // Until it is greeted.
  struct Greeting {
    LetInBy by;
    Bytes values;          // as above, and behind them as a server of the pool has reported them
    bool settled = false;  // a server has what its startup packet sets, or none can be had
  };
  // A request that failed before it had a server: what belongs to it is dropped, up to the
  // ReadyForQuery that ends it.
  enum class Failing : std::uint8_t { No, NextMessage, UntilSync };
  struct NoServer {
    std::string sqlstate;
    std::string message;
    // Bytes that it had sent by then, and that have not been taken yet; none: not known yet.
    std::optional<std::size_t> left;
    bool more = false;  // and what else the kernel has
  };

  LivePool* pool;
  std::unique_ptr<ClientSession> session;  // its lease's, once it has left
  std::unique_ptr<Greeting> greeting;
  Server* server = nullptr;             // while it is lent one
  std::unique_ptr<NoServer> no_server;  // by which all fails that it had sent by then
  Micros idle_limit_us = 0;             // 0: none
  std::uint8_t tries = 0;
  Failing failing = Failing::No;
  bool leaving = false;   // has said Terminate; what it asked before is answered first
  bool held = false;      // the server must answer before the next request can be taken
  bool dropping = false;  // the body of a message that nobody wants is passing
};

using ClientStage = std::variant<std::unique_ptr<Entering>, AtConsole, Pooled>;

}  // namespace carpool::proxy
