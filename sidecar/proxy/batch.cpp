#include "proxy/batch.h"

namespace carpool::proxy {

void Batch::note(const pg::Frame& frame, bool begins) {
  // What follows is another batch, be it healed or not.
  if (state_ == State::Whole) state_ = State::None;
  if (!wants(frame.type)) return;
  const bool whole = frame.kind == pg::Frame::Kind::Whole;
  const bool describes = frame.type == 'D' && whole && !frame.body().empty();
  const bool of_portal = describes && frame.body()[0] == 'P';
  if (begins) {
    bytes_.clear();
    state_ = frame.type == 'B' || (describes && !of_portal) ? State::Open : State::None;
    takes_any_ = false;
    if (frame.type == 'B' && whole && !parsed_.empty()) {
      Reader reader(frame.body());
      reader.cstring();
      takes_any_ = reader.cstring() == parsed_;
    }
  }
  if (state_ != State::Open) return;
  const bool belongs = begins || of_portal || frame.type == 'E' || frame.type == 'S';
  if (!whole || !belongs || bytes_.size() + frame.bytes.size() > kBytesMax) {
    state_ = State::None;
    return;
  }
  append(bytes_, frame.bytes);
  if (describes) takes_any_ = true;
  if (frame.type == 'S') state_ = State::Whole;
}

}  // namespace carpool::proxy
