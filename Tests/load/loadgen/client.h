// HTTP/2 clients over cleartext TCP, one connection and one gRPC stream each, all in one thread.
#pragma once

#include "options.h"
#include "wire.h"

#include <nghttp2/nghttp2.h>

typedef struct client client;

struct client {
  int fd;
  nghttp2_session *session;
  int32_t stream;
  byte_queue outgoing;  // gRPC frames nghttp2 has not taken yet
  byte_queue socket;    // HTTP/2 bytes the socket has not taken yet
  byte_queue partial;   // the beginning of a message whose end has not come
  bool deferred;        // nghttp2 found `outgoing` empty and must be woken
  bool watches_write;   // the socket was full
  bool dirty;           // in the list of clients to flush
  bool open;            // response headers came
  bool closed;
  client *next_dirty;
  void *owner;          // what the mode makes of it: a subscriber, a publisher
};

typedef void (*message_handler)(client *c, byte_range message, uint64_t now);

/// What all clients of the process share.
typedef struct {
  const options *options;
  message_handler receive_message;
  uint64_t errors;
  uint64_t closed;
  char last_error[200];  // safe to print inside a JSON string
} network;

extern network net;

void network_start(const options *o, message_handler handler);
/// Connects and opens a stream to `path`; exits when nobody listens.
client *client_open(int port, const char *path, void *owner);
/// Queues whole gRPC frames; they leave with the next `network_turn`.
void client_send(client *c, const void *frames, size_t count);
/// Flushes, waits up to `timeout_ns` for input, handles it, flushes.
void network_turn(int64_t timeout_ns);
