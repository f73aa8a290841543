#include "pg/framer.h"

#include <algorithm>

namespace carpool::pg {

std::uint32_t Framer::length_max(char type) const {
  if (side_ == Side::FromServer) return kFrameMax - 1;
  switch (type) {
    case 'C':  // Close
    case 'D':  // Describe
    case 'E':  // Execute
    case 'X':  // Terminate
    case 'c':  // CopyDone
    case 'f':  // CopyFail
      return kSmallMax;
    case 'H':  // Flush
    case 'S':  // Sync
      // With a body PostgreSQL calls them an error, which no answer of theirs could stand for.
      return 4;
    default:
      return kFrameMax - 1;
  }
}

std::uint32_t Framer::needed(char type, std::uint32_t total) const {
  if (side_ == Side::FromServer) {
    switch (type) {
      case 'D':  // DataRow
      case 'd':  // CopyData
      case 'T':  // RowDescription
      case 't':  // ParameterDescription
      case 'V':  // FunctionCallResponse
        return std::min(total, kHeaderSize);
      default:
        return std::min(total, kHeadSize);
    }
  }
  switch (type) {
    case 'd':  // CopyData
    case 'F':  // FunctionCall
      return std::min(total, kHeaderSize);
    case 'Q':  // Query
    case 'P':  // Parse
      return std::min(total, kTextMax);
    case 'p':  // PasswordMessage, and SASL's
      return std::min(total, kPasswordMax);
    default:
      return std::min(total, kHeadSize);
  }
}

Frame Framer::next(ByteSpan in) const {
  Frame frame;
  if (body_left_ > 0) {
    if (in.empty()) return frame;
    const std::size_t n = std::min<std::size_t>(in.size(), body_left_);
    frame.kind = Frame::Kind::Body;
    frame.type = type_;
    frame.bytes = in.first(n);
    frame.last = n == body_left_;
    return frame;
  }
  if (in.size() < kHeaderSize) return frame;
  const std::uint32_t length = load_u32(in.data() + 1);
  frame.type = static_cast<char>(in[0]);
  if (length < 4 || length > length_max(frame.type)) {
    frame.kind = Frame::Kind::Bad;
    return frame;
  }
  frame.total = length + 1;
  if (in.size() >= frame.total) {
    frame.kind = Frame::Kind::Whole;
    frame.bytes = in.first(frame.total);
    frame.last = true;
    return frame;
  }
  if (in.size() < needed(frame.type, frame.total)) return frame;
  frame.kind = Frame::Kind::Head;
  frame.bytes = in;
  return frame;
}

void Framer::take(const Frame& frame) {
  const std::uint32_t n = static_cast<std::uint32_t>(frame.bytes.size());
  if (frame.kind == Frame::Kind::Body) {
    body_left_ -= n;
  } else if (frame.kind == Frame::Kind::Head) {
    type_ = frame.type;
    body_left_ = frame.total - n;
  }
}

}  // namespace carpool::pg
