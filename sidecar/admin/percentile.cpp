#include "admin/percentile.h"

namespace carpool::admin {

using pool::Histogram;

double percentile_seconds(const Histogram& histogram, double q) {
  if (histogram.count == 0) return 0;
  const double rank = q * static_cast<double>(histogram.count);
  double below = 0;
  for (std::size_t i = 0; i < Histogram::kBuckets; i++) {
    const double here = static_cast<double>(histogram.buckets[i]);
    if (here == 0 || below + here < rank) {
      below += here;
      continue;
    }
    if (i == Histogram::kBuckets - 1) break;
    const double low = i == 0 ? 0 : seconds(Histogram::bound_us(i - 1));
    const double high = seconds(Histogram::bound_us(i));
    return low + (high - low) * (rank - below) / here;
  }
  return seconds(Histogram::bound_us(Histogram::kBuckets - 2));
}

Histogram since(const Histogram& earlier, const Histogram& later) {
  if (earlier.count > later.count || earlier.sum_us > later.sum_us) return later;
  Histogram out;
  for (std::size_t i = 0; i < Histogram::kBuckets; i++) {
    if (earlier.buckets[i] > later.buckets[i]) return later;
    out.buckets[i] = later.buckets[i] - earlier.buckets[i];
  }
  out.count = later.count - earlier.count;
  out.sum_us = later.sum_us - earlier.sum_us;
  return out;
}

}  // namespace carpool::admin
