// The modes of the load generator. Each prints one JSON object on stdout and returns the exit code.
#pragma once

#include "options.h"

/// Messages through channels to their subscribers, in a closed window or at a fixed rate.
int run_fanout(const options *o);
/// Acknowledged publishes on posthouse.v1.ChannelService, closed loop.
int run_publish(const options *o);
/// Acknowledged publishes on the raw protocol of limitlog, closed loop.
int run_rawdurable(const options *o);
/// Subscribers that wait; then three broadcasts to all of them.
int run_idle(const options *o);
