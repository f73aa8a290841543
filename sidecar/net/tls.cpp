#include "net/tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

namespace carpool::net {
namespace {

constexpr unsigned char kAlpn[] = "\x0apostgresql";
constexpr unsigned int kAlpnSize = sizeof kAlpn - 1;

Error tls_error(const std::string& what) {
  char text[256] = "unknown error";
  if (const unsigned long code = ERR_get_error(); code != 0) {
    ERR_error_string_n(code, text, sizeof text);
  }
  ERR_clear_error();
  return Error{what + ": " + text};
}

int select_alpn(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* in,
                unsigned int in_size, void*) {
  unsigned char* selected = nullptr;
  if (SSL_select_next_proto(&selected, out_size, kAlpn, kAlpnSize, in, in_size) !=
      OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *out = selected;
  return SSL_TLSEXT_ERR_OK;
}

using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;

Bio bio_of(const Pem& pem) {
  return {BIO_new_mem_buf(pem.text.data(), static_cast<int>(pem.text.size())), &BIO_free};
}

// Instead of OpenSSL's own, which asks at the terminal.
int no_passphrase(char*, int, int, void*) {
  return -1;
}

// Whether the reading before ended because there was no more, and not in the midst of something
// that is no certificate (PEM_read_bio(3)). It takes the error away.
bool at_end() {
  const unsigned long code = ERR_peek_last_error();
  if (ERR_GET_LIB(code) != ERR_LIB_PEM || ERR_GET_REASON(code) != PEM_R_NO_START_LINE) return false;
  ERR_clear_error();
  return true;
}

// As SSL_CTX_use_certificate_chain_file(3).
bool use_chain(SSL_CTX* context, const Pem& pem) {
  const Bio bio = bio_of(pem);
  const Certificate leaf(PEM_read_bio_X509_AUX(bio.get(), nullptr, no_passphrase, nullptr),
                         &X509_free);
  if (leaf == nullptr || SSL_CTX_use_certificate(context, leaf.get()) != 1) return false;
  SSL_CTX_clear_chain_certs(context);
  while (X509* next = PEM_read_bio_X509(bio.get(), nullptr, no_passphrase, nullptr)) {
    if (SSL_CTX_add0_chain_cert(context, next) != 1) {
      X509_free(next);
      return false;
    }
  }
  return at_end();
}

bool use_key(SSL_CTX* context, const Pem& pem) {
  const Bio bio = bio_of(pem);
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr), &EVP_PKEY_free);
  return key != nullptr && SSL_CTX_use_PrivateKey(context, key.get()) == 1 &&
         SSL_CTX_check_private_key(context) == 1;
}

// Certificates, and lists of revoked ones, as SSL_CTX_load_verify_locations(3).
bool trust(SSL_CTX* context, const Pem& pem) {
  const Bio bio = bio_of(pem);
  STACK_OF(X509_INFO)* found = PEM_X509_INFO_read_bio(bio.get(), nullptr, no_passphrase, nullptr);
  if (found == nullptr) return false;
  X509_STORE* store = SSL_CTX_get_cert_store(context);
  int authorities = 0;
  bool good = true;
  for (int i = 0; i < sk_X509_INFO_num(found); ++i) {
    const X509_INFO* info = sk_X509_INFO_value(found, i);
    if (info->x509 != nullptr) {
      good = good && X509_STORE_add_cert(store, info->x509) == 1 &&
             SSL_CTX_add_client_CA(context, info->x509) == 1;
      ++authorities;
    }
    if (info->crl != nullptr) good = good && X509_STORE_add_crl(store, info->crl) == 1;
  }
  sk_X509_INFO_pop_free(found, X509_INFO_free);
  if (authorities == 0) ERR_raise(ERR_LIB_PEM, PEM_R_NO_START_LINE);
  return good && authorities > 0;
}

}  // namespace

Result<std::unique_ptr<TlsContext>> TlsContext::make(const Pem& certificate, const Pem& key,
                                                     const std::optional<Pem>& authorities) {
  ERR_clear_error();
  SSL_CTX* context = SSL_CTX_new(TLS_server_method());
  if (context == nullptr) return tls_error("TLS");
  std::unique_ptr<TlsContext> made(new TlsContext(context));
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  // As PostgreSQL: no tickets, no resumption, no renegotiation.
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);  // an idle client owns no buffer
  SSL_CTX_set_alpn_select_cb(context, select_alpn, nullptr);
  if (!use_chain(context, certificate)) return tls_error(certificate.name);
  if (!use_key(context, key)) return tls_error(key.name);
  if (authorities) {
    if (!trust(context, *authorities)) return tls_error(authorities->name);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    made->authorities_ = authorities->text;
  }
  unsigned char* der = nullptr;
  const int size = i2d_X509(SSL_CTX_get0_certificate(context), &der);
  if (size > 0) made->certificate_.assign(der, der + size);
  OPENSSL_free(der);
  return made;
}

TlsContext::~TlsContext() {
  SSL_CTX_free(context_);
}

SSL* TlsContext::accept(int fd) const {
  SSL* ssl = SSL_new(context_);
  if (ssl == nullptr) return nullptr;
  SSL_set_accept_state(ssl);
  if (SSL_set_fd(ssl, fd) == 1) return ssl;
  SSL_free(ssl);
  return nullptr;
}

std::string handshake_problem(const SSL* ssl) {
  if (const long verified = SSL_get_verify_result(ssl); verified != X509_V_OK) {
    return std::string("the client's certificate: ") + X509_verify_cert_error_string(verified);
  }
  const unsigned long code = ERR_peek_last_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  return reason != nullptr ? reason : "the client has left";
}

bool agreed_on_postgresql(const SSL* ssl) {
  const unsigned char* protocol = nullptr;
  unsigned int size = 0;
  SSL_get0_alpn_selected(ssl, &protocol, &size);
  return size == kAlpnSize - 1;  // nothing else is ever agreed on
}

}  // namespace carpool::net
