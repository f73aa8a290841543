#include "proxy/reading.h"

#include <algorithm>

namespace carpool::proxy {

using Kind = pg::SessionEffect::Kind;

namespace {

constexpr std::string_view kStrings = "standard_conforming_strings";
constexpr std::string_view kEncoding = "client_encoding";

// What a SET of it means; none where it is spelled in a rarer way (parse_bool() takes prefixes,
// too).
std::optional<bool> boolean_of(std::string_view set) {
  for (const char* on : {"on", "true", "yes", "1"}) {
    if (set == pg::set_sql(kStrings, on)) return true;
  }
  for (const char* off : {"off", "false", "no", "0"}) {
    if (set == pg::set_sql(kStrings, off)) return false;
  }
  return std::nullopt;
}

}  // namespace

void Reading::note_change(std::string_view parameter) {
  const bool encoding = parameter.empty() || parameter == kEncoding;
  changes_ = std::max(changes_, encoding ? Changes::Any : Changes::NotEncoding);
}

void Reading::runs(const pg::Scan& scan, const pg::SessionFollower& client) {
  for (const pg::SessionEffect& effect : scan.effects) {
    switch (effect.kind) {
      case Kind::SetLocal:
        // PostgreSQL looks names up anew when these two differ: such a statement can be shared.
        if (effect.name == "search_path" || effect.name == "role") break;
        if (!effect.name.empty() && !pg::decides_reading(effect.name)) break;
        note_change(effect.name);
        local_ = std::max(local_, server_.reported.find(effect.name) == nullptr ? Local::Unseen
                                                                                : Local::Reported);
        break;
      case Kind::Set:
      case Kind::SetUnknown:
      case Kind::Reset:
        if (effect.name.empty() || pg::decides_reading(effect.name)) note_change(effect.name);
        break;
      case Kind::Commit:
      case Kind::PrepareTransaction:
        if (local_ != Local::None) note_change({});
        break;
      case Kind::Rollback:
      case Kind::RollbackTo:
        if (local_ != Local::None || client.current() != client.committed()) note_change({});
        break;
      case Kind::ResetAll:
      case Kind::DiscardAll:
        if (client.current() != client.initial()) note_change({});
        break;
      default:
        break;
    }
  }
  if (scan.too_complex) note_change({});
}

std::optional<pg::TextEncoding> Reading::encoding(const pg::SessionFollower& client,
                                                  bool owed) const {
  if (changes_ == Changes::Any) return std::nullopt;
  const pg::StatePtr& state = client.current();
  const auto set = state == nullptr ? std::nullopt : state->encoding();
  if (!set) return server_.usual_encoding;
  // An error in what is under way may take it back.
  if (owed && *set != server_.usual_encoding) return std::nullopt;
  return set;
}

pg::ScanOptions Reading::options(std::string_view text, const pg::SessionFollower& client,
                                 bool owed) const {
  pg::ScanOptions options;
  options.encoding = encoding(client, owed);
  if (options.encoding != pg::TextEncoding::AsciiSafe && pg::is_ascii(text)) {
    options.encoding = pg::TextEncoding::AsciiSafe;
  }
  if (text.find('\\') == std::string_view::npos) return options;
  if (!certain()) {
    options.standard_conforming_strings.reset();
    return options;
  }
  const pg::StatePtr& state = client.current();
  const std::string* set = state == nullptr ? nullptr : state->find(kStrings);
  if (set == nullptr) {
    const std::string* usual = server_.reported.find(kStrings);
    options.standard_conforming_strings = usual == nullptr || *usual != "off";
  } else if (owed) {
    // An error in what is under way may take it back.
    options.standard_conforming_strings.reset();
  } else {
    options.standard_conforming_strings = boolean_of(*set);
  }
  return options;
}

}  // namespace carpool::proxy
