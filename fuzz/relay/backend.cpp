#include "relay/backend.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>

#include "pg/error_response.h"
#include "pg/messages.h"
#include "relay/trace.h"

namespace carpool::fuzz {
namespace {

constexpr std::uint32_t kCancelCode = 80877102;
constexpr std::uint32_t kSslCode = 80877103;
constexpr std::uint32_t kGssCode = 80877104;

// Types that a server says, and some that none does.
constexpr std::string_view kTypes = "ZCDE123sntTGHWdcSKRANIVvfx";

}  // namespace

bool Backend::pump(bool comes) {
  bool moved = move(comes);
  if (!is_open()) return moved;
  while (steps_ > 0 && !(postgres_ && postgres_->ended())) {
    if (!postgres_) {
      if (!start()) break;
    } else {
      const ByteSpan in = rest();
      if (in.size() < 5) break;
      const std::uint32_t length = load_u32(in.data() + 1);
      if (length < 4 || length > (1u << 30)) {
        postgres_->end("08P01");
        break;
      }
      if (in.size() < length + 1) break;
      trace("server " + std::to_string(pid_) + " <-", static_cast<char>(in[0]),
            in.subspan(5, length - 4));
      postgres_->message(static_cast<char>(in[0]), in.subspan(5, length - 4));
      take(length + 1);
    }
    if (steps_ != kNoLimit) --steps_;
    moved = true;
  }
  if (!postgres_) {
    if (ended()) vanish();
    return moved;
  }
  if (!postgres_->sent.empty()) {
    say(postgres_->sent);
    postgres_->sent.clear();
    moved = true;
  }
  // What it has said arrives before its end does.
  if ((postgres_->ended() || ended()) && (unsent() == 0 || ended())) {
    vanish();
    moved = true;
  }
  return moved;
}

// A packet before the session; false: it is not there yet.
bool Backend::start() {
  const ByteSpan in = rest();
  if (cancels_ || in.size() < 8 || in.size() < load_u32(in.data())) return false;
  const std::uint32_t length = load_u32(in.data());
  const std::uint32_t code = load_u32(in.data() + 4);
  if (code == kCancelCode && in.size() >= 16) {
    cancels_ = load_u32(in.data() + 8);
    take(length);
    return true;
  }
  if (code == kSslCode || code == kGssCode) {
    take(length);
    say(as_bytes("N"));
    return true;
  }
  std::map<std::string, std::string> parameters;
  Reader reader(in.subspan(8, length - 8));
  for (std::string name(reader.cstring()); !name.empty(); name = reader.cstring()) {
    std::string value(reader.cstring());
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    if (name != "USER" && name != "DATABASE") parameters[name] = std::move(value);
  }
  take(length);
  enter(std::move(parameters));
  return true;
}

void Backend::enter(std::map<std::string, std::string> parameters) {
  const auto refuse = [this](std::string_view sqlstate) {
    Bytes out;
    pg::append_error(out, pg::Severity::Fatal, sqlstate, "not now");
    say(out);
    move(false);
    vanish();
  };
  switch (welcome_) {
    case Welcome::Proper:
      postgres_.emplace(pid_, std::move(parameters));
      return postgres_->greet();
    case Welcome::HangUp:
      return vanish();
    case Welcome::Full:
      return refuse("53300");
    case Welcome::Starting:
      return refuse("57P03");
    case Welcome::Refused:
      return refuse("28P01");
    case Welcome::Silence:
      waits_ = std::move(parameters);
      return;
    case Welcome::Rubbish:
      lies_ = true;
      say(as_bytes("Rubbish that is not of any protocol, and goes on for a while"));
      return;
  }
}

void Backend::relent() {
  allow(kNoLimit);
  step(kNoLimit);
  set_deaf(false);
  if (postgres_ || !is_server()) return;
  if (welcome_ == Welcome::Silence) {
    postgres_.emplace(pid_, std::move(waits_));
    postgres_->greet();
  } else if (welcome_ == Welcome::Rubbish) {
    vanish();
  }
  welcome_ = Welcome::Proper;
}

void Backend::lie(std::uint8_t kind, std::uint8_t detail) {
  Bytes out;
  const char type = kTypes[kind % kTypes.size()];
  const std::size_t start = pg::begin_message(out, type);
  switch (type) {
    case 'Z':
      append_u8(out, static_cast<std::uint8_t>("ITEx"[detail % 4]));
      break;
    case 'C':
      append_cstring(out, "SELECT 1");
      break;
    case 'D':
    case 'T':
    case 't':
      // So many columns, of which there may be none.
      append_u16(out, detail);
      for (int i = 0; i < detail % 8; ++i) append_u32(out, 0xffffffff);
      break;
    case 'E':
    case 'N':
      for (const char* field : {(detail & 1) != 0 ? "SFATAL" : "SERROR", "VERROR", "C57P01"}) {
        append_cstring(out, field);
      }
      if ((detail & 2) != 0) append_cstring(out, "Mcached plan must not change result type");
      append_u8(out, 0);
      break;
    case 'S':
      append_cstring(out, (detail & 1) != 0 ? "client_encoding" : "TimeZone");
      append_cstring(out, (detail & 2) != 0 ? "SJIS" : "");
      break;
    case 'G':
    case 'H':
    case 'W':
      append_u8(out, 0);
      append_u16(out, 0);
      break;
    default:
      for (int i = 0; i < detail % 32; ++i) append_u8(out, detail);
      break;
  }
  pg::finish_message(out, start);
  say_rubbish(out);
}

void Backend::say_rubbish(ByteSpan bytes) {
  lies_ = true;
  if (postgres_) postgres_->believe_no_more();
  say(bytes);
}

}  // namespace carpool::fuzz
