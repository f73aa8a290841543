// The shape of a result: what RowDescription says of its columns, as one number, so that what a
// client was told once can be compared with what a server would answer now. Pure; keeps nothing.
//
// Two shapes are equal where PostgreSQL takes a plan's result for unchanged: names, types and
// modifiers (equalRowTypes() in src/backend/access/common/tupdesc.c). What differs between the
// Describe of a statement and of a portal, the formats, is not looked at.
// Source: PostgreSQL manual, "Message Formats".
#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace carpool::pg {

using ResultShape = std::uint32_t;

inline constexpr ResultShape kShapeUnknown = 0;  // nobody has asked
inline constexpr ResultShape kShapeNoRows = 1;
inline constexpr ResultShape kShapeUnseen = 2;  // too large to be in one piece: equal to any

// Of the answer to a Describe, RowDescription ('T') or NoData ('n'); `body` is empty where it is
// not in one piece.
ResultShape result_shape(char type, ByteSpan body);

// Whether a client that goes by `told` would read rows of `now` wrong.
inline bool differs(ResultShape told, ResultShape now) {
  return told != now && told != kShapeUnknown && now != kShapeUnknown && told != kShapeUnseen &&
         now != kShapeUnseen;
}

}  // namespace carpool::pg
