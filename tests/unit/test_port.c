/* The ports that tests give to their servers: free, out of the kernel's own reach, and never another test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base.h"
#include "tests/support/port.h"

#define MANY 400 /* of some 20,000: were they not claimed, two would be the same in 49 runs of 50 */

static void claim_many(struct port port[MANY])
{
	for (int i = 0; i < MANY; i++)
		port[i] = port_claim();
}

static void release_many(struct port port[MANY])
{
	for (int i = 0; i < MANY; i++)
		port_release(&port[i]);
}

/* A process of its own, that claims at the same time and holds on until it is heard. */
static pid_t another_test(int *results, int *hold)
{
	int out[2], in[2];
	assert_int_equal(pipe(out) | pipe(in), 0);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		static struct port port[MANY];
		char end;
		close(in[1]);
		claim_many(port);
		bool told = write(out[1], port, sizeof port) == (ssize_t)sizeof port;
		_exit(told && read(in[0], &end, 1) == 0 ? 0 : 1);
	}
	close(out[1]);
	close(in[0]);
	*results = out[0];
	*hold = in[1];
	return child;
}

static void two_tests_never_have_the_same(void **state)
{
	static struct port port[2][MANY];
	static bool taken[65536];
	int results, hold, status;
	(void)state;
	pid_t child = another_test(&results, &hold);
	claim_many(port[0]);
	size_t got = 0;
	while (got < sizeof port[1]) {
		ssize_t n = read(results, (char *)port[1] + got, sizeof port[1] - got);
		assert_true(n > 0);
		got += (size_t)n;
	}
	close(hold);
	for (int i = 0; i < 2 * MANY; i++) {
		int number = port[i / MANY][i % MANY].number;
		assert_in_range(number, 1024, 65535);
		assert_false(taken[number]);
		taken[number] = true;
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	close(results);
	release_many(port[0]);
}

/* The claim's name, and its socket's type, are what tests in another language go by. */
static bool someone_claims(int number)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int length = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "sluice-test-port-%d", number);
	int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_true(descriptor >= 0);
	bool bound = bind(descriptor, (struct sockaddr *)&address,
			  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length)) == 0;
	close(descriptor);
	return !bound;
}

static void it_is_claimed_until_it_is_released(void **state)
{
	struct port port = port_claim();
	int number = port.number;
	(void)state;
	assert_true(someone_claims(number));
	port_release(&port);
	assert_int_equal(port.number, 0);
	assert_false(someone_claims(number));
}

static void it_can_be_bound_and_the_kernel_does_not_give_it_away(void **state)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct port port = port_claim();
	int first, last, descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	FILE *range = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
	(void)state;
	address.sin_port = htons((uint16_t)port.number);
	assert_int_equal(bind(descriptor, (struct sockaddr *)&address, sizeof address), 0);
	close(descriptor);
	assert_non_null(range);
	assert_int_equal(fscanf(range, "%d %d", &first, &last), 2);
	fclose(range);
	if (first >= 20000)
		assert_false(port.number >= first && port.number <= last);
	port_release(&port);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_tests_never_have_the_same),
		cmocka_unit_test(it_is_claimed_until_it_is_released),
		cmocka_unit_test(it_can_be_bound_and_the_kernel_does_not_give_it_away),
	};
	return cmocka_run_group_tests_name("port", tests, NULL, NULL);
}
