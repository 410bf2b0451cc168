#pragma once

#include "options.h"

/// Publishes as fast as a window allows, or at a fixed rate, and prints what came of it.
int run_fanout(const options *o);
/// The same with and without subscribers that read nothing, in turns; prints what the others got in each.
int run_stall(const options *o);
/// Subscribers that wait until a line comes on standard input; then a few broadcasts.
int run_idle(const options *o);
