#include "cli/status.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <ostream>
#include <thread>

#include "cli/status_text.h"

namespace carpool::cli {
namespace {

using nlohmann::json;

std::string path_of(const StatusOptions& options) {
  std::string path = "/status?detailed=";
  path += options.detailed || options.form == StatusForm::Top ? "1" : "0";
  if (!options.database.empty()) path += "&database=" + percent_encoded(options.database);
  return path;
}

std::string text_of(const json& status, const Reply& reply, const StatusOptions& options) {
  switch (options.form) {
    case StatusForm::Table:
      return status_text(status, options.detailed, options.columns);
    case StatusForm::Json:
      return reply.body;
    case StatusForm::Check:
      return check_text(status);
    case StatusForm::Top:
      return top_text(status, options.all, options.rows_max, options.columns);
  }
  return "";
}

int show_once(const StatusOptions& options, const Endpoint& endpoint, std::ostream& out,
              std::ostream& err) {
  const bool check = options.form == StatusForm::Check;
  const auto fail = [&](const std::string& why) {
    // Nagios reads standard output only.
    (check ? out : err) << (check ? "CARPOOL UNKNOWN - " : "carpool: ") << why << "\n";
    return kExitUnreachable;
  };
  Result<Reply> reply = get(endpoint, path_of(options));
  if (!reply) return fail(reply.error().message);
  if (reply->status != 200) return fail(error_of(*reply));
  const std::string stranger = "what answers at " + endpoint.text() + " is not carpool";
  const json status = json::parse(reply->body, nullptr, false);
  if (!status.is_object() || !status.contains("pools")) return fail(stranger);
  try {
    const std::string text = text_of(status, *reply, options);
    if (options.clear_screen) out << "\033[H\033[2J";
    out << text;
    return check ? check_code(status) : kExitOk;
  } catch (const json::exception&) {  // a key of another type than ours
    return fail(stranger);
  }
}

}  // namespace

int run_status(const StatusOptions& options, std::ostream& out, std::ostream& err) {
  Result<Endpoint> endpoint = parse_endpoint(options.admin);
  if (!endpoint) {
    err << "carpool: " << endpoint.error().message << "\n";
    return kExitUnreachable;
  }
  if (options.watch_seconds <= 0) return show_once(options, *endpoint, out, err);
  for (int round = 1;; round++) {
    // A sidecar that is gone may come back, so that is no reason to stop watching.
    const int code = show_once(options, *endpoint, out, err);
    // Where nobody can see it, watching ends (run_command_line() says why).
    if (!out.flush() || round == options.rounds_max) return code;
    std::this_thread::sleep_for(std::chrono::duration<double>(options.watch_seconds));
  }
}

}  // namespace carpool::cli
