// scan(): what one statement text does to the session that runs it. It runs once a text, when the
// text is parsed, and never looks at the database; it never changes the text.
//
// The answer errs to one side only: an effect may be named that does not come true (the statement
// fails, a condition is false), but of the kinds below none is missed, except for what hides:
//   - behind a name: functions, procedures, triggers, views, and a prepared statement's EXECUTE
//     (which is pinned from its PREPARE on);
//   - in a text that is built at run time: EXECUTE in a DO block;
//   - in the session's memory of sequences and random numbers: currval, lastval, setval, setseed.
// What a DO block says in so many words is found. A reported parameter (ParameterStatus) tells the
// truth in any case; see session_state.h.
//
// Costs: linear in the text, and no allocation for a text without effects.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "pg/session_effect.h"
#include "pg/text_encoding.h"

namespace carpool::pg {

struct Scan {
  std::vector<SessionEffect> effects;  // in the order of the text
  std::uint32_t statements = 0;
  bool multi_statement = false;
  bool begins_transaction = false;
  // A limit was met, or it is not known how the text will be read, and effects are missing: treat
  // the text as if it did everything.
  bool too_complex = false;

  bool operator==(const Scan&) const = default;
};

struct ScanOptions {
  // Nullopt: not known, since something that is under way may change it. Only a text that has a
  // backslash is read in two ways.
  std::optional<bool> standard_conforming_strings = true;
  // Nullopt likewise. In one that is not AsciiSafe a text whose effects are of names or values
  // beyond ASCII is too complex: they could be neither compared nor quoted.
  std::optional<TextEncoding> encoding = TextEncoding::AsciiSafe;

  bool operator==(const ScanOptions&) const = default;
};

inline constexpr std::size_t kScanEffectsMax = 256;
// The longest `sql` of a Set: a longer one becomes SetUnknown.
inline constexpr std::size_t kSetSqlBytesMax = 8 * 1024;

Scan scan(std::string_view sql, const ScanOptions& options = {});

// Whether it is seen at a glance that scan() finds nothing: one SELECT, INSERT, UPDATE or DELETE
// that calls no function, because it has no parenthesis, and makes no table. False says nothing.
bool leaves_nothing(std::string_view sql);

// The memory of it.
std::size_t bytes_of(const Scan& scan);

// Whether the effects depend on what a Bind brings.
bool wants_values(const Scan& scan);

// The scan of such a text with the values of a Bind: `bind` is the message's body behind its two
// names. What they do not tell stays as it was, and so does what is beyond ASCII where the client's
// encoding is not AsciiSafe.
Scan with_values(const Scan& scan, ByteSpan bind, TextEncoding encoding = TextEncoding::AsciiSafe);

}  // namespace carpool::pg
