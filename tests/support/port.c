#include "tests/support/port.h"

#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base.h"

#define FIRST 10000
#define LEAST 1000 /* so many to choose from */

/* The first port that the kernel gives away by itself. Where it leaves too few below, its own are used: claimed they are
 * among tests all the same. */
static int end_of_ours(void)
{
	int first = 0;
	FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
	if (file != NULL) {
		if (fscanf(file, "%d", &first) != 1)
			first = 0;
		fclose(file);
	}
	return first >= FIRST + LEAST ? first : 32768;
}

/* -1: another test has it. */
static int claim_of(int number)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int length = snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "sluice-test-port-%d", number);
	int claim = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	CHECK(claim >= 0);
	if (bind(claim, (struct sockaddr *)&address,
		 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length)) == 0)
		return claim;
	close(claim);
	return -1;
}

/* Without SO_REUSEADDR: connections that ended there lately count as well. */
static bool is_free(int number)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons((uint16_t)number),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(descriptor >= 0);
	bool bound = bind(descriptor, (struct sockaddr *)&address, sizeof(address)) == 0;
	close(descriptor);
	return bound;
}

struct port port_claim(void)
{
	unsigned random, many = (unsigned)(end_of_ours() - FIRST);
	CHECK(getrandom(&random, sizeof(random), 0) == (ssize_t)sizeof(random));
	for (unsigned i = 0; i < many; i++) {
		int number = FIRST + (int)((random % many + i) % many);
		int claim = claim_of(number);
		if (claim < 0)
			continue;
		if (is_free(number))
			return (struct port){ number, claim };
		close(claim);
	}
	fprintf(stderr, "port: all of %u are taken\n", many);
	abort();
}

void port_release(struct port *port)
{
	if (port->number != 0)
		close(port->claim);
	*port = (struct port){ 0 };
}
