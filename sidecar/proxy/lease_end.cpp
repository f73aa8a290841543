#include "proxy/lease_end.h"

namespace carpool::proxy {

Steps leave(Ending how, const UnderWay& under_way, bool own_session) {
  if (own_session || !under_way.uncut) return {Step::Close};
  Steps steps;
  if (!under_way.owed && under_way.batch == UnderWay::Batch::Closed) return steps;
  // Whatever runs may be a COPY, or begin one.
  steps.add(Step::FailCopy);
  if (under_way.batch != UnderWay::Batch::Closed) steps.add(Step::Rollback);
  if (under_way.owes_sync) steps.add(Step::Fence);
  if (!under_way.owed) return steps;
  if (how != Ending::Terminate) {
    steps.add(Step::Cancel);
  } else if (under_way.batch == UnderWay::Batch::Closed) {
    // What tells that all is answered, whatever was counted.
    Steps waits{Step::Wait, Step::FailCopy};
    if (under_way.owes_sync) waits.add(Step::Fence);
    return waits;
  }
  return steps;
}

Next next(const Remains& remains) {
  using Left = Remains::Left;
  if (remains.in_batch) return Next::EndBatch;
  if (remains.status != 'I') return Next::Rollback;
  switch (remains.left) {
    case Left::Forever:
      return Next::Close;
    case Left::Pins:
      return Next::Discard;
    case Left::Session:
      return Next::Reset;
    case Left::Settings:
      return Next::Settle;
    case Left::Nothing:
      break;
  }
  return Next::Lend;
}

}  // namespace carpool::proxy
