#include "config/moment.h"

#include <utility>

namespace carpool::config {
namespace {

constexpr std::pair<std::string_view, Moment> kMoments[] = {
    {"pool.mode", Moment::NextLease},
    {"pool.resetQuery", Moment::NextLease},
    {"pool.sessionState", Moment::NextLease},
    {"pool.preparedStatementsMax", Moment::NextLease},
    {"pool.queryTimeout", Moment::NextTransaction},
    {"pool.idleTransactionTimeout", Moment::NextTransaction},
    {"pool.statementTimeout", Moment::EachServer},
};

// Whole sections.
constexpr std::pair<std::string_view, Moment> kSections[] = {
    {"server.", Moment::EachServer},
    {"auth.", Moment::NextClient},
    {"listen.", Moment::NextClient},
};

}  // namespace

Moment moment_of(const Key& key) {
  if (!key.live) return Moment::Restart;
  for (const auto& [path, moment] : kMoments) {
    if (path == key.path) return moment;
  }
  for (const auto& [section, moment] : kSections) {
    if (key.path.starts_with(section)) return moment;
  }
  return Moment::AtOnce;
}

std::string_view name_of(Moment moment) {
  switch (moment) {
    case Moment::Restart:
      return "restart";
    case Moment::AtOnce:
      return "live";
    case Moment::NextClient:
      return "live, next client";
    case Moment::EachServer:
      return "live, each server";
    case Moment::NextLease:
      return "live, next lease";
    case Moment::NextTransaction:
      return "live, next transaction";
  }
  return "";
}

std::string_view sentence_of(Moment moment) {
  switch (moment) {
    case Moment::Restart:
      return "waits for a restart";
    case Moment::AtOnce:
      return "applies live";
    case Moment::NextClient:
      return "applies live, to clients to come";
    case Moment::EachServer:
      return "applies live, servers are replaced as they come back";
    case Moment::NextLease:
      return "applies live, from the next lease";
    case Moment::NextTransaction:
      return "applies live, from the next transaction";
  }
  return "";
}

}  // namespace carpool::config
