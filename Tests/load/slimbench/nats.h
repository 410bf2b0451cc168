// The text protocol of nats-server, as far as a load needs it (docs.nats.io, "Client Protocol").
#pragma once

#include "connection.h"

/// CONNECT: nothing is confirmed, as fast clients do.
void nats_write_connect(connection *c);
/// SUB; the subject is the channel's name.
void nats_write_subscribe(connection *c, const char *subject);
/// The whole PUB of a payload of `size` zero bytes; answers where the payload begins.
size_t nats_write_publish(byte_queue *frames, const char *subject, size_t size);
/// Handles the whole protocol messages at the start of `bytes`; answers how many bytes they took.
size_t nats_receive(connection *c, byte_range bytes, uint64_t now);
