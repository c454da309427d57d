/* The life of one request: what it is, whether it is refused, when its bytes go out, how they go wrong, how it is booked. */
#ifndef SIM_EXCHANGE_H
#define SIM_EXCHANGE_H

#include "sim.h"
#include "wire.h"

extern const struct wire_handler exchange_handler; /* its context is a struct sim */
/* For the control address: the same, but never down, and its connections do not count. */
extern const struct wire_handler exchange_control_handler;

#endif
