// The shape of a result: any body is read without fault, a description that is cut is never taken
// for a whole one, and of what is whole only names, types and modifiers count.
#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "base/check.h"
#include "pg/result_shape.h"

using namespace carpool;
using namespace carpool::pg;

namespace {

// `body`, whole, with other tables, column numbers and formats. Returns where its columns end.
std::size_t of_another_table(Bytes& body) {
  std::size_t at = 2;
  for (std::size_t columns = (body[0] << 8) | body[1]; columns > 0; --columns) {
    while (body[at] != 0) ++at;
    ++at;
    for (std::size_t i = 0; i < 6; ++i) body[at + i] ^= 0x5a;
    for (std::size_t i = 16; i < 18; ++i) body[at + i] ^= 0x5a;
    at += 18;
  }
  return at;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteSpan body(data, size);
  const ResultShape shape = result_shape('T', body);
  CHECK(shape >= kShapeUnseen);
  CHECK(result_shape('n', body) == kShapeNoRows);
  CHECK(!differs(shape, shape));
  CHECK(!differs(shape, kShapeUnknown) && !differs(kShapeUnknown, shape));
  if (shape == kShapeUnseen) return 0;

  Bytes other(body.begin(), body.end());
  const std::size_t end = of_another_table(other);
  CHECK(result_shape('T', other) == shape);
  CHECK(result_shape('T', body.first(end)) == shape);
  CHECK(result_shape('T', body.first(end - 1)) == kShapeUnseen);
  return 0;
}
