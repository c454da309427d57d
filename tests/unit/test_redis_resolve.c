/* lib/redis_resolve: what localhost is, where the machine knows it and where it does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/loop.h"
#include "lib/redis_resolve.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>

static const char *machine_says; /* of every name; NULL: it knows none */

/* The look-up's thread calls this one instead of the C library's. */
int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
	union {
		void *symbol;
		int (*call)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
	} real = { .symbol = dlsym(RTLD_NEXT, "getaddrinfo") };
	if (host == NULL)
		return real.call(NULL, service, hints, found);
	return machine_says == NULL ? EAI_NONAME : real.call(machine_says, service, hints, found);
}

struct answer {
	bool done;
	struct redis_addresses found;
	const char *reason;
};

static void keep(void *arg, const struct redis_addresses *found, const char *reason)
{
	struct answer *answer = arg;
	*answer = (struct answer){ true, *found, reason };
}

static struct answer look_up(const char *host)
{
	struct loop *loop = loop_new();
	struct answer answer = { 0 };
	assert_non_null(redis_resolve_start(loop, host, 6379, keep, &answer));
	while (!answer.done)
		loop_turn(loop, true);
	loop_free(&loop);
	return answer;
}

static const struct sockaddr *address_of(const struct answer *answer, size_t i)
{
	return (const struct sockaddr *)&answer->found.list[i].storage;
}

static bool is_loopback(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET6)
		return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
	return ((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr == htonl(INADDR_LOOPBACK);
}

/* Where /etc/hosts says 127.0.0.1, whoever else listens on ::1 is not our Redis. */
static void localhost_is_what_the_machine_says(void **state)
{
	(void)state;
	machine_says = "127.0.0.7";
	struct answer answer = look_up("localhost");
	assert_null(answer.reason);
	assert_int_equal(answer.found.count, 1);
	const struct sockaddr_in *only = (const struct sockaddr_in *)(const void *)address_of(&answer, 0);
	assert_int_equal(only->sin_family, AF_INET);
	assert_int_equal(only->sin_addr.s_addr, htonl(INADDR_LOOPBACK + 6));
	assert_int_equal(only->sin_port, htons(6379));
}

static void localhost_is_the_loopback_where_the_machine_says_nothing(void **state)
{
	static const char *const names[] = { "localhost", "LocalHost" };
	(void)state;
	machine_says = NULL;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct answer answer = look_up(names[i]);
		assert_null(answer.reason);
		assert_in_range(answer.found.count, 1, REDIS_ADDRESSES);
		for (size_t n = 0; n < answer.found.count; n++)
			assert_true(is_loopback(address_of(&answer, n)));
	}
}

static void no_other_name_is(void **state)
{
	static const char *const names[] = { "localhost.example", "local", "redis" };
	(void)state;
	machine_says = NULL;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_string_equal(look_up(names[i]).reason, gai_strerror(EAI_NONAME));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(localhost_is_what_the_machine_says),
		cmocka_unit_test(localhost_is_the_loopback_where_the_machine_says_nothing),
		cmocka_unit_test(no_other_name_is),
	};
	return cmocka_run_group_tests_name("redis_resolve", tests, NULL, NULL);
}
