#include "cli/drain.h"

#include <nlohmann/json.hpp>
#include <ostream>

namespace carpool::cli {

int run_control(const ControlOptions& options, std::ostream& out, std::ostream& err) {
  const std::string command = "carpool " + options.call + ": ";
  Result<Endpoint> endpoint = parse_endpoint(options.control);
  if (!endpoint) {
    err << command << endpoint.error().message << "\n";
    return kExitUnreachable;
  }
  std::string path = "/" + options.call;
  if (!options.database.empty()) path += "?database=" + percent_encoded(options.database);
  Result<Reply> reply = post(*endpoint, path);
  if (!reply) {
    err << command << reply.error().message << "\n";
    return kExitUnreachable;
  }
  if (reply->status != 200) {
    err << command << error_of(*reply) << "\n";
    return kExitFailed;
  }
  const nlohmann::json body = nlohmann::json::parse(reply->body, nullptr, false);
  if (body.is_object() && body.contains("done") && body["done"].is_string()) {
    out << body["done"].get<std::string>() << "\n";
  }
  return kExitOk;
}

}  // namespace carpool::cli
