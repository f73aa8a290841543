#include "pg/reply_tracker.h"

#include <algorithm>

#include "base/check.h"

namespace carpool::pg {

bool ReplyTracker::sent(Request request, bool ours, std::uint32_t tag) {
  if (request == Request::Sync) {
    if (copy_in_) return false;
    skipping_ = false;
  } else if (skipping_) {
    return false;
  } else if (request == Request::CopyEnd) {
    copy_in_ = false;
    if (idle()) return false;  // the COPY has failed meanwhile: the server drops it
  }
  switch (request) {
    case Request::Parse:
    case Request::Bind:
    case Request::Describe:
    case Request::Close:
    case Request::Execute:
      batch_open_ = true;
      break;
    case Request::Query:
    case Request::FunctionCall:
    case Request::Sync:
      batch_open_ = false;
      break;
    case Request::CopyEnd:
    case Request::Local:
      break;
  }
  entries_.push_back({request, ours, tag});
  if (ends_batch(request) && !ours) ++readies_;
  return true;
}

bool ReplyTracker::ends_with_ready() const {
  for (std::size_t i = entries_.size(); i > head_; --i) {
    const Request request = entries_[i - 1].request;
    if (request == Request::CopyEnd || request == Request::Local) continue;
    return ends_batch(request);
  }
  return true;
}

bool ReplyTracker::owes_only_ours() const {
  return std::all_of(entries_.begin() + head_, entries_.end(), [](const Entry& entry) {
    return entry.request == Request::Local || (entry.ours && entry.request == Request::Query);
  });
}

ReplyTracker::Entry ReplyTracker::pop() {
  CHECK(!idle());
  const Entry entry = entries_[head_++];
  if (ends_batch(entry.request) && !entry.ours) --readies_;
  if (idle()) {
    entries_.clear();
    head_ = 0;
  } else if (head_ >= 1024 && head_ * 2 >= entries_.size()) {
    // A pipeline that never runs dry: give the answered half back.
    entries_.erase(entries_.begin(), entries_.begin() + head_);
    head_ = 0;
  }
  return entry;
}

void ReplyTracker::pop_copy_ends() {
  while (!idle() && entries_[head_].request == Request::CopyEnd) pop();
}

// One simple query may hold several COPYs: the end of this one must not count for the next.
void ReplyTracker::drop_copy_end_behind_front() {
  const std::size_t next = head_ + 1;
  if (next < entries_.size() && entries_[next].request == Request::CopyEnd) {
    entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(next));
  }
}

// The Syncs that reach a server while it reads COPY data are those behind the front and before
// the client's CopyDone.
void ReplyTracker::drop_ignored_syncs() {
  std::size_t keep = head_ + 1;
  std::size_t i = keep;
  for (; i < entries_.size() && entries_[i].request != Request::CopyEnd; ++i) {
    if (entries_[i].request == Request::Sync) {
      if (!entries_[i].ours) --readies_;
    } else {
      entries_[keep++] = entries_[i];
    }
  }
  if (i < entries_.size()) copy_in_ = false;  // the client has already ended it
  for (; i < entries_.size(); ++i) entries_[keep++] = entries_[i];
  entries_.resize(keep);
  if (entries_[head_].request == Request::Execute) batch_open_ = !ends_with_ready();
}

}  // namespace carpool::pg
