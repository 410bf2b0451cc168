// libssl and libcrypto. Function-like macros that Swift cannot import get a static inline twin here.
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/prctl.h>
// prctl is variadic, which Swift cannot call. Here because only the room with the keys needs it.
static inline int posthouse_not_dumpable(void) { return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); }
// SHA-256 in steps, for the MAC of a link: the only way to keep a state and go on from it without an allocation. The
// functions are deprecated since OpenSSL 3.0, hence the twins.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static inline void posthouse_sha256_init(SHA256_CTX *c) { SHA256_Init(c); }
static inline void posthouse_sha256_update(SHA256_CTX *c, const void *p, size_t n) { SHA256_Update(c, p, n); }
// HMAC from the states after the two padded keys, inner and outer. They stay as they are.
static inline void posthouse_sha256_hmac(const SHA256_CTX *states, const void *p, size_t n, void *tag) {
  unsigned char middle[SHA256_DIGEST_LENGTH];
  SHA256_CTX c = states[0];
  if (n > 0) SHA256_Update(&c, p, n);
  SHA256_Final(middle, &c);
  c = states[1];
  SHA256_Update(&c, middle, sizeof middle);
  SHA256_Final((unsigned char *)tag, &c);
}
#pragma GCC diagnostic pop
// Function-like macros of TLS, for the room Tls.
static inline int posthouse_ssl_min_version(SSL_CTX *c, int v) { return SSL_CTX_set_min_proto_version(c, v); }
static inline long posthouse_ssl_modes(SSL_CTX *c) {
  SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                             SSL_OP_IGNORE_UNEXPECTED_EOF);
  return SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                 SSL_MODE_RELEASE_BUFFERS);
}
static inline long posthouse_ssl_server_name(SSL *s, const char *name) { return SSL_set_tlsext_host_name(s, name); }
// Writes with plain write(2) in the socket BIO would raise SIGPIPE; the process ignores it.
