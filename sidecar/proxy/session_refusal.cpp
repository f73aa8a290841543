#include "proxy/session_refusal.h"

#include <fmt/format.h>

#include <algorithm>

#include "pg/query_text.h"

namespace carpool::proxy {
namespace {

using Kind = pg::SessionEffect::Kind;

// How much of a statement an error quotes.
constexpr std::size_t kQuotedMax = 120;

// Whether the effect leaves something behind that another server does not have.
bool leaves_state(Kind kind) {
  switch (kind) {
    case Kind::Set:
    case Kind::SetUnknown:
    case Kind::Listen:
    case Kind::SqlPrepare:
    case Kind::CreateTemp:
    case Kind::DeclareHold:
    case Kind::AdvisoryLock:
    case Kind::Load:
      return true;
    default:
      return false;
  }
}

}  // namespace

bool sets_parameter(const pg::Scan& scan) {
  return std::any_of(scan.effects.begin(), scan.effects.end(), [](const pg::SessionEffect& effect) {
    return effect.kind == Kind::Set || effect.kind == Kind::SetUnknown;
  });
}

std::string why_refused(const pg::Scan& scan, std::string_view text, config::PoolMode mode,
                        config::SessionState session_state) {
  const auto quoted = [&] { return pg::one_line(text.substr(0, kQuotedMax)); };
  if (mode == config::PoolMode::Statement && scan.begins_transaction) {
    return fmt::format(
        "a transaction of several statements needs pool.mode transaction or session; "
        "here it is statement: {}",
        quoted());
  }
  if (session_state != config::SessionState::Refuse || mode == config::PoolMode::Session) {
    return "";
  }
  for (const pg::SessionEffect& effect : scan.effects) {
    if (!leaves_state(effect.kind)) continue;
    return fmt::format(
        "this statement leaves state in the session ({}{}{}), which "
        "pool.sessionState: refuse does not allow: {}",
        pg::to_string(effect.kind), effect.name.empty() ? "" : " ", effect.name, quoted());
  }
  if (scan.too_complex) {
    return fmt::format(
        "this text is too complex to know what it leaves in the session, which "
        "pool.sessionState: refuse does not allow: {}",
        quoted());
  }
  return "";
}

}  // namespace carpool::proxy
