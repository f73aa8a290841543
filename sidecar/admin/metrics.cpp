#include "admin/metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "admin/process_stats.h"
#include "admin/text.h"

namespace carpool::admin {
namespace {

using pool::Histogram;
using pool::PoolSnapshot;
using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

// The families in the order of the text. A family without a metric is left out, since the format
// has no use for a heading alone.
class Families {
 public:
  void begin(MetricType type, std::string name, std::string help) {
    families_.push_back({std::move(name), std::move(help), type, {}});
  }

  void add(Labels labels, double value) {
    ClientMetric metric;
    metric.label = std::move(labels);
    metric.counter.value = value;  // the serializer reads the one that the type names
    metric.gauge.value = value;
    families_.back().metric.push_back(std::move(metric));
  }

  void add(Labels labels, const Histogram& histogram) {
    ClientMetric metric;
    metric.label = std::move(labels);
    metric.histogram.sample_count = histogram.count;
    metric.histogram.sample_sum = seconds(static_cast<Micros>(histogram.sum_us));
    std::uint64_t cumulative = 0;
    for (std::size_t i = 0; i < Histogram::kBuckets; i++) {
      cumulative += histogram.buckets[i];
      const double bound = i == Histogram::kBuckets - 1 ? std::numeric_limits<double>::infinity()
                                                        : seconds(Histogram::bound_us(i));
      metric.histogram.bucket.push_back({cumulative, bound});
    }
    families_.back().metric.push_back(std::move(metric));
  }

  void one(MetricType type, std::string name, std::string help, double value, Labels labels = {}) {
    begin(type, std::move(name), std::move(help));
    add(std::move(labels), value);
  }

  std::string text() {
    std::erase_if(families_, [](const MetricFamily& family) { return family.metric.empty(); });
    return prometheus::TextSerializer().Serialize(families_);
  }

