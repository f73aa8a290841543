#include "cli/status_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <vector>

#include "cli/read_json.h"
#include "cli/table.h"

namespace carpool::cli {
namespace {

using nlohmann::json;

constexpr std::size_t kSentenceColumns = 100;  // a longer line is hard to read

std::string whole(double value) {
  return fmt::format("{:.0f}", value);
}

// A table's last column; the whole is in the JSON.
std::string shown_query(const json& client) {
  constexpr std::size_t kQueryColumns = 80;
  return cut(text(client, "query"), kQueryColumns);
}

std::string pools_text(const json& status, std::size_t columns) {
  Table table({"<DATABASE", "<USER", "<MODE", "SERVERS", "IN USE", "%", "CLIENTS", "WAITING",
               "OLDEST", "TX/S", "QUERY P50", "QUERY P99", "WAIT P99", "ERRORS", "<LEVEL"});
  for (const json& pool : list(status, "pools")) {
    // The last minute where the sidecar knows it, else its whole life.
    const json& minute = part(pool, "lastMinute");
    const json& query = part(minute.empty() ? pool : minute, "querySeconds");
    const json& wait = part(minute.empty() ? pool : minute, "waitSeconds");
    const double room = number(pool, "size") + number(pool, "overflow");
    std::string level = text(pool, "level");
    if (flag(pool, "paused")) level += ", paused";
    if (flag(pool, "connectingFails")) level += ", cannot connect";
    table.add({text(pool, "database"), text(pool, "user"), text(pool, "mode"),
               whole(number(part(pool, "servers"), "total")) + "/" + whole(room),
               whole(number(pool, "busy")), whole(100 * number(pool, "utilisation")),
               whole(number(part(pool, "clients"), "total")), whole(number(pool, "waiting")),
               time_text(number(pool, "oldestWaiterSeconds")),
               minute.empty() ? "-" : count_text(number(minute, "transactionsPerSecond")),
               time_text(number(query, "p50")), time_text(number(query, "p99")),
               time_text(number(wait, "p99")), count_text(number(part(pool, "counters"), "errors")),
               level});
  }
  table.fit(columns, {"MODE", "QUERY P50", "ERRORS", "CLIENTS", "OLDEST", "TX/S", "USER"});
  return table.text();
}

std::string details_text(const json& status, std::size_t columns) {
  std::string out;
  if (!list(status, "clientList").empty()) {
    Table clients({"CLIENT", "<DATABASE", "<USER", "<APPLICATION", "<ADDRESS", "<STATE", "FOR",
                   "<PINNED BY", "<QUERY"});
    for (const json& client : list(status, "clientList")) {
      clients.add({whole(number(client, "id")), text(client, "database"), text(client, "user"),
                   text(client, "applicationName"), text(client, "address"), text(client, "state"),
                   time_text(number(client, "inStateSeconds")), text(client, "pinnedBy"),
                   shown_query(client)});
    }
    clients.fit(columns, {"ADDRESS", "USER", "PINNED BY", "CLIENT"});
    out += "\n" + clients.text();
  }
  if (!list(status, "serverList").empty()) {
    Table servers(
        {"SERVER", "<DATABASE", "<USER", "<ADDRESS", "BACKEND", "<STATE", "FOR", "AGE", "CLIENT"});
    for (const json& server : list(status, "serverList")) {
      const double client = number(server, "clientId");
      servers.add({whole(number(server, "id")), text(server, "database"), text(server, "user"),
                   text(server, "address"), whole(number(server, "backendPid")),
                   text(server, "state"), time_text(number(server, "inStateSeconds")),
                   time_text(number(server, "ageSeconds")), client > 0 ? whole(client) : "-"});
    }
    servers.fit(columns, {"AGE", "USER"});
    out += "\n" + servers.text();
  }
  return out;
}

// What is paused, whether it has a pool or not; empty: nothing.
std::string paused_text(const json& status) {
  constexpr std::size_t kNamesShown = 5;
  const bool all = flag(status, "paused");
  std::string names;
  std::size_t count = 0;
  for (const json& name : list(status, all ? "resumedDatabases" : "pausedDatabases")) {
    if (++count > kNamesShown) continue;
    names += (count == 1 ? "" : ", ") + (name.is_string() ? name.get<std::string>() : "?");
  }
  if (count > kNamesShown) names += fmt::format(" and {} more", count - kNamesShown);
  if (all) return "all paused" + (count == 0 ? "" : " but " + names);
  return count == 0 ? "" : "paused: " + names;
}

std::string summary_text(const json& status) {
  const json& clients = part(status, "clients");
  const std::size_t pools = list(status, "pools").size();
  const std::string paused = paused_text(status);
  return fmt::format("{} {}, {} of {} clients, up {}, carpool {}{}{}\n", pools,
                     pools == 1 ? "pool" : "pools", whole(number(clients, "connected")),
                     whole(number(clients, "max")), time_text(number(status, "uptimeSeconds")),
                     text(status, "version"), flag(status, "draining") ? ", draining" : "",
                     paused.empty() ? "" : ", " + printable(paused));
}

}  // namespace

std::string status_text(const json& status, bool detailed, std::size_t columns) {
  std::string out;
  if (list(status, "pools").empty()) {
    out = "no pool yet: one is made when its first client connects\n";
  } else {
    out = pools_text(status, columns);
  }
  const std::size_t sentence_columns =
      columns == 0 ? kSentenceColumns : std::min(columns, kSentenceColumns);
  for (const json& pool : list(status, "pools")) {
    const std::string why = text(part(pool, "why"), "sentence");
    if (!why.empty()) out += "\n" + wrapped(printable(why), sentence_columns);
  }
  if (detailed) out += details_text(status, columns);
  return out + "\n" + summary_text(status);
}

int check_code(const json& status) {
  const bool reason = flag(status, "draining") || !paused_text(status).empty();
  std::string worst = reason ? "warning" : "ok";
  for (const json& pool : list(status, "pools")) {
    const std::string level = text(pool, "level");
    if (level == "critical" || (level == "warning" && worst == "ok")) worst = level;
  }
  if (worst == "critical") return 2;
  return worst == "warning" ? 1 : 0;
}

std::string check_text(const json& status) {
  static constexpr const char* kWords[] = {"OK", "WARNING", "CRITICAL"};
  std::string why;
  std::string data;
  double fullest = -1;
  for (const json& pool : list(status, "pools")) {
    const std::string name = text(pool, "database") + "/" + text(pool, "user");
    const double percent = 100 * number(pool, "utilisation");
    if (percent > fullest) {
      fullest = percent;
      why = fmt::format("{} at {:.0f}%, {:.0f} waiting", name, percent, number(pool, "waiting"));
    }
    std::string label = name;
    std::replace_if(
        label.begin(), label.end(), [](char c) { return c == '\'' || c == '='; }, '_');
    data += fmt::format(" '{}'={:.0f}%;80;95;0", label, percent);
  }
  for (const json& pool : list(status, "pools")) {
    if (flag(pool, "connectingFails")) {
      why = fmt::format("{}/{} cannot connect: {}", text(pool, "database"), text(pool, "user"),
                        text(pool, "lastConnectError"));
    }
  }
  if (const std::string paused = paused_text(status); !paused.empty()) {
    why = paused + (why.empty() ? "" : "; " + why);
  }
  if (flag(status, "draining")) why = "draining" + (why.empty() ? "" : ", " + why);
  if (why.empty()) why = "no pool yet";
  std::string line = fmt::format("CARPOOL {} - {}", kWords[check_code(status)], why);
  std::replace(line.begin(), line.end(), '|', ' ');
  std::replace(data.begin(), data.end(), '|', ' ');
  return printable(line + (data.empty() ? "" : " |" + data)) + "\n";
}

std::string top_text(const json& status, bool all, std::size_t rows_max, std::size_t columns) {
  std::map<double, double> backend_of;  // by client
  for (const json& server : list(status, "serverList")) {
    if (number(server, "clientId") > 0) {
      backend_of[number(server, "clientId")] = number(server, "backendPid");
    }
  }
  std::vector<const json*> clients;
  for (const json& client : list(status, "clientList")) {
    if (all || text(client, "state") != "idle") clients.push_back(&client);
  }
  std::stable_sort(clients.begin(), clients.end(), [](const json* a, const json* b) {
    return number(*a, "inStateSeconds") > number(*b, "inStateSeconds");
  });
  Table table({"FOR", "<STATE", "BACKEND", "<DATABASE", "<USER", "CLIENT", "<APPLICATION",
               "<ADDRESS", "<PINNED BY", "<QUERY"});
  for (std::size_t i = 0; i < std::min(rows_max, clients.size()); i++) {
    const json& client = *clients[i];
    const auto backend = backend_of.find(number(client, "id"));
    table.add({time_text(number(client, "inStateSeconds")), text(client, "state"),
               backend == backend_of.end() ? "-" : whole(backend->second), text(client, "database"),
               text(client, "user"), whole(number(client, "id")), text(client, "applicationName"),
               text(client, "address"), text(client, "pinnedBy"), shown_query(client)});
  }
  table.fit(columns, {"ADDRESS", "CLIENT", "USER", "PINNED BY", "BACKEND"});
  std::string out = summary_text(status) + "\n" + table.text();
  if (clients.empty()) out += "nobody has a server or waits for one\n";
  if (clients.size() > rows_max) {
    out += fmt::format("and {} more (--rows)\n", clients.size() - rows_max);
  }
  return out;
}

}  // namespace carpool::cli
