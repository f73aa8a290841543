#include "pg/scram.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "pg/error_response.h"

namespace carpool::pg {
namespace {

constexpr std::string_view kMechanism = "SCRAM-SHA-256";
constexpr std::string_view kMechanismPlus = "SCRAM-SHA-256-PLUS";
constexpr std::string_view kBindingType = "tls-server-end-point";

// The codes of the Authentication messages.
constexpr std::uint32_t kSasl = 10;
constexpr std::uint32_t kSaslContinue = 11;
constexpr std::uint32_t kSaslFinal = 12;

void append_authentication(Bytes& out, std::uint32_t code, std::string_view data) {
  append_u8(out, 'R');
  append_u32(out, static_cast<std::uint32_t>(8 + data.size()));
  append_u32(out, code);
  append_text(out, data);
}

// A cursor over "a=value,b=value". Each step takes one attribute.
class Attributes {
 public:
  explicit Attributes(std::string_view text) : text_(text), rest_(text) {}

  // The value of the attribute that comes next, which must have this name; nullopt otherwise.
  std::optional<std::string_view> take(char name) {
    const auto attribute = take_any();
    if (!attribute || attribute->first != name) return std::nullopt;
    return attribute->second;
  }

  std::optional<std::pair<char, std::string_view>> take_any() {
    if (done_ || rest_.size() < 2 || rest_[1] != '=') return std::nullopt;
    const char name = rest_[0];
    if (!((name >= 'a' && name <= 'z') || (name >= 'A' && name <= 'Z'))) return std::nullopt;
    start_ = text_.size() - rest_.size();
    const std::size_t comma = rest_.find(',');
    const std::string_view value = rest_.substr(2, comma == rest_.npos ? comma : comma - 2);
    done_ = comma == rest_.npos;
    rest_ = done_ ? std::string_view() : rest_.substr(comma + 1);
    return std::pair(name, value);
  }

  bool done() const { return done_; }
  std::size_t start() const { return start_; }  // of the attribute that was taken last

 private:
  std::string_view text_;
  std::string_view rest_;
  std::size_t start_ = 0;
  bool done_ = false;
};

// "printable" of RFC 5802: a visible ASCII character that is no comma.
bool is_nonce(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(),
                                      [](char c) { return c >= 0x21 && c <= 0x7E && c != ','; });
}

}  // namespace

void ScramExchange::append_request(Bytes& out) const {
  std::string mechanisms;
  if (start_.channel_binding) {
    mechanisms += kMechanismPlus;
    mechanisms.push_back('\0');
  }
  mechanisms += kMechanism;
  mechanisms.push_back('\0');
  mechanisms.push_back('\0');
  append_authentication(out, kSasl, mechanisms);
}

ScramOutcome ScramExchange::broken(std::string detail) {
  state_ = State::Closed;
  return {ScramOutcome::Step::Failed, sqlstate::kProtocolViolation, "malformed SCRAM message",
          std::move(detail)};
}

ScramOutcome ScramExchange::refused(std::string detail) {
  state_ = State::Closed;
  return {ScramOutcome::Step::Failed, sqlstate::kInvalidPassword,
          "password authentication failed for user \"" + start_.user + "\"", std::move(detail)};
}

ScramOutcome ScramExchange::on_message(ByteSpan body, Bytes& out) {
  if (body.size() > kScramMessageBytesMax) return broken("The message is too long.");
  if (state_ == State::Initial) return on_initial(body, out);
  const std::string_view message = as_text(body);
  if (message.find('\0') != std::string_view::npos) {
    return broken("The message holds a zero byte.");
  }
  switch (state_) {
    case State::First:
      return on_first(message, out);
    case State::Final:
      return on_final(message, out);
    default:
      return broken("The exchange is over.");
  }
}

// SASLInitialResponse: the mechanism, and the client's first message unless its length is -1.
ScramOutcome ScramExchange::on_initial(ByteSpan body, Bytes& out) {
  const auto nul = std::find(body.begin(), body.end(), 0);
  const auto name_size = static_cast<std::size_t>(nul - body.begin());
  if (nul == body.end() || body.size() - name_size - 1 < 4) {
    return broken("The message is too short.");
  }
  const std::string_view mechanism = as_text(body.first(name_size));
  if (mechanism == kMechanismPlus && start_.channel_binding) {
    plus_ = true;
  } else if (mechanism != kMechanism) {
    return broken("The client chose a mechanism that was not offered.");
  }
  const ByteSpan rest = body.subspan(name_size + 1);
  const std::uint32_t length = load_u32(rest.data());
  const ByteSpan message = rest.subspan(4);
  state_ = State::First;
  if (length == 0xFFFFFFFF && message.empty()) {
    append_authentication(out, kSaslContinue, {});
    return {};
  }
  if (length != message.size()) return broken("The message does not have the length it says.");
  if (std::find(message.begin(), message.end(), 0) != message.end()) {
    return broken("The message holds a zero byte.");
  }
  return on_first(as_text(message), out);
}

