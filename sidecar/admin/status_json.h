// What /status answers: a snapshot in, JSON out. Its keys are a promise (docs/status.schema.json):
// keys are added, never renamed.
#pragma once

#include <string>

#include "admin/admin_server.h"
#include "admin/history.h"
#include "base/units.h"
#include "pool/counters.h"

namespace carpool::admin {

// What a snapshot alone does not hold.
struct StatusExtras {
  const History* history = nullptr;  // adds `lastMinute` to each pool; not kept
  Micros now_us = 0;                 // on the history's clock
  bool lists = false;                // adds `clientList` and `serverList`
};

// Times are over a pool's whole life; those of its `lastMinute` are what to look at. `why` is
// there where clients wait or no server can be opened, and is only as good as the snapshot is
// detailed (admin/diagnosis.h).
std::string status_json(const pool::Snapshot& snapshot, const std::string& version,
                        const StatusExtras& extras = {});

// What /config answers.
std::string config_json(const ConfigView& config);

}  // namespace carpool::admin
