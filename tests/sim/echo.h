/* The target of dialect http: tells back what came. */
#ifndef SIM_ECHO_H
#define SIM_ECHO_H

#include "wire.h"

/* {"method","target","path","query","headers":[[name,value]…],"body_length","body_sha256"} and `filler` of that many bytes. */
void echo_put(const struct wire_request *, int64_t filler, struct buf *);

#endif
