// TlsContext: the server's side of TLS for clients: certificate, key, and, where clients must show
// a certificate, the authorities that it must come from. It makes the SSL objects that a Stream
// speaks through. It opens no file: what stands in them is handed to it, since a file may hang. A
// new one replaces it when they change; streams keep the one that they began with.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/result.h"

namespace carpool::net {

// The content of a file in PEM.
struct Pem {
  std::string name;  // for errors: "listen.tls.certFile /etc/tls/tls.crt"
  std::string text;
};

class TlsContext {
 public:
  // `certificate` is a chain, the leaf first. Without `authorities` no certificate is asked of
  // clients; with some that hold none it is an error, lest an empty file let everybody in. A key
  // under a passphrase is an error: there is nobody to ask for it.
  static Result<std::unique_ptr<TlsContext>> make(const Pem& certificate, const Pem& key,
                                                  const std::optional<Pem>& authorities);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  // For an accepted socket; the handshake happens as it is read. Owned by the caller.
  SSL* accept(int fd) const;

  // Whether a client whose handshake was with `other` would pass here, too, as far as certificates
  // of clients go.
  bool asks_no_more_than(const TlsContext& other) const {
    return authorities_.empty() || authorities_ == other.authorities_;
  }

  // The certificate that is shown, in DER: for SCRAM's channel binding.
  const Bytes& certificate() const { return certificate_; }

 private:
  explicit TlsContext(SSL_CTX* context) : context_(context) {}
  SSL_CTX* context_;
  Bytes certificate_;
  std::string authorities_;  // as in the file; empty: none
};

// Why a handshake has failed, right after the read that said so.
std::string handshake_problem(const SSL* ssl);

// Whether the client has agreed on "postgresql" by ALPN, as PostgreSQL 17 wants of those that begin
// with TLS at once (manual, "SSL Session Encryption").
bool agreed_on_postgresql(const SSL* ssl);

}  // namespace carpool::net
