/* lib/redis_resolve: what needs no look-up. Nobody is asked what localhost is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/redis_resolve.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>

/* Whatever is looked up comes by here. */
int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
	union {
		void *symbol;
		int (*call)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
	} real = { .symbol = dlsym(RTLD_NEXT, "getaddrinfo") };
	assert_true(hints->ai_flags & AI_NUMERICHOST);
	return real.call(host, service, hints, found);
}

static void found_at(const struct redis_addresses *found, size_t i, const char *wanted)
{
	const struct sockaddr_storage *storage = &found->list[i].storage;
	const struct sockaddr_in *four = (const struct sockaddr_in *)storage;
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)storage;
	bool is_four = storage->ss_family == AF_INET;
	char text[INET6_ADDRSTRLEN];
	assert_non_null(inet_ntop(storage->ss_family,
				  is_four ? (const void *)&four->sin_addr : (const void *)&six->sin6_addr, text,
				  sizeof(text)));
	assert_string_equal(text, wanted);
	assert_int_equal(is_four ? four->sin_port : six->sin6_port, htons(6379));
	assert_int_equal(found->list[i].length, is_four ? sizeof(*four) : sizeof(*six));
}

/* Not what the resolver's order would be: another server may listen on ::1. */
static void localhost_is_127_0_0_1_and_then_1(void **state)
{
	static const char *const names[] = { "localhost", "LocalHost" };
	struct redis_addresses found;
	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		assert_true(redis_resolve_at_once(names[i], 6379, &found));
		assert_int_equal(found.count, 2);
		found_at(&found, 0, "127.0.0.1");
		found_at(&found, 1, "::1");
	}
}

static void a_number_is_itself(void **state)
{
	static const char *const numbers[] = { "127.0.0.7", "::1", "fe80::1" };
	struct redis_addresses found;
	(void)state;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		assert_true(redis_resolve_at_once(numbers[i], 6379, &found));
		assert_int_equal(found.count, 1);
		found_at(&found, 0, numbers[i]);
	}
}

static void any_other_name_has_to_be_looked_up(void **state)
{
	static const char *const names[] = { "localhost.example", "local", "redis", "" };
	struct redis_addresses found;
	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_false(redis_resolve_at_once(names[i], 6379, &found));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(localhost_is_127_0_0_1_and_then_1),
		cmocka_unit_test(a_number_is_itself),
		cmocka_unit_test(any_other_name_has_to_be_looked_up),
	};
	return cmocka_run_group_tests_name("redis_resolve", tests, NULL, NULL);
}
