// The messages the load generator writes and reads, as gRPC frames: only the fields it needs.
#pragma once

#include "options.h"

/// The name of channel `index` of this run: `org/bench-RUN/chINDEX`. `run` differs between runs, so that what
/// an earlier run left in an archive is never replayed into this one.
void channel_name(char *text, size_t capacity, const options *o, uint32_t run, int index);

/// A gRPC frame `Message{subscribe}` for a channel; `agent` tells subscribers apart on the slim-a wire.
byte_queue subscribe_frame(const options *o, uint32_t run, int channel, int agent);

/// A gRPC frame `Message{publish}` with room for `size` payload bytes, which are its last bytes.
byte_queue publish_frame(const options *o, uint32_t run, int channel);

/// The payload of a delivered `Message{publish}`, suffix included.
byte_range delivered_payload(byte_range message);
