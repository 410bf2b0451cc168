// HTTP/2 by hand over cleartext TCP: one connection and one gRPC stream each, all in one thread. No library
// stands between the load and the socket, so that the node is what is measured.
#pragma once

#include "options.h"

typedef struct connection connection;

struct connection {
  int fd;
  byte_queue socket;          // bytes the socket has not taken yet
  byte_queue unparsed;        // the beginning of an HTTP/2 frame
  byte_queue partial;         // the beginning of a message whose end has not come
  int64_t connection_window;  // bytes the server still takes
  int64_t stream_window;
  int64_t initial_window;     // what the server's settings said
  uint32_t frame_size;
  uint32_t unacknowledged;    // bytes taken since the last WINDOW_UPDATE
  uint32_t acknowledge_every;
  bool watches_write;
  bool open;                  // response headers came
  bool closed;
  bool dirty;                 // in the list of connections to flush
  connection *next_dirty;
  void *owner;                // what the fleet makes of it
};

/// What all connections of the process share.
typedef struct {
  const options *options;
  void (*receive_message)(connection *c, byte_range message, uint64_t now);
  void (*receive_window)(connection *c);  // the server takes more again
  void (*receive_end)(connection *c);
  uint64_t errors;
  uint64_t closed;
  char last_error[200];                   // safe to print inside a JSON string
} network;

extern network net;

void network_start(const options *o);
/// Connects and opens the stream; exits when nobody listens. `window`: bytes the server may send unasked.
connection *connection_open(void *owner, uint32_t window);
/// True when DATA frames with `count` bytes in all may be sent now.
bool connection_has_room(const connection *c, size_t count);
/// Appends DATA frames with `bytes` to `frames`, cut as the server asked.
void write_data_frames(const connection *c, byte_queue *frames, byte_range bytes);
/// Queues frames with `count` bytes of DATA inside; they leave with the next `network_turn`.
void connection_send(connection *c, byte_range frames, size_t count);
/// Wraps one message into gRPC and DATA frames and queues it.
void connection_send_message(connection *c, const byte_queue *message);
/// Queues bytes as they are.
void connection_write(connection *c, const void *bytes, size_t count);
/// Gives it up; the reason is reported.
void connection_end(connection *c, const char *reason);
/// Reads nothing from it any more.
void connection_stall(connection *c);
/// Closes one that is stalled.
void connection_close_stalled(connection *c);
/// Flushes, waits up to `timeout_ns` for input, handles it, flushes.
void network_turn(int64_t timeout_ns);
