/* What the load generator is told on its command line, and the bytes that it sends. */
#ifndef LOAD_OPTIONS_H
#define LOAD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define TARGETS_MAX  64
#define NUMBER_WIDTH 10 /* digits that take the place of {{n}} */

struct target {
	char host[256], port[16]; /* empty for a unix socket */
	bool is_secure, is_named; /* by https; by a name, not an address */
	struct sockaddr_storage address;
	socklen_t address_len;
	char *request; /* head and body */
	size_t request_len;
	size_t numbers[8]; /* offsets in request where the number goes */
	unsigned number_count;
	uint64_t requests, ok; /* counted while it runs */
};

struct options {
	struct target targets[TARGETS_MAX];
	unsigned target_count;
	unsigned connections;
	uint64_t count;            /* requests to start; 0: until the time is up */
	int64_t duration, timeout; /* microseconds */
	int64_t grace;             /* for what is still in flight at the end */
	double rate;               /* open loop, requests a second over all connections; 0: closed loop */
	uint64_t abort_after;      /* leave after that many bytes of a body; 0: never */
	uint64_t first_number;
	bool series, fresh; /* fresh: a connection for every request */
	const char *ca;     /* file of trusted certificates; NULL: the system's */
	int tls_version;    /* TLS1_2_VERSION, TLS1_3_VERSION; 0: the newest that both know */
	const char *record; /* file for one line per request, or NULL */
};

struct options options_read(int argc, char **argv); /* ends the process with 2 when they are wrong */
bool options_secure(const struct options *);        /* some target is asked over TLS */
bool target_resolve(struct target *);               /* looks its host up (anew); blocks */
void options_free(struct options *);

#endif
