#include "slim.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

enum { message_subscribe = 1, message_publish = 3, message_link = 5, message_acknowledgement = 6 };
enum { header_source = 1, header_destination = 2, header_mac = 11, mac_bytes = 32 };
enum { identity_b = 3, fanout_b = 4, version_b = 5, ttl_b = 6, receive_from_b = 7 };
enum { forward_to_b = 8, error_b = 10, fanout_a = 3, identity_a = 4 };

static const char identity[] = "slimbench";
static const char version[] = "3.4.6";

static void write_text(byte_queue *out, int field, const char *text) {
  write_bytes_field(out, field, text, strlen(text));
}

/// Writes an embedded message and empties it.
static void write_message(byte_queue *out, int field, byte_queue *message) {
  write_bytes_field(out, field, byte_queue_first(message), byte_queue_count(message));
  byte_queue_free(message);
}

// MARK: MAC

static void append_u32(byte_queue *out, uint64_t value) {
  uint32_t word = (uint32_t)value;
  byte_queue_append(out, &word, sizeof word);
}

static void append_mark(byte_queue *out, bool there) {
  uint8_t mark = there;
  byte_queue_append(out, &mark, 1);
}

static void append_optional(byte_queue *out, byte_range message, int number) {
  message_field field;
  while (next_field(&message, &field)) {
    if (field.number != number) continue;
    append_mark(out, true);
    byte_queue_append(out, &field.value, sizeof field.value);
    return;
  }
  append_mark(out, false);
}

static void append_counted(byte_queue *out, byte_range bytes) {
  append_u32(out, bytes.count);
  byte_queue_append(out, bytes.bytes, bytes.count);
}

static void append_name(byte_queue *out, byte_range name) {
  append_mark(out, name.bytes != NULL);
  if (name.bytes == NULL) return;
  byte_range encoded = find_bytes(name, 1);
  append_mark(out, encoded.bytes != NULL);
  if (encoded.bytes != NULL) {
    for (int part = 1; part <= 3; part++) {
      uint64_t component = find_varint(encoded, part);
      byte_queue_append(out, &component, sizeof component);
    }
    byte_range id = find_bytes(encoded, 4);
    append_mark(out, id.bytes != NULL);
    for (int half = 1; id.bytes != NULL && half <= 2; half++) {
      uint64_t value = find_varint(id, half);
      byte_queue_append(out, &value, sizeof value);
    }
  }
  byte_range text = find_bytes(name, 2);
  append_mark(out, text.bytes != NULL);
  for (int part = 1; text.bytes != NULL && part <= 3; part++) append_counted(out, find_bytes(text, part));
}

/// The tag over an encoded family B header, as both ends of a link compute it. Little-endian machines only.
static void compute_mac(const slim_link *link, byte_range header, uint8_t *tag) {
  byte_queue text = {0};
  byte_queue_append(&text, "SLIM-DP-HDR-v1", 15);
  append_counted(&text, (byte_range){(const uint8_t *)link->id, strlen(link->id)});
  append_name(&text, find_bytes(header, header_source));
  append_name(&text, find_bytes(header, header_destination));
  append_counted(&text, find_bytes(header, identity_b));
  append_u32(&text, find_varint(header, fanout_b));
  append_optional(&text, header, receive_from_b);
  append_optional(&text, header, forward_to_b);
  append_mark(&text, false);  // slimbench never sets `error` and nobody may add it
  append_u32(&text, find_varint(header, ttl_b));
  unsigned count = mac_bytes;
  HMAC(EVP_sha256(), link->key, sizeof link->key, byte_queue_first(&text), byte_queue_count(&text), tag, &count);
  byte_queue_free(&text);
}

bool slim_mac_is_good(const slim_link *link, byte_range message) {
  byte_range header = find_bytes(find_bytes(message, message_publish), 1);
  byte_range found = find_bytes(header, header_mac);
  uint8_t tag[mac_bytes];
  if (header.bytes == NULL || found.count != sizeof tag) return false;
  compute_mac(link, header, tag);
  return memcmp(tag, found.bytes, sizeof tag) == 0;
}

// MARK: link

static EVP_PKEY *checked(EVP_PKEY *key) {
  if (key == NULL) die("X25519");
  return key;
}

void slim_write_link(byte_queue *message, slim_link *link) {
  uint8_t r[16];
  uint8_t public_key[32];
  size_t count = sizeof public_key;
  if (RAND_bytes(r, sizeof r) != 1 || RAND_bytes(link->private_key, sizeof link->private_key) != 1) {
    die("random bytes");
  }
  snprintf(
      link->id, sizeof link->id, "%02x%02x%02x%02x-%02x%02x-4%x%02x-8%x%02x-%02x%02x%02x%02x%02x%02x", r[0],
      r[1], r[2], r[3], r[4], r[5], r[6] & 15, r[7], r[8] & 15, r[9], r[10], r[11], r[12], r[13], r[14],
      r[15]);
  EVP_PKEY *own = checked(EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, link->private_key, 32));
  if (EVP_PKEY_get_raw_public_key(own, public_key, &count) != 1) die("X25519");
  EVP_PKEY_free(own);
  byte_queue negotiation = {0};
  write_text(&negotiation, 1, link->id);
  write_text(&negotiation, 2, version);
  write_bytes_field(&negotiation, 4, public_key, sizeof public_key);
  write_varint_field(&negotiation, 5, 2);  // an edge: an application
  write_text(&negotiation, 6, identity);
  byte_queue body = {0};
  write_message(&body, 1, &negotiation);
  write_message(message, message_link, &body);
}

