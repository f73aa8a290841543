#include "harness/tls.h"

#include <openssl/err.h>
#include <openssl/x509.h>
#include <poll.h>
#include <sys/socket.h>

namespace carpool::integration {

Authority::Authority(const std::string& name) {
  run_command({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
               "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650", "-subj", "/CN=" + name,
               "-keyout", dir_.path() / "ca.key", "-out", dir_.path() / "ca.crt"});
}

Identity Authority::issue(const std::string& common_name, const std::string& names) {
  const std::filesystem::path base = dir_.path() / std::to_string(++issued_);
  const std::string key = base.string() + ".key";
  const std::string request = base.string() + ".csr";
  const std::string certificate = base.string() + ".crt";
  const std::string extensions = base.string() + ".cnf";
  write_file(extensions, "subjectAltName=" + names + "\n");
  run_command({"openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
               "-nodes", "-subj", "/CN=" + common_name, "-keyout", key, "-out", request});
  run_command({"openssl", "x509", "-req", "-days", "3650", "-in", request, "-CA",
               dir_.path() / "ca.crt", "-CAkey", dir_.path() / "ca.key", "-CAcreateserial",
               "-extfile", extensions, "-out", certificate});
  // libpq takes no key that others may read.
  std::filesystem::permissions(key, std::filesystem::perms(0600));
  return {certificate, key};
}

TlsWire::TlsWire(int port, const TlsOptions& options)
    : wire_(Wire::tcp(port)),
      context_(SSL_CTX_new(TLS_client_method())),
      piece_bytes_(options.piece_bytes) {
  if (!wire_.connected()) {
    error_ = "not connected";
    return;
  }
  if (options.ask_first) {
    wire_.send(untyped(kSslRequestCode));
    const std::string answer = wire_.read_bytes(1);
    if (answer != "S") {
      error_ = "the answer to an SSLRequest was " + answer;
      return;
    }
  }
  if (options.identity) {
    SSL_CTX_use_certificate_chain_file(context_.get(), options.identity->certificate.c_str());
    SSL_CTX_use_PrivateKey_file(context_.get(), options.identity->key.c_str(), SSL_FILETYPE_PEM);
  }
  ssl_.reset(SSL_new(context_.get()));
  if (!options.alpn.empty()) {
    const std::string offered = static_cast<char>(options.alpn.size()) + options.alpn;
    SSL_set_alpn_protos(ssl_.get(), reinterpret_cast<const unsigned char*>(offered.data()),
                        static_cast<unsigned>(offered.size()));
  }
  SSL_set_bio(ssl_.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  SSL_set_connect_state(ssl_.get());
  const Clock::time_point end = Clock::now() + kDeadline;
  while (SSL_do_handshake(ssl_.get()) != 1) {
    const int problem = SSL_get_error(ssl_.get(), -1);
    if (problem != SSL_ERROR_WANT_READ && problem != SSL_ERROR_WANT_WRITE) {
      const char* reason = ERR_reason_error_string(ERR_peek_last_error());
      error_ = reason != nullptr ? reason : "the handshake failed";
      flush();
      return;
    }
    if (!pump(end)) {
      error_ = "the other side has closed";
      return;
    }
  }
  flush();
  connected_ = true;
}

void TlsWire::flush() {
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(SSL_get_wbio(ssl_.get()), &bytes);
  std::string_view rest(bytes, static_cast<std::size_t>(size));
  while (!rest.empty()) {
    wire_.send(rest.substr(0, piece_bytes_));
    rest.remove_prefix(std::min(piece_bytes_, rest.size()));
  }
  BIO_reset(SSL_get_wbio(ssl_.get()));
}

bool TlsWire::pump(Clock::time_point end) {
  flush();
  pollfd descriptor{wire_.fd(), POLLIN, 0};
  const auto left = std::chrono::duration_cast<Millis>(end - Clock::now());
  if (left.count() <= 0 || poll(&descriptor, 1, static_cast<int>(left.count())) <= 0) return false;
  char bytes[16384];
  const ssize_t n = recv(wire_.fd(), bytes, sizeof bytes, 0);
  if (n <= 0) return false;
  BIO_write(SSL_get_rbio(ssl_.get()), bytes, static_cast<int>(n));
  return true;
}

std::string TlsWire::alpn() const {
  const unsigned char* name = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl_.get(), &name, &size);
  return {reinterpret_cast<const char*>(name), size};
}

std::string TlsWire::peer_name() const {
  X509* certificate = SSL_get0_peer_certificate(ssl_.get());
  if (certificate == nullptr) return "";
  char name[256] = "";
  X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name, sizeof name);
  return name;
}

bool TlsWire::send(std::string_view bytes) {
  if (SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size())) <= 0) return false;
  flush();
  return true;
}

std::string TlsWire::read_bytes(std::size_t count, Clock::time_point end) {
  std::string bytes(count, '\0');
  std::size_t have = 0;
  while (have < count) {
    const int n = SSL_read(ssl_.get(), bytes.data() + have, static_cast<int>(count - have));
    if (n > 0) {
      have += static_cast<std::size_t>(n);
      continue;
    }
    const int problem = SSL_get_error(ssl_.get(), n);
    if (problem != SSL_ERROR_WANT_READ && problem != SSL_ERROR_WANT_WRITE) {
      const char* reason = ERR_reason_error_string(ERR_peek_last_error());
      error_ = reason != nullptr ? reason : "the other side has said goodbye";
      break;
    }
    if (!pump(end)) {
      error_ = "nothing more came";
      break;
    }
  }
  bytes.resize(have);
  return bytes;
}

std::optional<Message> TlsWire::read(Millis deadline) {
  const Clock::time_point end = Clock::now() + deadline;
  const std::string head = read_bytes(5, end);
  if (head.size() < 5) return std::nullopt;
  const std::size_t size = int32_at(head, 1) - 4;
  Message message{head[0], read_bytes(size, end)};
  if (message.body.size() < size) return std::nullopt;
  return message;
}

std::vector<Message> TlsWire::read_until(std::string_view types) {
  std::vector<Message> messages;
  while (std::optional<Message> next = read()) {
    messages.push_back(std::move(*next));
    if (types.find(messages.back().type) != std::string_view::npos) break;
  }
  return messages;
}

bool TlsWire::ended(Millis deadline) {
  const Clock::time_point end = Clock::now() + deadline;
  while (read_bytes(1, end).size() == 1) {
  }
  return Clock::now() < end;
}

bool TlsWire::sign_in(const std::string& user) {
  if (!send(startup_packet({{"user", user}, {"database", "app"}}))) return false;
  return find(read_until("ZE"), 'Z') != nullptr;
}

std::vector<Message> TlsWire::query(std::string_view sql) {
  if (!send(query_message(sql))) return {};
  return read_until("Z");
}

}  // namespace carpool::integration
