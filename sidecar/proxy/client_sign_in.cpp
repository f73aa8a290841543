// Client, from its first byte until it is greeted: TLS, the startup packet, SignIn.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "net/address.h"
#include "pg/error_response.h"
#include "pg/messages.h"
#include "proxy/client.h"
#include "proxy/log.h"
#include "proxy/proxy.h"

namespace carpool::proxy {
namespace {

using pool::ClientState;
using pool::RejectReason;

// Those that a client may set in its startup packet and PostgreSQL reports: as it does, or empty.
std::string_view reported_name(std::string_view lower) {
  constexpr std::pair<std::string_view, std::string_view> kNames[] = {
      {"client_encoding", "client_encoding"},
      {"application_name", "application_name"},
      {"datestyle", "DateStyle"},
      {"timezone", "TimeZone"},
      {"intervalstyle", "IntervalStyle"},
      {"standard_conforming_strings", "standard_conforming_strings"},
      {"default_transaction_read_only", "default_transaction_read_only"}};
  for (const auto& [known, name] : kNames) {
    if (known == lower) return name;
  }
  return "";
}

}  // namespace

std::size_t Client::process_startup(ByteSpan in) {
  std::size_t taken = 0;
  while (state_ == ClientState::Startup) {
    pg::Startup startup = pg::parse_startup(in.subspan(taken));
    taken += startup.size;
    switch (startup.kind) {
      case pg::Startup::Kind::NeedMore:
        return taken;
      case pg::Startup::Kind::SslRequest:
      case pg::Startup::Kind::GssRequest: {
        Entering& at = *entering();
        bool& asked = startup.kind == pg::Startup::Kind::SslRequest ? at.ssl_asked : at.gss_asked;
        if (asked) {
          reject(RejectReason::ProtocolError, "08P01", "encryption was asked for twice");
          return in.size();
        }
        asked = true;
        const bool ssl = startup.kind == pg::Startup::Kind::SslRequest;
        const bool yes = ssl && stream_.tls() == nullptr && proxy_.gatekeeper().tls() != nullptr;
        if (!yes) stream_.write(as_bytes("N"));
        // What came behind the request in the clear must not be taken for what is protected.
        // PostgreSQL refuses it whatever it answers.
        if (taken < in.size()) {
          reject(RejectReason::ProtocolError, "08P01",
                 ssl ? "received unencrypted data after SSL request"
                     : "received unencrypted data after GSSAPI encryption request");
          return in.size();
        }
        if (!yes) return taken;
        stream_.write(as_bytes("S"));
        if (!start_tls()) close();
        return in.size();
      }
      case pg::Startup::Kind::Cancel:
        // Closed once it has landed, as PostgreSQL does; what comes behind is of no interest.
        if (proxy_.cancel_request(startup.cancel_pid, startup.cancel_secret, *this)) {
          stream_.pause_reading();
        } else {
          close();
        }
        return in.size();
      case pg::Startup::Kind::DirectTls:
        reject(RejectReason::ProtocolError, "08P01",
               "these are TLS bytes, and TLS is not spoken here (listen.tls.mode: disable)");
        return in.size();
      case pg::Startup::Kind::Bad:
        reject(RejectReason::ProtocolError, startup.sqlstate, startup.problem);
        return in.size();
      case pg::Startup::Kind::Message:
        on_startup_message(startup);
        break;
    }
  }
  if (entering() != nullptr && state_ == ClientState::Authenticating) {
    taken += process_sign_in(in.subspan(taken));
  }
  // What came behind the startup packet waits in pending_ until the client is signed in.
  if (state_ == ClientState::Idle) taken += process(in.subspan(taken));
  return taken;
}

void Client::on_startup_message(pg::Startup& startup) {
  if (proxy_.too_many_clients()) {
    return reject(RejectReason::ClientsMax, "53300",
                  fmt::format("too many clients: listen.clientsMax is {}",
                              proxy_.config().listen.clients_max));
  }
  if (proxy_.memory().level() != MemoryGuard::Level::Fine) {
    return reject(RejectReason::Memory, "53300", "too many clients: " + proxy_.describe_memory());
  }
  if (proxy_.ending_clients()) {
    return reject(RejectReason::Draining, "57P01", "Carpool is shutting down");
  }
  if (entering()->direct_tls && !net::agreed_on_postgresql(stream_.tls())) {
    return reject(RejectReason::ProtocolError, "08P01",
                  "direct TLS needs the ALPN protocol \"postgresql\"");
  }
  if (must_use_tls() && stream_.tls() == nullptr) {
    return reject(RejectReason::AuthFailed, "28000",
                  "only TLS connections are taken here (listen.tls.mode: require)");
  }
  pg::StartupSettings settings = pg::startup_settings(startup.options, startup.parameters);
  ServerStartup server_startup;
  if (!startup.replication.empty() || !settings.quotable) {
    // A WAL sender takes no SQL, or little, and some values no SQL can say: nothing is replayed.
    server_startup.replication = startup.replication;
    server_startup.options = pg::all_options(startup.options, startup.parameters);
    settings = {};
  } else if (!settings.replayable) {
    server_startup.options = startup.options;
    settings = pg::startup_settings("", startup.parameters);
  }
  // 3.2 differs in nothing that a pooler says here but longer cancel keys. A newer minor version is
  // told what is spoken (manual, "NegotiateProtocolVersion").
  long_key_ = startup.version >= pg::kProtocol32;
  if (startup.version > pg::kProtocol32 || !startup.protocol_options.empty()) {
    Bytes out;
    const std::vector<std::string_view> unknown(startup.protocol_options.begin(),
                                                startup.protocol_options.end());
    pg::append_negotiate_protocol_version(out, std::min(startup.version, pg::kProtocol32), unknown);
    stream_.write(out);
  }
  if (startup.database == Console::kDatabase) return enter_console(startup.user);
  // Elsewhere only whoever has shown who it is learns which databases there are.
  if (proxy_.config().auth.mode == config::AuthMode::Trust &&
      !proxy_.settings_of(startup.database, server_startup)) {
    return reject_database(startup.database);
  }
  // What it asks for of that which PostgreSQL reports; its server takes it over before its first
  // request, and reports then how it spells it.
  for (const auto& [lower, value] : settings.values) {
    const std::string_view name = reported_name(lower);
    if (name.empty()) continue;
    pg::append_parameter_status(entering()->values, name, value);
  }
  entering()->destination =
      Entering::Destination{startup.database, startup.user, server_startup, std::move(settings)};
  admit({startup.database, startup.user, startup.replication}, startup.database);
}

void Client::admit(Claimant who, const std::string& asked_for) {
  set_state(ClientState::Authenticating);
  const config::Auth& auth = proxy_.config().auth;
  Entering& at = *entering();
  at.by.mode = auth.mode;
  at.by.user = who.user;
  if (auth.mode == config::AuthMode::Trust) {
    // Whatever the listening addresses are now: it may have come when they were others.
    if (net::is_local_connection(stream_.fd())) return enter();
    return reject(RejectReason::AuthFailed, "28000",
                  fmt::format("auth.mode is trust, which lets in only who comes over loopback or a "
                              "Unix socket, and this client comes from {}",
                              stream_.peer()));
  }
  at.sign_in = std::make_unique<SignIn>(
      SignIn::Doors{proxy_.loop(), proxy_.gatekeeper(), proxy_.passthrough()}, std::move(who),
      asked_for, [this](const SignIn::Refusal* refusal) { signed_in(refusal); });
  Bytes out;
  at.sign_in->begin(auth, at.by.tls.get(), out);
  stream_.write(out);
}

void Client::reject_database(const std::string& database) {
  reject(RejectReason::NoDatabase, "3D000",
         fmt::format("no entry of `databases` in Carpool's configuration matches database \"{}\"",
                     database));
}

// Only whoever has shown who it is learns whether it may.
void Client::enter() {
  Entering& at = *entering();
  if (at.sign_in != nullptr) {
    at.by.verifier = at.sign_in->verifier();
    at.by.word = at.sign_in->word();
  }
  if (at.console == nullptr) return enter_pool();
  if (!at.console->allowed()) {
    return reject(RejectReason::AuthFailed, "28000",
                  fmt::format("admin.users does not name {}, so that the console is closed to it",
                              at.console->user()));
  }
  if (!still_let_in(at.by)) return;
  list_of(state_)->remove(*this);
  stage_ = AtConsole{std::move(at.console)};
  proxy_.console_clients().push_back(*this);
  Bytes out;
  at_console()->console->greet(id_, cancel_key(), out);
  set_state(ClientState::Idle);
  stream_.write(out);
}

void Client::enter_pool() {
  const Entering::Destination& to = *entering()->destination;
  LivePool* pool = proxy_.find_pool(to.database, to.user, to.startup);
  if (pool == nullptr) {
    // It may have gone from the configuration meanwhile.
    if (!proxy_.settings_of(to.database, to.startup)) return reject_database(to.database);
    return reject(RejectReason::ClientsMax, "53300",
                  fmt::format("too many pools: there are {} already", Proxy::kPoolsMax));
  }
  list_of(state_)->remove(*this);
  const auto entered = std::move(std::get<std::unique_ptr<Entering>>(stage_));
  pg::StateTable& states = pool->tables().states;
  stage_ = Pooled{
      .pool = pool,
      .session = std::make_unique<ClientSession>(states, states.make(to.settings.parameters)),
      .greeting = std::make_unique<Pooled::Greeting>(
          Pooled::Greeting{.by = std::move(entered->by), .values = std::move(entered->values)})};
  since_us_ = proxy_.loop().now_us();
  pool->clients(state_).push_back(*this);
  if (entered->sign_in != nullptr && !entered->sign_in->password().empty()) {
    pool->password_taken(entered->sign_in->password(), entered->sign_in->taken_us());
  }
  seek_greeting();
}

// In passthrough the password is tried on the first of the databases, since the console has none.
void Client::enter_console(const std::string& user) {
  entering()->console = std::make_unique<Console>(proxy_, user);
  const std::string& first = proxy_.config().databases.front().name;
  admit({first == "*" ? "postgres" : first, user, ""}, std::string(Console::kDatabase));
}

std::size_t Client::process_console(ByteSpan in) {
  std::size_t taken = 0;
  Bytes out;
  Console& console = *at_console()->console;
  while (!console.busy()) {
    const pg::Frame frame = framer_.next(in.subspan(taken));
    if (frame.kind == pg::Frame::Kind::NeedMore) break;
    if (frame.kind == pg::Frame::Kind::Whole && frame.type == 'X') {
      stream_.write(out);
      close(Ending::Terminate);
      return in.size();
    }
    const bool is_whole = frame.kind == pg::Frame::Kind::Whole;
    if (!is_whole || !console.on_message(frame, out)) {
      stream_.write(out);
      reject(RejectReason::ProtocolError, "08P01", "a message that the console cannot read");
      return in.size();
    }
    framer_.take(frame);
    taken += frame.bytes.size();
    if (state_ == ClientState::Closing) return in.size();
  }
  if (!out.empty()) stream_.write(out);
  return taken;
}

void Client::look_at_console() {
  Bytes out;
  if (!at_console()->console->look_again(out)) return;
  stream_.write(out);
  look_again();
}

// A client whose TLS fails sees an alert at most: the log is where the reason can be found.
void Client::ended() {
  if (SSL* ssl = stream_.tls(); ssl != nullptr && !SSL_is_init_finished(ssl)) {
    proxy_.client_refused(RejectReason::ProtocolError, nullptr);
    log::info("TLS handshake failed",
              {{"address", stream_.peer()}, {"error", net::handshake_problem(ssl)}});
  }
  close();
}

bool Client::must_use_tls() const {
  return proxy_.config().listen.tls.mode == config::TlsMode::Require && stream_.peer() != "unix";
}

bool Client::start_tls() {
  const std::shared_ptr<net::TlsContext>& context = proxy_.gatekeeper().tls();
  SSL* ssl = context->accept(stream_.fd());
  if (ssl == nullptr) return false;
  entering()->by.tls = context;
  stream_.set_tls(ssl, true);
  return true;
}

std::size_t Client::process_sign_in(ByteSpan in) {
  std::size_t taken = 0;
  // What comes behind its last word is for the time after the greeting.
  while (can_take()) {
    SignIn& sign_in = *entering()->sign_in;
    const pg::Frame frame = framer_.next(in.subspan(taken));
    const bool too_long = frame.total > sign_in.message_max();
    if (frame.kind == pg::Frame::Kind::NeedMore && !too_long) break;
    if (frame.kind != pg::Frame::Kind::Whole || frame.type != 'p' || too_long) {
      if (frame.type == 'X' && frame.kind == pg::Frame::Kind::Whole) {
        close(Ending::Terminate);
      } else {
        reject(RejectReason::ProtocolError, "08P01", "expected a password message");
      }
      return in.size();
    }
    taken += frame.bytes.size();
    Bytes out;
    sign_in.on_message(frame.body(), out);
    if (state_ == ClientState::Closing) return in.size();
    stream_.write(out);
    // It has said all: how long it has is SignIn's to say now.
    if (sign_in.waits_for_postgres()) move_on(Entering::Step::OnTrial);
  }
  return taken;
}

void Client::move_on(Entering::Step step) {
  list_of(state_)->remove(*this);
  entering()->step = step;
  list_of(state_)->push_back(*this);
}

void Client::signed_in(const SignIn::Refusal* refusal) {
  if (state_ == ClientState::Closing) return;  // it has gone, and this comes late
  if (refusal != nullptr) {
    const RejectReason reason =
        refusal->protocol_error ? RejectReason::ProtocolError : RejectReason::AuthFailed;
    return reject(reason, refusal->sqlstate, refusal->message);
  }
  move_on(Entering::Step::SignedIn);
  // This runs inside the SignIn, and SCRAM's last message goes before AuthenticationOk.
  look_again();
}

bool Client::still_let_in(const LetInBy& by) {
  const config::AuthMode mode = proxy_.config().auth.mode;
  const Gatekeeper& gatekeeper = proxy_.gatekeeper();
  bool holds = by.mode == mode;
  if (mode == config::AuthMode::Trust) {
    holds = holds || net::is_local_connection(stream_.fd());
  } else if (mode == config::AuthMode::ScramSha256) {
    holds = holds && by.verifier && gatekeeper.still_knows(by.user, *by.verifier);
  } else if (holds && by.word) {
    const Passthrough::Standing standing = **by.word;
    if (standing == Passthrough::Standing::Refused) {
      reject(RejectReason::AuthFailed, "28P01", wrong_password(by.user));
      return false;
    }
    holds = standing == Passthrough::Standing::Stands;
  } else {
    holds = false;
  }
  if (must_use_tls()) holds = holds && by.tls != nullptr;
  if (by.tls != nullptr && gatekeeper.tls() != nullptr) {
    holds = holds && gatekeeper.tls()->asks_no_more_than(*by.tls);
  }
  if (holds) return true;
  reject(RejectReason::AuthFailed, "57P03",
         "who may come in has changed while this client signed in: it may try again");
  return false;
}

void Client::seek_greeting() {
  Pooled& own = *pooled();
  if (!own.pool->welcome_known()) return own.pool->want_welcome();
  if (own.greeting->settled || own.pool->known_values().knows(own.session->follower.current())) {
    return greet();
  }
  attach();
}

void Client::refuse_values(std::string_view sqlstate, const std::string& message) {
  reject(RejectReason::ProtocolError, sqlstate, message);
}

void Client::greet() {
  Pooled& own = *pooled();
  const std::unique_ptr<Pooled::Greeting> greeting = std::move(own.greeting);
  own.tries = 0;
  note_idle_limit();
  if (!still_let_in(greeting->by)) return;
  if (proxy_.ending_clients()) {
    return reject(RejectReason::Draining, "57P01", "Carpool is shutting down");
  }
  Bytes out;
  pg::append_authentication_ok(out);
  append(out, own.pool->welcome());
  own.session->told = own.pool->tables().defaults;
  own.session->met.reset();  // by the server that tried its values, before it was told any
  append(out, greeting->values);
  if (const pg::StatePtr& state = own.session->follower.current()) {
    for (const pg::Parameter& parameter : state->parameters()) {
      const std::string_view name = reported_name(parameter.name);
      const std::string* spelling = own.pool->known_values().spelling(parameter);
      if (!name.empty() && spelling != nullptr) pg::append_parameter_status(out, name, *spelling);
    }
  }
  pg::append_backend_key_data(out, id_, cancel_key());
  pg::append_ready_for_query(out, 'I');
  set_state(ClientState::Idle);
  stream_.write(out);
}

Bytes Client::cancel_key() const {
  Bytes key;
  append_u32(key, secret_);
  if (long_key_) {
    Bytes seed;
    append_u32(seed, id_);
    append_u32(seed, secret_);
    append(key, proxy_.gatekeeper().derive(seed));
  }
  return key;
}

void Client::close_unknown(Micros limit_us) {
  proxy_.client_refused(RejectReason::StartupTimeout, nullptr);
  close_with_error("08P01", fmt::format("not signed in within {:.0f} s", seconds(limit_us)));
}

void Client::reject(RejectReason reason, std::string_view sqlstate, const std::string& message) {
  proxy_.client_refused(reason, live_pool());
  log::info("client refused",
            {{"reason", pool::kRejectReasonNames[static_cast<std::size_t>(reason)]},
             {"sqlstate", sqlstate},
             {"error", message}});
  close_with_error(sqlstate, message);
}

}  // namespace carpool::proxy
