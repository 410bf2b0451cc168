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