 private:
  std::vector<MetricFamily> families_;
};

Labels labels_of(const PoolSnapshot& pool) {
  return {{"database", valid_utf8(pool.database)}, {"user", valid_utf8(pool.user)}};
}

Labels labels_of(const PoolSnapshot& pool, const char* name, std::string value) {
  Labels labels = labels_of(pool);
  labels.push_back({name, std::move(value)});
  return labels;
}

using Pools = std::vector<PoolSnapshot>;

// One value a pool.
template <typename Value>
void per_pool(Families& out, const Pools& pools, MetricType type, const char* name,
              const char* help, Value value) {
  out.begin(type, name, help);
  for (const PoolSnapshot& pool : pools) out.add(labels_of(pool), value(pool));
}

// One value a pool and name of a fixed set, all of them, so that a rate starts at zero.
template <typename Names, typename Values>
void per_name(Families& out, const Pools& pools, MetricType type, const char* name,
              const char* help, const char* label, const Names& names, Values values) {
  out.begin(type, name, help);
  for (const PoolSnapshot& pool : pools) {
    for (std::size_t i = 0; i < names.size(); i++) {
      out.add(labels_of(pool, label, names[i]), static_cast<double>(values(pool)[i]));
    }
  }
}

void add_pools(Families& out, const Pools& pools) {
  per_pool(out, pools, MetricType::Gauge, "carpool_pool_size",
           "Servers the pool may hold (pool.size).",
           [](const PoolSnapshot& p) { return static_cast<double>(p.size); });
  per_pool(out, pools, MetricType::Gauge, "carpool_pool_overflow",
           "Servers more, lent to clients that have waited pool.overflowAfter.",
           [](const PoolSnapshot& p) { return static_cast<double>(p.overflow); });
  per_name(
      out, pools, MetricType::Gauge, "carpool_pool_servers", "Connections to PostgreSQL by state.",
      "state", pool::kSlotStateNames, [](const PoolSnapshot& p) -> auto& { return p.servers; });
  per_name(
      out, pools, MetricType::Gauge, "carpool_pool_clients",
      "Connections of the application by state.", "state", pool::kClientStateNames,
      [](const PoolSnapshot& p) -> auto& { return p.clients; });
  per_pool(out, pools, MetricType::Histogram, "carpool_pool_wait_seconds",
           "From needing a server to having one.",
           [](const PoolSnapshot& p) { return p.counters.wait; });
  per_pool(out, pools, MetricType::Gauge, "carpool_pool_oldest_waiter_seconds",
           "How long the first client in the queue has waited; 0 when none waits.",
           [](const PoolSnapshot& p) { return seconds(p.oldest_waiter_us); });
  per_pool(out, pools, MetricType::Gauge, "carpool_pool_paused", "1 while the pool is paused.",
           [](const PoolSnapshot& p) { return p.paused ? 1.0 : 0.0; });
  per_pool(out, pools, MetricType::Histogram, "carpool_query_seconds",
           "From a query forwarded to its ReadyForQuery.",
           [](const PoolSnapshot& p) { return p.counters.query; });
  per_pool(out, pools, MetricType::Histogram, "carpool_transaction_seconds",
           "How long a server was lent.",
           [](const PoolSnapshot& p) { return p.counters.transaction; });
  per_pool(out, pools, MetricType::Counter, "carpool_pool_acquire_timeouts_total",
           "Clients that got no server within pool.acquireTimeout.",
           [](const PoolSnapshot& p) { return static_cast<double>(p.counters.acquire_timeouts); });
  per_pool(out, pools, MetricType::Counter, "carpool_server_connects_total",
           "Connections to PostgreSQL opened.",
           [](const PoolSnapshot& p) { return static_cast<double>(p.counters.server_connects); });
  per_name(
      out, pools, MetricType::Counter, "carpool_server_connect_errors_total",
      "Attempts to connect to PostgreSQL that failed, by reason.", "reason",
      pool::kConnectErrorNames,
      [](const PoolSnapshot& p) -> auto& { return p.counters.connect_errors; });
  per_pool(out, pools, MetricType::Histogram, "carpool_server_connect_seconds",
           "From the attempt to connect to PostgreSQL to ready.",
           [](const PoolSnapshot& p) { return p.counters.server_connect; });
  per_name(
      out, pools, MetricType::Counter, "carpool_pins_total",
      "Leases pinned until the client undoes it or leaves, by cause.", "cause",
      pool::kPinCauseNames, [](const PoolSnapshot& p) -> auto& { return p.counters.pins; });

  per_pool(out, pools, MetricType::Counter, "carpool_session_restores_total",
           "Times that a client's settings had to be set on a server before its request.",
           [](const PoolSnapshot& p) { return static_cast<double>(p.counters.restores); });

  out.begin(MetricType::Counter, "carpool_errors_total",
            "Errors passed to clients, by SQLSTATE class.");
  for (const PoolSnapshot& pool : pools) {
    for (const auto& [sqlstate_class, count] : pool.counters.errors_by_class) {
      out.add(labels_of(pool, "sqlstate_class", valid_utf8(sqlstate_class)),
              static_cast<double>(count));
    }
  }
  out.begin(MetricType::Counter, "carpool_bytes_total", "Bytes relayed, by direction.");
  for (const PoolSnapshot& pool : pools) {
    out.add(labels_of(pool, "direction", "from_clients"),
            static_cast<double>(pool.counters.bytes_from_clients));
    out.add(labels_of(pool, "direction", "to_clients"),
            static_cast<double>(pool.counters.bytes_to_clients));
  }
  out.begin(MetricType::Counter, "carpool_prepares_total",
            "Prepare requests of clients: sent to a server, or answered without one.");
  for (const PoolSnapshot& pool : pools) {
    out.add(labels_of(pool, "result", "forwarded"),
            static_cast<double>(pool.counters.prepares_forwarded));
    out.add(labels_of(pool, "result", "reused"),
            static_cast<double>(pool.counters.prepares_reused));
  }
  per_pool(out, pools, MetricType::Gauge, "carpool_prepared_statements",
           "Distinct prepared statements that clients or servers have.",
           [](const PoolSnapshot& p) { return static_cast<double>(p.prepared_statements); });
  per_pool(out, pools, MetricType::Gauge, "carpool_prepared_statement_bytes",
           "Memory of these and of the clients' names for them; 64 MiB at most.",
           [](const PoolSnapshot& p) { return static_cast<double>(p.prepared_statement_bytes); });
}

void add_proxy(Families& out, const pool::Snapshot& snapshot) {
  out.one(MetricType::Gauge, "carpool_clients", "Clients connected, in any state.",
          snapshot.clients);
  out.one(MetricType::Gauge, "carpool_clients_max", "Clients allowed (listen.clientsMax).",
          snapshot.clients_max);
  out.one(MetricType::Gauge, "carpool_memory_limit_bytes",
          "The container's memory limit; 0 where there is none.",
          static_cast<double>(snapshot.memory_limit_bytes));
  out.one(MetricType::Gauge, "carpool_memory_used_bytes",
          "Memory that counts towards the container's limit.",
          static_cast<double>(snapshot.memory_used_bytes));
  out.one(MetricType::Counter, "carpool_client_connects_total", "Clients ever accepted.",
          static_cast<double>(snapshot.client_connects));
  out.begin(MetricType::Counter, "carpool_clients_rejected_total", "Clients refused, by reason.");
  for (std::size_t i = 0; i < pool::kRejectReasons; i++) {
    out.add({{"reason", pool::kRejectReasonNames[i]}},
            static_cast<double>(snapshot.clients_rejected[i]));
  }
  out.one(MetricType::Counter, "carpool_accept_paused_total",
          "Times that accepting rested for want of file descriptors.",
          static_cast<double>(snapshot.accept_paused));
  out.one(MetricType::Gauge, "carpool_cancels",
          "Cancel requests that PostgreSQL has not taken yet, of servers that are gone too.",
          snapshot.cancels);
  out.one(MetricType::Gauge, "carpool_paused",
          "1 while any database is paused, whether it has a pool or not.",
          snapshot.anything_paused() ? 1 : 0);
  out.one(MetricType::Gauge, "carpool_draining", "1 while draining.", snapshot.draining ? 1 : 0);
}

void add_config(Families& out, const ConfigView& config) {
  out.one(MetricType::Gauge, "carpool_config_info", "The configuration in force, by content hash.",
          1, {{"hash", valid_utf8(config.hash)}});
  out.one(MetricType::Gauge, "carpool_config_last_reload_successful",
          "1 when the last configuration read was valid.", config.last_reload_successful ? 1 : 0);
  out.one(MetricType::Gauge, "carpool_credentials_last_reload_successful",
          "1 when the users' file, certificate and key were good when they were last read.",
          config.credentials_last_reload_successful ? 1 : 0);
  out.one(MetricType::Gauge, "carpool_config_last_reload_success_timestamp_seconds",
          "When a configuration was last applied, in Unix time.", config.last_success_unix_seconds);
  out.begin(MetricType::Counter, "carpool_config_reloads_total",
            "Configurations read, by what came of it.");
  out.add({{"result", "applied"}}, static_cast<double>(config.reloads_applied));
  out.add({{"result", "rejected"}}, static_cast<double>(config.reloads_rejected));
  out.add({{"result", "unchanged"}}, static_cast<double>(config.reloads_unchanged));
}

void add_process(Families& out, const std::string& version) {
  out.one(MetricType::Gauge, "carpool_build_info", "The version that runs.", 1,
          {{"version", version}});
  const ProcessStats process = read_process_stats();
  out.one(MetricType::Counter, "process_cpu_seconds_total", "CPU time, user and system.",
          process.cpu_seconds);
  out.one(MetricType::Gauge, "process_resident_memory_bytes", "Resident memory.",
          process.resident_bytes);
  out.one(MetricType::Gauge, "process_virtual_memory_bytes", "Virtual memory.",
          process.virtual_bytes);
  out.one(MetricType::Gauge, "process_open_fds", "Open file descriptors.", process.open_fds);
  out.one(MetricType::Gauge, "process_max_fds", "File descriptors allowed.", process.max_fds);
  out.one(MetricType::Gauge, "process_start_time_seconds", "When it started, in Unix time.",
          process.start_unix_seconds);
}

}  // namespace

std::string metrics_text(const pool::Snapshot& snapshot, const ConfigView& config,
                         const std::string& version) {
  Families out;
  add_proxy(out, snapshot);
  add_pools(out, snapshot.pools);
  add_config(out, config);
  add_process(out, version);
  return out.text();
}

}  // namespace carpool::admin