static void agree(slim_link *link, const uint8_t *public_key) {
  uint8_t shared[32];
  size_t count = sizeof shared;
  EVP_PKEY *own = checked(EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, link->private_key, 32));
  EVP_PKEY *theirs = checked(EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, public_key, 32));
  EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(own, NULL);
  if (context == NULL || EVP_PKEY_derive_init(context) != 1 ||
      EVP_PKEY_derive_set_peer(context, theirs) != 1 || EVP_PKEY_derive(context, shared, &count) != 1) {
    die("X25519");
  }
  EVP_PKEY_CTX_free(context);
  EVP_PKEY_free(own);
  EVP_PKEY_free(theirs);
  static const char info[] = "SLIM-DP-inter-node-hmac-v1";
  size_t size = sizeof link->key;
  context = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, NULL);
  if (context == NULL || EVP_PKEY_derive_init(context) != 1 ||
      EVP_PKEY_CTX_set_hkdf_md(context, EVP_sha256()) != 1 ||
      EVP_PKEY_CTX_set1_hkdf_salt(context, (const uint8_t *)link->id, (int)strlen(link->id)) != 1 ||
      EVP_PKEY_CTX_set1_hkdf_key(context, shared, sizeof shared) != 1 ||
      EVP_PKEY_CTX_add1_hkdf_info(context, (const uint8_t *)info, sizeof info - 1) != 1 ||
      EVP_PKEY_derive(context, link->key, &size) != 1) {
    die("HKDF");
  }
  EVP_PKEY_CTX_free(context);
  link->has_key = true;
}

bool slim_receive_link(slim_link *link, byte_range message) {
  byte_range negotiation = find_bytes(find_bytes(message, message_link), 1);
  byte_range id = find_bytes(negotiation, 1);
  byte_range public_key = find_bytes(negotiation, 4);
  if (id.count != strlen(link->id) || memcmp(id.bytes, link->id, id.count) != 0) return false;
  if (find_varint(negotiation, 3) != 1) return false;
  if (public_key.count == 32) agree(link, public_key.bytes);
  return true;
}

// MARK: messages

static void write_name(byte_queue *out, int field, wire_family family, slim_name name) {
  byte_queue encoded = {0};
  write_varint_field(&encoded, 1, slim_component(name.org));
  write_varint_field(&encoded, 2, slim_component(name.space));
  write_varint_field(&encoded, 3, slim_component(name.service));
  if (family == family_a) {
    write_varint_field(&encoded, 4, name.id.low);
  } else {
    byte_queue id = {0};
    write_varint_field(&id, 1, name.id.high);
    write_varint_field(&id, 2, name.id.low);
    write_message(&encoded, 4, &id);
  }
  byte_queue text = {0};
  write_text(&text, 1, name.org);
  write_text(&text, 2, name.space);
  write_text(&text, 3, name.service);
  byte_queue message = {0};
  write_message(&message, 1, &encoded);
  write_message(&message, 2, &text);
  write_message(out, field, &message);
}

static void write_header(
    byte_queue *out, const options *o, const slim_link *link, slim_name source, slim_name destination,
    uint32_t fanout) {
  byte_queue header = {0};
  write_name(&header, header_source, o->family, source);
  write_name(&header, header_destination, o->family, destination);
  if (o->family == family_a) {
    write_varint_field(&header, fanout_a, fanout);
    write_text(&header, identity_a, identity);
  } else {
    write_text(&header, identity_b, identity);
    write_varint_field(&header, fanout_b, fanout);
    write_text(&header, version_b, version);
    write_varint_field(&header, ttl_b, 8);
  }
  if (link->has_key) {
    uint8_t tag[mac_bytes];
    compute_mac(link, byte_queue_range(&header), tag);
    write_bytes_field(&header, header_mac, tag, sizeof tag);
  }
  write_message(out, 1, &header);
}

void slim_write_subscribe(
    byte_queue *message, const options *o, const slim_link *link, slim_name source,
    slim_name destination, uint64_t acknowledge) {
  byte_queue subscribe = {0};
  write_header(&subscribe, o, link, source, destination, 1);
  if (acknowledge != 0) write_varint_field(&subscribe, 2, acknowledge);
  write_message(message, message_subscribe, &subscribe);
}

void slim_write_publish(
    byte_queue *message, const options *o, const slim_link *link, slim_name source,
    slim_name destination, uint32_t fanout) {
  byte_queue publish = {0};
  write_header(&publish, o, link, source, destination, fanout);
  byte_queue session = {0};
  write_varint_field(&session, 1, 2);  // multicast
  write_varint_field(&session, 2, 1);  // MSG
  write_varint_field(&session, 3, 7);
  write_varint_field(&session, 4, 1);
  write_message(&publish, 2, &session);
  uint8_t *payload = calloc(1, o->size);
  if (payload == NULL) die("out of memory");
  byte_queue application = {0};
  write_text(&application, 1, "msg");
  write_bytes_field(&application, 2, payload, o->size);
  free(payload);
  byte_queue content = {0};
  write_message(&content, 1, &application);
  write_message(&publish, 3, &content);
  write_message(message, message_publish, &publish);
}

uint64_t slim_acknowledged(byte_range message, bool *taken) {
  byte_range body = find_bytes(message, message_acknowledgement);
  *taken = find_varint(body, 2) == 1;
  return find_varint(body, 1);
}
