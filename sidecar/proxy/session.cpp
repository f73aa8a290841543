#include "proxy/session.h"

namespace carpool::proxy {

void ClientSession::meet(const SessionDefaults& defaults) {
  if (told == defaults || met == defaults) return;
  met = defaults;
  if (told == nullptr) return;
  for (const auto& [name, value] : told->values()) {
    const std::string* here = defaults->find(name);
    if (here != nullptr && *here != value) follower.keep(name, value);
  }
}

void ServerSession::opened(SessionTables& tables,
                           const std::vector<std::pair<std::string, std::string>>& parameters) {
  for (const auto& [name, value] : parameters) reported.set(name, value);
  now = reported;
  if (const std::string* encoding = reported.find("client_encoding")) {
    usual_encoding = pg::text_encoding(*encoding);
  }
  pg::ReportedValues values = reported.of_reading();
  if (tables.defaults == nullptr || *tables.defaults != values) {
    tables.defaults = std::make_shared<pg::ReportedValues>(std::move(values));
  }
  defaults = tables.defaults;
}

}  // namespace carpool::proxy
