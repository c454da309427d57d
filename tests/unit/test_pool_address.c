/* Which addresses an upstream may have: the edges of every range that is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "lib/pool_internal.h"

static bool is_public(const char *text)
{
	struct sockaddr_in four = { .sin_family = AF_INET };
	struct sockaddr_in6 six = { .sin6_family = AF_INET6 };
	if (inet_pton(AF_INET, text, &four.sin_addr) == 1)
		return pool_address_is_public((struct sockaddr *)&four);
	assert_int_equal(inet_pton(AF_INET6, text, &six.sin6_addr), 1);
	return pool_address_is_public((struct sockaddr *)&six);
}

/* clang-format off */
static const char *const refused[] = {
	"0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.100.100.200", "100.127.255.255",
	"127.0.0.1", "127.255.255.255", "169.254.0.0", "169.254.169.254", "169.254.255.255", "172.16.0.0", "172.31.255.255",
	"192.0.0.1", "192.0.2.1", "192.168.0.0", "192.168.255.255", "198.18.0.0", "198.19.255.255", "198.51.100.7",
	"203.0.113.1", "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255",
	"::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.1.2.3", "::ffff:169.254.169.254", "64:ff9b::7f00:1",
	"2002:7f00:1::", "2002:a9fe:a9fe::", "100::1", "2001::1", "2001:db8::1", "fc00::1", "fdff::1", "fd00:ec2::254",
	"fe80::1", "febf::1", "fec0::1", "ff02::1",
};
static const char *const allowed[] = {
	"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.1",
	"169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0", "198.17.255.255",
	"198.20.0.0", "223.255.255.255", "142.250.185.74",
	"2001:4860:4860::8888", "2606:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1",
};
/* clang-format on */

static void special_ranges_are_refused(void **state)
{
	struct sockaddr_storage other = { .ss_family = AF_UNIX };
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(refused); i++)
		if (is_public(refused[i]))
			fail_msg("%s was taken for public", refused[i]);
	assert_false(pool_address_is_public((struct sockaddr *)&other));
}

static void their_neighbours_are_not(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(allowed); i++)
		if (!is_public(allowed[i]))
			fail_msg("%s was refused", allowed[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(special_ranges_are_refused),
		cmocka_unit_test(their_neighbours_are_not),
	};
	return cmocka_run_group_tests_name("pool addresses", tests, NULL, NULL);
}
