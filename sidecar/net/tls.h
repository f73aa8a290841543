// TlsContext: the server's side of TLS for clients: certificate, key, and, where clients must show
// a certificate, the authorities that it must come from. It makes the SSL objects that a Stream
// speaks through, and does no I/O but reading its files. A new one replaces it when they change;
// streams keep the one that they began with.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "config/config.h"

namespace carpool::net {

class TlsContext {
 public:
  static Result<std::unique_ptr<TlsContext>> load(const config::Tls& settings);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  // For an accepted socket; the handshake happens as it is read. Owned by the caller.
  SSL* accept(int fd) const;

  // The certificate that is shown, in DER: for SCRAM's channel binding.
  const Bytes& certificate() const { return certificate_; }

 private:
  explicit TlsContext(SSL_CTX* context) : context_(context) {}
  SSL_CTX* context_;
  Bytes certificate_;
};

// Why a handshake has failed, right after the read that said so.
std::string handshake_problem(const SSL* ssl);

// Whether the client has agreed on "postgresql" by ALPN, as PostgreSQL 17 wants of those that begin
// with TLS at once (manual, "SSL Session Encryption").
bool agreed_on_postgresql(const SSL* ssl);

}  // namespace carpool::net
