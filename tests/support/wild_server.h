/* A peer over TLS that does what it likes, for torture of a client: HTTP/2, or HTTP/1.1 on some connections, written by hand, one thread per connection.
 *
 * Of the connections some are never answered, closed at once, or slow to shake hands. Half of the others serve well; the rest answer late, in pieces, in part or not
 * at all, refuse streams (REFUSED_STREAM), break them, end them in the middle with no error, allow few streams or none (SETTINGS, at the beginning or later), say goodbye
 * (GOAWAY, with the last request served or not), and close with and without close_notify. A connection's chance comes from the seed and its number.
 *
 * Every whole answer is empty or ends in WILD_SERVER_END, and no part of one does. One that is ended in the middle with no error ends in WILD_SERVER_ENDED, and
 * nothing else does. */
#ifndef SLUICE_TESTS_WILD_SERVER_H
#define SLUICE_TESTS_WILD_SERVER_H

#include <stdint.h>

#define WILD_SERVER_END   '.'
#define WILD_SERVER_ENDED 'd'

struct wild_server;

/* Files in PEM. */
struct wild_server *wild_server_new(const char *certificate, const char *key, uint64_t seed);
void wild_server_free(struct wild_server **);               /* its clients have left, or will by themselves */
const char *wild_server_origin(const struct wild_server *); /* "https://127.0.0.1:PORT" */

#endif
