#include "cli/status.h"

#include <fmt/format.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <ostream>
#include <thread>

#include "cli/table.h"

namespace carpool::cli {
namespace {

using nlohmann::json;

// The answer comes from another process, perhaps of another version: what is missing is empty.
double number(const json& object, const char* key) {
  return object.value(key, 0.0);
}

std::string text(const json& object, const char* key) {
  return object.value(key, std::string());
}

const json& part(const json& object, const char* key) {
  static const json kEmpty = json::object();
  const auto found = object.find(key);
  return found != object.end() && found->is_object() ? *found : kEmpty;
}

const json& list(const json& object, const char* key) {
  static const json kEmpty = json::array();
  const auto found = object.find(key);
  return found != object.end() && found->is_array() ? *found : kEmpty;
}

std::string whole(double value) {
  return fmt::format("{:.0f}", value);
}

std::string pools_text(const json& status) {
  Table table({"<DATABASE", "<USER", "<MODE", "SERVERS", "IN USE", "%", "CLIENTS", "WAITING",
               "OLDEST", "TX/S", "QUERY P50", "P99", "WAIT P99", "ERRORS", "<LEVEL"});
  for (const json& pool : list(status, "pools")) {
    // The last minute where the sidecar knows it, else its whole life.
    const json& minute = part(pool, "lastMinute");
    const json& query = part(minute.empty() ? pool : minute, "querySeconds");
    const json& wait = part(minute.empty() ? pool : minute, "waitSeconds");
    const double room = number(pool, "size") + number(pool, "overflow");
    std::string level = text(pool, "level");
    if (pool.value("paused", false)) level += ", paused";
    if (pool.value("connectingFails", false)) level += ", cannot connect";
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
  return table.text();
}

std::string details_text(const json& status) {
  Table clients({"CLIENT", "<DATABASE", "<USER", "<APPLICATION", "<ADDRESS", "<STATE", "FOR",
                 "<PINNED BY", "<QUERY"});
  for (const json& client : list(status, "clientList")) {
    clients.add({whole(number(client, "id")), text(client, "database"), text(client, "user"),
                 text(client, "applicationName"), text(client, "address"), text(client, "state"),
                 time_text(number(client, "inStateSeconds")), text(client, "pinnedBy"),
                 text(client, "query")});
  }
  Table servers(
      {"SERVER", "<DATABASE", "<USER", "<ADDRESS", "BACKEND", "<STATE", "FOR", "AGE", "CLIENT"});
  for (const json& server : list(status, "serverList")) {
    const double client = number(server, "clientId");
    servers.add({whole(number(server, "id")), text(server, "database"), text(server, "user"),
                 text(server, "address"), whole(number(server, "backendPid")),
                 text(server, "state"), time_text(number(server, "inStateSeconds")),
                 time_text(number(server, "ageSeconds")), client > 0 ? whole(client) : "-"});
  }
  return "\n" + clients.text() + "\n" + servers.text();
}

std::string summary_text(const json& status) {
  const json& clients = part(status, "clients");
  return fmt::format("{} pools, {} of {} clients, up {}, carpool {}{}\n",
                     list(status, "pools").size(), whole(number(clients, "connected")),
                     whole(number(clients, "max")), time_text(number(status, "uptimeSeconds")),
                     text(status, "version"), status.value("draining", false) ? ", draining" : "");
}

std::string human_text(const json& status, bool detailed) {
  std::string out;
  if (list(status, "pools").empty()) {
    out = "no pool yet: one is made when its first client connects\n";
  } else {
    out = pools_text(status);
  }
  for (const json& pool : list(status, "pools")) {
    std::string why = text(part(pool, "why"), "sentence");
    if (!why.empty()) out += "\n" + why + "\n";
  }
  if (detailed) out += details_text(status);
  return out + "\n" + summary_text(status);
}

// The level that counts is of what was asked for: one database, or all.
int level_code(const json& status) {
  const std::string level = text(status, "level");
  if (level == "critical") return 2;
  return level == "warning" ? 1 : 0;
}

// One line, performance data after the bar, as Nagios' plugin guidelines lay it down.
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
    data += fmt::format(" '{}'={:.0f}%;80;95;0;100", name, percent);
  }
  for (const json& pool : list(status, "pools")) {
    if (pool.value("connectingFails", false)) {
      why = fmt::format("{}/{} cannot connect: {}", text(pool, "database"), text(pool, "user"),
                        text(pool, "lastConnectError"));
    }
  }
  if (status.value("draining", false)) why = "draining" + (why.empty() ? "" : ", " + why);
  if (why.empty()) why = "no pool yet";
  for (char& c : why) {
    if (c == '|' || c == '\n') c = ' ';
  }
  return fmt::format("CARPOOL {} - {}{}{}\n", kWords[level_code(status)], why,
                     data.empty() ? "" : " |", data);
}

int show_once(const StatusOptions& options, const Endpoint& endpoint, std::ostream& out,
              std::ostream& err) {
  std::string path = "/status?detailed=";
  path += options.detailed ? "1" : "0";
  if (!options.database.empty()) path += "&database=" + percent_encoded(options.database);
  const auto fail = [&](const std::string& why) {
    // Nagios reads standard output only.
    (options.check ? out : err) << (options.check ? "CARPOOL UNKNOWN - " : "carpool status: ")
                                << why << "\n";
    return kExitUnreachable;
  };
  Result<Reply> reply = get(endpoint, path);
  if (!reply) return fail(reply.error().message);
  if (reply->status != 200) return fail(error_of(*reply));
  const json status = json::parse(reply->body, nullptr, false);
  if (!status.is_object()) return fail("what answers at " + endpoint.text() + " is not carpool");

  try {
    if (options.json) {
      out << reply->body;
    } else if (options.check) {
      out << check_text(status);
    } else {
      out << human_text(status, options.detailed);
    }
    return options.check ? level_code(status) : kExitOk;
  } catch (const json::exception&) {  // a key of another type than ours
    return fail("what answers at " + endpoint.text() + " is not carpool");
  }
}

}  // namespace

int run_status(const StatusOptions& options, std::ostream& out, std::ostream& err) {
  Result<Endpoint> endpoint = parse_endpoint(options.admin);
  if (!endpoint) {
    err << "carpool status: " << endpoint.error().message << "\n";
    return kExitUnreachable;
  }
  if (options.watch_seconds <= 0) return show_once(options, *endpoint, out, err);
  int code = kExitOk;
  for (int round = 1;; round++) {
    if (options.clear_screen) out << "\033[H\033[2J";
    code = show_once(options, *endpoint, out, err);  // a sidecar that is gone may come back
    out.flush();
    if (round == options.rounds_max) return code;
    std::this_thread::sleep_for(std::chrono::duration<double>(options.watch_seconds));
  }
}

}  // namespace carpool::cli
