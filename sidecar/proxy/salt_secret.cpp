#include "proxy/salt_secret.h"

#include <openssl/evp.h>

#include "base/check.h"

namespace carpool::proxy {
namespace {

constexpr int kIterations = 100'000;
constexpr std::size_t kSecretBytes = 32;
constexpr std::string_view kPurpose = "Carpool: salts of users";

Bytes stretch(const std::string& text) {
  Bytes secret(kSecretBytes);
  CHECK(PKCS5_PBKDF2_HMAC(text.data(), static_cast<int>(text.size()), as_bytes(kPurpose).data(),
                          static_cast<int>(kPurpose.size()), kIterations, EVP_sha256(),
                          static_cast<int>(secret.size()), secret.data()) == 1);
  return secret;
}

}  // namespace

Result<Bytes> salt_secret_of_file(const std::string& content) {
  if (content.size() < kSaltFileBytesMin) {
    return Error{"has fewer than " + std::to_string(kSaltFileBytesMin) + " bytes"};
  }
  return stretch(content);
}

Bytes salt_secret_of_password(std::string password) {
  while (password.ends_with('\n') || password.ends_with('\r')) password.pop_back();
  return password.empty() ? Bytes() : stretch(password);
}

Bytes salt_secret_of_place(const std::string& place) {
  return place.empty() ? Bytes() : stretch("place\n" + place);
}

}  // namespace carpool::proxy
