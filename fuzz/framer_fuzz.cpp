// The framer over any bytes, in any pieces: everything taken was given out once and in order, the
// messages are those of a framer that saw all at once, and what is held stays within its limits.
// The first byte says which side, and how the pieces are cut.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/check.h"
#include "pg/framer.h"

using namespace carpool;
using namespace carpool::pg;

namespace {

using Messages = std::vector<std::pair<char, std::uint32_t>>;  // type and length, as they begin

// Reads what there is of `in`, shown up to `seen`; returns how much was taken.
std::size_t read(Framer& framer, ByteSpan in, std::size_t taken, std::size_t seen, Messages& found,
                 bool& bad) {
  while (!bad) {
    const ByteSpan shown = in.subspan(taken, seen - taken);
    const bool inside = !framer.at_boundary();
    const Frame frame = framer.next(shown);
    switch (frame.kind) {
      case Frame::Kind::NeedMore:
        CHECK(shown.size() < Framer::kTextMax);
        return taken;
      case Frame::Kind::Bad:
        bad = true;
        return taken;
      case Frame::Kind::Whole:
        CHECK(!inside && frame.last && frame.total == frame.bytes.size());
        CHECK(frame.body().size() == frame.total - Framer::kHeaderSize);
        found.emplace_back(frame.type, frame.total);
        break;
      case Frame::Kind::Head:
        CHECK(!inside && !frame.last && frame.bytes.size() < frame.total);
        found.emplace_back(frame.type, frame.total);
        break;
      case Frame::Kind::Body:
        CHECK(inside && frame.type == found.back().first);
        break;
    }
    CHECK(!frame.bytes.empty() && frame.bytes.data() == shown.data());
    framer.take(frame);
    CHECK(framer.at_boundary() == frame.last);
    taken += frame.bytes.size();
  }
  return taken;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const Framer::Side side =
      (data[0] & 1) != 0 ? Framer::Side::FromServer : Framer::Side::FromClient;
  const std::size_t piece_max = 1 + data[0] / 2;
  const ByteSpan in(data + 1, size - 1);

  Messages whole;
  bool whole_bad = false;
  Framer at_once(side);
  read(at_once, in, 0, in.size(), whole, whole_bad);

  Messages pieces;
  bool pieces_bad = false;
  Framer piecewise(side);
  std::size_t taken = 0;
  std::uint32_t state = data[0];
  for (std::size_t seen = 0; seen < in.size();) {
    state = state * 1664525 + 1013904223;  // Numerical Recipes, "quick and dirty" generator
    seen = std::min(in.size(), seen + 1 + (state >> 16) % piece_max);
    taken = read(piecewise, in, taken, seen, pieces, pieces_bad);
    if (pieces_bad) break;
  }
  CHECK(pieces_bad == whole_bad);
  CHECK(pieces == whole);
  return 0;
}
