// The text that Prometheus scrapes: a snapshot in, exposition format out, by prometheus-cpp's
// serializer. It keeps nothing between two scrapes.
//
// Base units; counters end in _total; the labels are database, user and a few fixed sets, never a
// value that a client can invent without signing in.
#pragma once

#include <string>

#include "admin/admin_server.h"
#include "pool/counters.h"

namespace carpool::admin {

// `process_*` is read from /proc/self at the time of the call.
std::string metrics_text(const pool::Snapshot& snapshot, const ConfigView& config,
                         const std::string& version);

}  // namespace carpool::admin
