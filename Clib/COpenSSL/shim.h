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
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
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
// TLS 1.3 and nothing else, and no ticket: between nodes every connection shows its certificate.
static inline void posthouse_ssl_links_only(SSL_CTX *c) {
  SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION);
  SSL_CTX_set_max_proto_version(c, TLS1_3_VERSION);
  SSL_CTX_set_options(c, SSL_OP_NO_TICKET);
  SSL_CTX_set_num_tickets(c, 0);
  SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
  // The cheapest of TLS 1.3 first (RFC 8446 section 9.1: every implementation has it).
  SSL_CTX_set_ciphersuites(c, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256");
  // Several records with one read: links carry much.
  SSL_CTX_clear_mode(c, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_read_ahead(c, 1);
  SSL_CTX_set_default_read_buffer_len(c, 64 << 10);
}
// A BIO that keeps what TLS makes, for one send of many records: each write to a socket costs as much as thousands of bytes.
// Its owner takes the bytes away and frees them.
typedef struct {
  unsigned char *bytes;
  size_t used, room;
} posthouse_outbox;
static int posthouse_outbox_write(BIO *bio, const char *from, int count) {
  posthouse_outbox *out = (posthouse_outbox *)BIO_get_data(bio);
  if (count <= 0) return 0;
  if (out->used + (size_t)count > out->room) {
    size_t room = out->room > 0 ? out->room : 32 << 10;
    while (room < out->used + (size_t)count) room *= 2;
    unsigned char *grown = (unsigned char *)realloc(out->bytes, room);
    if (grown == NULL) return -1;
    out->bytes = grown;
    out->room = room;
  }
  memcpy(out->bytes + out->used, from, (size_t)count);
  out->used += (size_t)count;
  return count;
}
static inline void posthouse_outbox_free(posthouse_outbox *out) { free(out->bytes); }
static long posthouse_outbox_ctrl(BIO *bio, int command, long number, void *pointer) {
  (void)bio, (void)number, (void)pointer;
  return command == BIO_CTRL_FLUSH;
}
static int posthouse_outbox_create(BIO *bio) {
  BIO_set_init(bio, 1);
  return 1;
}
// One for the process; NULL when memory is out.
static inline BIO_METHOD *posthouse_outbox_method(void) {
  BIO_METHOD *made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "outbox");
  if (made == NULL) return NULL;
  BIO_meth_set_write(made, posthouse_outbox_write);
  BIO_meth_set_ctrl(made, posthouse_outbox_ctrl);
  BIO_meth_set_create(made, posthouse_outbox_create);
  return made;
}
// Lists of names are typed by macros.
static inline GENERAL_NAMES *posthouse_names_new(void) { return sk_GENERAL_NAME_new_null(); }
static inline void posthouse_names_free(GENERAL_NAMES *names) {
  sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free);
}
static inline int posthouse_names_count(const GENERAL_NAMES *names) { return sk_GENERAL_NAME_num(names); }
// The type (GEN_...) of one, and its bytes, borrowed; -1 for a type without bytes.
static inline int posthouse_name_at(const GENERAL_NAMES *names, int at, const unsigned char **bytes, int *count) {
  const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, at);
  if (name->type != GEN_URI && name->type != GEN_DNS && name->type != GEN_IPADD) return -1;
  const ASN1_STRING *text = name->type == GEN_IPADD ? name->d.iPAddress : name->d.ia5;
  *bytes = ASN1_STRING_get0_data(text);
  *count = ASN1_STRING_length(text);
  return name->type;
}
// Takes a copy of the bytes; 0 when memory is out.
static inline int posthouse_names_add(GENERAL_NAMES *names, int type, const void *bytes, int count) {
  ASN1_STRING *text = type == GEN_IPADD ? ASN1_OCTET_STRING_new() : ASN1_IA5STRING_new();
  GENERAL_NAME *name = GENERAL_NAME_new();
  if (text == NULL || name == NULL || !ASN1_STRING_set(text, bytes, count)) {
    ASN1_STRING_free(text);
    GENERAL_NAME_free(name);
    return 0;
  }
  GENERAL_NAME_set0_value(name, type, text);
  if (sk_GENERAL_NAME_push(names, name) > 0) return 1;
  GENERAL_NAME_free(name);
  return 0;
}
// The macro that sets no configuration database.
static inline void posthouse_x509_context(X509V3_CTX *c, X509 *issuer, X509 *subject) {
  X509V3_set_ctx(c, issuer, subject, NULL, NULL, 0);
  X509V3_set_ctx_nodb(c);
}
