// Percentiles from the fixed buckets of pool::Histogram.
#pragma once

#include "pool/counters.h"

namespace carpool::admin {

// The time below which the share `q` (0 to 1) of what was observed lies, in seconds, by linear
// interpolation inside its bucket, as Prometheus' histogram_quantile does: so the page and a
// dashboard agree. 0 where nothing was observed; never above the last finite bound.
double percentile_seconds(const pool::Histogram& histogram, double q);

// What `later` observed since `earlier`, a copy of the same histogram; all of it where a counter
// ran backwards (another pool of the same name).
pool::Histogram since(const pool::Histogram& earlier, const pool::Histogram& later);

}  // namespace carpool::admin
