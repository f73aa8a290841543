#include "proxy/salt_secret.h"

#include <openssl/evp.h>

#include <string>

#include "base/check.h"
#include "config/load.h"
#include "config/salt_source.h"
#include "config/url.h"

namespace carpool::proxy {
namespace {

constexpr int kIterations = 100'000;
constexpr std::size_t kSecretBytes = 32;
constexpr std::string_view kPurpose = "Carpool: salts of users";

std::string without_line_end(std::string text) {
  while (text.ends_with('\n') || text.ends_with('\r')) text.pop_back();
  return text;
}

std::string password_of(const config::Server& server) {
  if (!server.password.empty()) return server.password;
  if (!server.password_file.empty()) {
    const Result<std::string> text = config::read_file(server.password_file);
    return text ? without_line_end(*text) : "";
  }
  Result<config::UrlParts> parts = config::parse_url(server.url);
  return parts ? (*parts)["password"] : "";
}

Bytes stretch(const std::string& text) {
  Bytes secret(kSecretBytes);
  CHECK(PKCS5_PBKDF2_HMAC(text.data(), static_cast<int>(text.size()), as_bytes(kPurpose).data(),
                          static_cast<int>(kPurpose.size()), kIterations, EVP_sha256(),
                          static_cast<int>(secret.size()), secret.data()) == 1);
  return secret;
}

}  // namespace

Result<std::optional<Bytes>> derive_salt_secret(const config::Config& config) {
  if (const std::string& path = config.auth.salt_file; !path.empty()) {
    const Result<std::string> text = config::read_file(path);
    if (!text) return Error{"auth.saltFile " + path + ": " + text.error().message};
    if (text->size() < kSaltFileBytesMin) {
      return Error{"auth.saltFile " + path + ": has fewer than " +
                   std::to_string(kSaltFileBytesMin) + " bytes"};
    }
    return std::optional(stretch(*text));
  }
  const config::Server* source = config::salt_source(config);
  const std::string password = source == nullptr ? "" : password_of(*source);
  if (password.empty()) return std::optional<Bytes>();
  return std::optional(stretch(password));
}

}  // namespace carpool::proxy
