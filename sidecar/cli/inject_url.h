// An application's connection string as it is to be when the sidecar stands between: pure text.
//
// It never keeps a password or a certificate's path, and never changes what is the application's
// own: the scheme, the user, the database, and the parameters of its framework.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace carpool::cli {

inline constexpr const char* kSidecarHost = "127.0.0.1";
inline constexpr const char* kSidecarPort = "6432";

// The string with the sidecar as its server; where it is a URL, `$(VARIABLE)`, which the kubelet
// fills in, may stand in any part of it. An error completes "DATABASE_URL: " and shows no secret.
Result<std::string> url_at_sidecar(std::string_view url);

// Whether it leads to the sidecar already.
bool leads_to_sidecar(std::string_view url);

// The URL with another user and database, and its own scheme and parameters.
std::string with_user_and_database(std::string_view url, std::string_view user,
                                   std::string_view database);

// A parameter of libpq's in it; empty where there is none.
std::string parameter_of(std::string_view url, const std::string& name);

}  // namespace carpool::cli
