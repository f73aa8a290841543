#include "pg/result_shape.h"

#include <algorithm>

namespace carpool::pg {
namespace {

// FNV-1a (Fowler, Noll, Vo).
class Hash {
 public:
  void add(ByteSpan bytes) {
    for (const std::uint8_t byte : bytes) value_ = (value_ ^ byte) * 16777619u;
  }
  std::uint32_t value() const { return value_; }

 private:
  std::uint32_t value_ = 2166136261u;
};

}  // namespace

ResultShape result_shape(char type, ByteSpan body) {
  if (type == 'n') return kShapeNoRows;
  constexpr std::size_t kTableAndColumn = 4 + 2;
  constexpr std::size_t kTypeSizeModifier = 4 + 2 + 4;
  constexpr std::size_t kFormat = 2;
  Hash hash;
  Reader reader(body);
  const std::uint16_t columns = reader.u16();
  for (std::uint16_t i = 0; i < columns && reader.ok(); ++i) {
    const std::string_view name = reader.cstring();
    hash.add(as_bytes(name));
    hash.add(ByteSpan(reinterpret_cast<const std::uint8_t*>(""), 1));
    reader.bytes(kTableAndColumn);
    hash.add(reader.bytes(kTypeSizeModifier));
    reader.bytes(kFormat);
  }
  if (!reader.ok()) return kShapeUnseen;
  return std::max(hash.value(), kShapeUnseen + 1);
}

}  // namespace carpool::pg
