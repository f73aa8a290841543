// Certificates made on the spot, and a client that speaks TLS by hand: libpq 15 knows neither
// direct TLS nor how to send a handshake a byte at a time.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "harness/process.h"
#include "harness/wire.h"

namespace carpool::integration {

// Paths of files in PEM.
struct Identity {
  std::string certificate;
  std::string key;
};

// A certificate authority in a folder of its own.
class Authority {
 public:
  explicit Authority(const std::string& name = "carpool test authority");
  std::string certificate() const { return dir_.path() / "ca.crt"; }
  // A certificate for that common name, good for localhost and 127.0.0.1 unless `names` says else
  // (as openssl's subjectAltName does).
  Identity issue(const std::string& common_name,
                 const std::string& names = "DNS:localhost,IP:127.0.0.1");

 private:
  TempDir dir_;
  int issued_ = 0;
};

struct TlsOptions {
  bool ask_first = false;                 // by an SSLRequest, instead of TLS at once
  std::string alpn = "postgresql";        // what it offers; empty: nothing
  std::optional<Identity> identity = {};  // the certificate that it shows
  std::size_t piece_bytes = 16384;        // the handshake goes out in pieces of this size
};

// Nobody's certificate is verified here: that is libpq's part in other tests.
class TlsWire {
 public:
  explicit TlsWire(int port, const TlsOptions& options = {});
  TlsWire(TlsWire&&) noexcept = default;

  bool connected() const { return connected_; }
  // The alert or the problem that ended it.
  const std::string& error() const { return error_; }
  // The protocol that was agreed on by ALPN.
  std::string alpn() const;
  // The common name of the certificate that the other side showed.
  std::string peer_name() const;

  bool send(std::string_view bytes);
  std::optional<Message> read(Millis deadline = kDeadline);
  std::vector<Message> read_until(std::string_view types);
  bool ended(Millis deadline = kDeadline);
  bool sign_in(const std::string& user = "app");
  std::vector<Message> query(std::string_view sql);
  // Goes without a word of TLS.
  void vanish() { wire_.close(); }

 private:
  struct Free {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  };
  // Sends what OpenSSL has to say; then waits for more of the other side. False: at its end.
  bool pump(Clock::time_point end);
  void flush();
  std::string read_bytes(std::size_t count, Clock::time_point end);

  Wire wire_;
  std::unique_ptr<SSL_CTX, Free> context_;
  std::unique_ptr<SSL, Free> ssl_;
  std::size_t piece_bytes_;
  bool connected_ = false;
  std::string error_;
};

}  // namespace carpool::integration
