// What /status answers: a snapshot in, JSON out. Its keys are a promise (docs/status.schema.json):
// keys are added, never renamed.
#pragma once

#include <string>

#include "admin/admin_server.h"
#include "pool/counters.h"

namespace carpool::admin {

// Percentiles are over a pool's whole life. `clientList` and `serverList` are there when the
// snapshot was asked for in detail.
std::string status_json(const pool::Snapshot& snapshot, const std::string& version);

// What /config answers.
std::string config_json(const ConfigView& config);

}  // namespace carpool::admin