// client-first-message = gs2-cbind-flag "," [authzid] "," [mext ","] "n=" user "," "r=" nonce ...
ScramOutcome ScramExchange::on_first(std::string_view message, Bytes& out) {
  const std::size_t flag_end = message.find(',');
  if (flag_end == std::string_view::npos) return broken("The channel binding flag is missing.");
  const std::string_view flag = message.substr(0, flag_end);
  if (flag == "n" || flag == "y") {
    if (plus_) {
      return broken("The client chose SCRAM-SHA-256-PLUS, but its message binds no channel.");
    }
    // The client can bind and thinks that this side cannot: somebody took the offer away.
    if (flag == "y" && start_.channel_binding) {
      return broken("The client did not see that channel binding was offered.");
    }
  } else if (flag.starts_with("p=")) {
    if (!plus_) {
      return broken("The client chose SCRAM-SHA-256, but its message binds a channel.");
    }
    if (flag.substr(2) != kBindingType) return broken("The type of channel binding is not known.");
  } else {
    return broken("The channel binding flag is not known.");
  }
  const std::size_t authzid_end = message.find(',', flag_end + 1);
  if (authzid_end != flag_end + 1) {
    return broken("An authorization identity is not supported, or the header is cut short.");
  }
  gs2_header_ = message.substr(0, authzid_end + 1);
  client_first_bare_ = message.substr(authzid_end + 1);

  Attributes attributes(client_first_bare_);
  if (client_first_bare_.starts_with("m=")) {
    return broken("The client requires an extension that is not supported.");
  }
  if (!attributes.take('n')) return broken("The attribute n is missing.");
  const auto client_nonce = attributes.take('r');
  if (!client_nonce || !is_nonce(*client_nonce)) return broken("The nonce is missing or broken.");
  while (!attributes.done()) {
    if (!attributes.take_any()) return broken("An extension is broken.");
  }
  nonce_ = std::string(*client_nonce) + start_.server_nonce;
  server_first_ = "r=" + nonce_ + ",s=" + encode_base64(start_.verifier.salt) +
                  ",i=" + std::to_string(start_.verifier.iterations);
  state_ = State::Final;
  append_authentication(out, kSaslContinue, server_first_);
  return {};
}

// client-final-message = "c=" binding "," "r=" nonce ["," extensions] "," "p=" proof
ScramOutcome ScramExchange::on_final(std::string_view message, Bytes& out) {
  Attributes attributes(message);
  const auto binding = attributes.take('c');
  if (!binding) return broken("The attribute c is missing.");
  const auto nonce = attributes.take('r');
  if (!nonce) return broken("The attribute r is missing.");
  auto attribute = attributes.take_any();
  while (attribute && attribute->first != 'p') attribute = attributes.take_any();
  if (!attribute) return broken("The attribute p is missing.");
  if (!attributes.done()) return broken("Something follows the proof.");
  const std::string_view without_proof = message.substr(0, attributes.start() - 1);
  const Result<Bytes> proof = decode_base64(attribute->second);
  if (!proof || proof->size() != kScramKeyBytes) return broken("The proof is broken.");

  Bytes expected_binding(gs2_header_.begin(), gs2_header_.end());
  if (plus_) append(expected_binding, *start_.channel_binding);
  if (*binding != encode_base64(expected_binding)) {
    // Bound to another certificate than ours, there is somebody between us and the client.
    return plus_ ? refused("Channel binding check failed.")
                 : broken("The attribute c does not repeat the first message.");
  }
  if (*nonce != nonce_) return broken("The nonce is not the one of this exchange.");

  const std::string auth_message =
      client_first_bare_ + "," + server_first_ + "," + std::string(without_proof);
  const ScramKey signature = hmac_sha256(start_.verifier.stored_key, as_bytes(auth_message));
  ScramKey client_key;
  for (std::size_t i = 0; i < client_key.size(); ++i) {
    client_key[i] = static_cast<std::uint8_t>((*proof)[i] ^ signature[i]);
  }
  const ScramKey stored_key = sha256(client_key);
  const ScramKey server_signature = hmac_sha256(start_.verifier.server_key, as_bytes(auth_message));
  OPENSSL_cleanse(client_key.data(), client_key.size());
  const bool fits =
      CRYPTO_memcmp(stored_key.data(), start_.verifier.stored_key.data(), stored_key.size()) == 0;
  // Both are asked after all the work, so that neither shows.
  if (!fits || !start_.user_exists) return refused({});
  state_ = State::Closed;
  append_authentication(out, kSaslFinal, "v=" + encode_base64(server_signature));
  return {ScramOutcome::Step::Done, {}, {}, {}};
}

std::optional<Bytes> tls_server_end_point(ByteSpan certificate_der) {
  // A TLS connection of this thread must not find our errors in its queue.
  struct ErrorMark {
    ErrorMark() { ERR_set_mark(); }
    ~ErrorMark() { ERR_pop_to_mark(); }
  } const mark;
  const unsigned char* der = certificate_der.data();
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(
      d2i_X509(nullptr, &der, static_cast<long>(certificate_der.size())), &X509_free);
  if (!certificate) return std::nullopt;
  int hash = NID_undef;
  if (X509_get_signature_info(certificate.get(), &hash, nullptr, nullptr, nullptr) != 1 ||
      hash == NID_undef) {
    return std::nullopt;
  }
  if (hash == NID_md5 || hash == NID_sha1) hash = NID_sha256;
  const EVP_MD* algorithm = EVP_get_digestbynid(hash);
  if (algorithm == nullptr) return std::nullopt;
  Bytes digest(EVP_MAX_MD_SIZE);
  unsigned length = 0;
  if (X509_digest(certificate.get(), algorithm, digest.data(), &length) != 1) return std::nullopt;
  digest.resize(length);
  return digest;
}

}  // namespace carpool::pg
