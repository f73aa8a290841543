#include "pg/scram_verifier.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <charconv>

#include "base/check.h"
#include "pg/text_encoding.h"

namespace carpool::pg {
namespace {

constexpr std::string_view kPrefix = "SCRAM-SHA-256$";

bool copy_key(std::string_view text, ScramKey& key) {
  const Result<Bytes> bytes = decode_base64(text);
  if (!bytes || bytes->size() != key.size()) return false;
  std::copy(bytes->begin(), bytes->end(), key.begin());
  return true;
}

}  // namespace

ScramKey hmac_sha256(ByteSpan key, ByteSpan message) {
  ScramKey out;
  unsigned length = 0;
  CHECK(HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), message.data(), message.size(),
             out.data(), &length) != nullptr);
  CHECK(length == out.size());
  return out;
}

ScramKey sha256(ByteSpan message) {
  ScramKey out;
  unsigned length = 0;
  CHECK(EVP_Digest(message.data(), message.size(), out.data(), &length, EVP_sha256(), nullptr) ==
        1);
  CHECK(length == out.size());
  return out;
}

std::string encode_base64(ByteSpan bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');  // with the NUL that OpenSSL adds
  const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), bytes.data(),
                                     static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(length));
  return text;
}

Result<Bytes> decode_base64(std::string_view text) {
  const Error broken{"not base64"};
  if (text.size() % 4 != 0) return broken;
  Bytes bytes(text.size() / 4 * 3);
  if (text.empty()) return bytes;
  const int length =
      EVP_DecodeBlock(bytes.data(), reinterpret_cast<const unsigned char*>(text.data()),
                      static_cast<int>(text.size()));
  if (length < 0 || static_cast<std::size_t>(length) != bytes.size()) return broken;
  // OpenSSL counts the padding as zero bytes and takes white space; encoding again shows both.
  if (text.ends_with("==")) {
    bytes.resize(bytes.size() - 2);
  } else if (text.ends_with("=")) {
    bytes.resize(bytes.size() - 1);
  }
  if (encode_base64(bytes) != text) return broken;
  return bytes;
}

bool looks_like_verifier(std::string_view text) {
  return text.starts_with(kPrefix);
}

Result<ScramVerifier> parse_verifier(std::string_view text) {
  const Error broken{
      "a SCRAM verifier is SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>"};
  if (!looks_like_verifier(text)) return broken;
  text.remove_prefix(kPrefix.size());
  const std::size_t colon = text.find(':');
  const std::size_t dollar = text.find('$');
  if (colon == std::string_view::npos || dollar == std::string_view::npos || colon > dollar) {
    return broken;
  }
  const std::string_view keys = text.substr(dollar + 1);
  const std::size_t keys_colon = keys.find(':');
  if (keys_colon == std::string_view::npos) return broken;

  ScramVerifier verifier;
  const auto [end, error] = std::from_chars(text.data(), text.data() + colon, verifier.iterations);
  if (error != std::errc() || end != text.data() + colon || verifier.iterations == 0 ||
      verifier.iterations > kScramIterationsMax) {
    return broken;
  }
  Result<Bytes> salt = decode_base64(text.substr(colon + 1, dollar - colon - 1));
  if (!salt || salt->empty() || salt->size() > kScramSaltBytesMax) return broken;
  verifier.salt = std::move(*salt);
  if (!copy_key(keys.substr(0, keys_colon), verifier.stored_key) ||
      !copy_key(keys.substr(keys_colon + 1), verifier.server_key)) {
    return broken;
  }
  return verifier;
}

std::string to_string(const ScramVerifier& verifier) {
  return std::string(kPrefix) + std::to_string(verifier.iterations) + ":" +
         encode_base64(verifier.salt) + "$" + encode_base64(verifier.stored_key) + ":" +
         encode_base64(verifier.server_key);
}

ScramVerifier make_verifier(std::string_view password, ByteSpan salt, std::uint32_t iterations) {
  CHECK(!salt.empty() && salt.size() <= kScramSaltBytesMax);
  CHECK(iterations > 0 && iterations <= kScramIterationsMax);
  ScramKey salted;
  CHECK(PKCS5_PBKDF2_HMAC(password.data(), static_cast<int>(password.size()), salt.data(),
                          static_cast<int>(salt.size()), static_cast<int>(iterations), EVP_sha256(),
                          static_cast<int>(salted.size()), salted.data()) == 1);
  ScramVerifier verifier;
  verifier.iterations = iterations;
  verifier.salt.assign(salt.begin(), salt.end());
  ScramKey client_key = hmac_sha256(salted, as_bytes("Client Key"));
  verifier.stored_key = sha256(client_key);
  verifier.server_key = hmac_sha256(salted, as_bytes("Server Key"));
  OPENSSL_cleanse(salted.data(), salted.size());
  OPENSSL_cleanse(client_key.data(), client_key.size());
  return verifier;
}

bool needs_saslprep(std::string_view password) {
  for (const char c : password) {
    if (static_cast<unsigned char>(c) >= 0x80) return is_utf8(password);
  }
  return false;
}

Bytes salt_for_user(ByteSpan secret, std::string_view user) {
  Bytes message;
  append_text(message, "salt ");
  append_text(message, user);
  const ScramKey key = hmac_sha256(secret, message);
  return Bytes(key.begin(), key.begin() + kScramSaltBytes);
}

std::optional<ScramShape> shape_for_user(ByteSpan secret, std::string_view user,
                                         std::span<const ScramShape> shapes) {
  std::optional<ScramShape> drawn;
  ScramKey best{};
  for (const ScramShape& shape : shapes) {
    Bytes message;
    append_text(message, "shape ");
    append_u32(message, shape.iterations);
    append_u32(message, static_cast<std::uint32_t>(shape.salt_bytes));
    append_text(message, user);
    const ScramKey lot = hmac_sha256(secret, message);
    if (drawn && lot <= best) continue;
    drawn = shape;
    best = lot;
  }
  return drawn;
}

ScramVerifier mock_verifier(ByteSpan secret, std::string_view user, ScramShape shape) {
  ScramVerifier verifier;
  verifier.iterations = shape.iterations;
  verifier.salt = salt_for_user(secret, user);
  while (verifier.salt.size() < shape.salt_bytes) {
    append(verifier.salt, hmac_sha256(secret, verifier.salt));
  }
  verifier.salt.resize(shape.salt_bytes);
  Bytes message;
  append_text(message, "keys ");
  append_text(message, user);
  // Nobody knows a password or a key whose hash this is.
  verifier.stored_key = hmac_sha256(secret, message);
  verifier.server_key = hmac_sha256(secret, verifier.stored_key);
  return verifier;
}

}  // namespace carpool::pg
