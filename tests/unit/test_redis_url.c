/* lib/redis_url: what a Redis URL may look like, and what each wrong one is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/clock.h"
#include "lib/redis.h"

/* clang-format off */
static const struct { const char *url, *host; int port; const char *path, *user, *password; int database; } good[] = {
	{ "redis://h",                        "h",         6379, NULL,      NULL,  NULL,   0 },
	{ "redis://h/",                       "h",         6379, NULL,      NULL,  NULL,   0 },
	{ "redis://h:1/15",                   "h",         1,    NULL,      NULL,  NULL,   15 },
	{ "redis://127.0.0.1:65535",          "127.0.0.1", 65535, NULL,     NULL,  NULL,   0 },
	{ "redis://[::1]:7000/2",             "::1",       7000, NULL,      NULL,  NULL,   2 },
	{ "redis://[fe80::1%25eth0]",         "fe80::1%eth0", 6379, NULL,   NULL,  NULL,   0 },
	{ "redis://:pw@h",                    "h",         6379, NULL,      NULL,  "pw",   0 },
	{ "redis://u:p%40s%2Fs@h:8",          "h",         8,    NULL,      "u",   "p@s/s", 0 },
	{ "redis://u:a:b@h",                  "h",         6379, NULL,      "u",   "a:b",  0 },
	{ "unix://u%40:%40@/run/a@b",         NULL,        6379, "/run/a@b", "u@", "@",    0 },
	{ "unix:///run/redis.sock",           NULL,        6379, "/run/redis.sock", NULL, NULL, 0 },
	{ "unix:///run/a%20b?db=3",           NULL,        6379, "/run/a b", NULL, NULL,   3 },
	{ "unix://u:pw@/run/r",               NULL,        6379, "/run/r",  "u",   "pw",   0 },
	{ "unix://:a?b&c@/run/r",             NULL,        6379, "/run/r",  NULL,  "a?b&c", 0 },
	{ "redis://:a?b&c@under_score.h-1:8/1", "under_score.h-1", 8, NULL,  NULL,  "a?b&c", 1 },
};

static const char *const bad[] = {
	"", "redis", "redis:", "redis://", "redis:///1", "http://h", "rediss://h", "redis://h:", "redis://h:0", "redis://h:65536",
	"redis://h:1x", "redis://h:-1", "redis://h/x", "redis://h/-1", "redis://h/1/2", "redis://h/99999", "redis://u@h", "redis://u:@h",
	"redis://[::1", "redis://[]:1", "redis://[::1]1", "redis://%zz", "redis://h%00", "redis://:%@h", "redis://@h", "redis://:1",
	"unix://", "unix:///", "unix://run/r", "unix:///run/r?", "unix:///run/r?db=", "unix:///run/r?db=x", "unix:///run/r?x=1",
	"unix:///run/%0", "cluster://h", "sentinel://", "sentinel:///m", "sentinel://h", "sentinel://h/", "sentinel://h,/m", "sentinel://,h/m", "sentinel://h:0/m",
	"sentinel://h/m/x", "sentinel://h/m?", "sentinel://h/m?db=1", "sentinel://h/m?sentinel=", "sentinel://h/m?sentinel=u", "sentinel://h/m?sentinel=u:%zz", "sentinel://u@h/m", "sentinel://h/%zz", "sentinel://1,2,3,4,5,6,7,8,9/m",
	"unix:///0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567",
};

#define ONE_AT "one @ ends user and password, and one within them is written %40"
#define WHITE  "white space is written percent-encoded, as in %20"

/* What each of these is told, in part: what is wrong, and what is allowed. */
static const struct { const char *url, *told; } remedies[] = {
	{ "redis://h?db=1",                    "redis:// takes no parameter: the database follows the host, as in redis://host:6379/1" },
	{ "redis://h:6379?db=1",               "redis:// takes no parameter" },
	{ "redis://h/?db=1",                   "redis:// takes no parameter" },
	{ "redis://h/1?x=1",                   "redis:// takes no parameter" },
	{ "redis://u:pw@h/1?",                 "redis:// takes no parameter" },
	{ "redis://h#1",                       "letters, digits, '.', '-' and '_'" },
	{ "redis://one,two",                   "letters, digits, '.', '-' and '_'" },
	{ "redis://a%20b",                     "letters, digits, '.', '-' and '_'" },
	{ "redis://u:p@ss@h",                  ONE_AT },
	{ "redis://u@v:pw@h",                  ONE_AT },
	{ "redis://:pw@@h",                    ONE_AT },
	{ "redis://u:pw@h@",                   ONE_AT },
	{ "unix://u:p@ss@/run/r",              ONE_AT },
	{ "sentinel://u:p@ss@h/m",             ONE_AT },
	{ "sentinel://u:pw@one,u:pw@two/m",    ONE_AT },
	{ "redis://h ",                        WHITE },
	{ "redis://h:6379 /1",                 WHITE },
	{ "redis://h/1 ",                      WHITE },
	{ " redis://h",                        WHITE },
	{ "sentinel://a:1, b:2/m",             WHITE },
	{ "sentinel://a:1 ,b:2/m",             WHITE },
	{ "sentinel://a:1,b:2/ m",             WHITE },
	{ "sentinel://a:1,b:2/m\t",            WHITE },
	{ "unix:///run/a b",                   WHITE },
	{ "redis://:p w@h",                    WHITE },
	{ "redis://h%3a1",                     "letters, digits, '.', '-' and '_'" },
	{ "redis://[h/1]",                     "the address has no closing ]" },
	{ "redis://[::1%25/x]",                "the address has no closing ]" },
	{ "redis://[one,two]",                 "an address in [ ] is one of IPv6" },
	{ "redis://h/99999",                   "a number from 0 to 32767" },
	{ "unix:///r?db=1&x=1",                "the one parameter is db=N" },
	{ "unix:///r?x=1&db=1",                "the one parameter is db=N" },
	{ "unix:///r?db=1&db=2",               "the one parameter is db=N" },
	{ "unix:///r?db=1?db=2",               "a number from 0 to 32767" },
	{ "sentinel://a,b,a/m",                "each Sentinel is named once" },
	{ "sentinel://a:26379,A/m",            "each Sentinel is named once" },
	{ "sentinel://h?sentinel=:pw",         "letters, digits, '.', '-' and '_'" },
	{ "sentinel://h/m?sentinel=:pw&x=1",   "the one parameter is sentinel=user:password or sentinel=:password, with %26 for an & in it" },
	{ "sentinel://h/m?sentinel=:pw&",      "with %26 for an & in it" },
	{ "sentinel://h/m?sentinel=a&b:pw",    "with %26 for an & in it" },
	{ "sentinel://h/m?x=1&sentinel=:pw",   "the one parameter is sentinel=" },
	{ "sentinel://h/m?sentinels=:pw",      "the one parameter is sentinel=" },
	{ "sentinel://h/m&sentinel=:pw",       "the one parameter is sentinel=" },
};
/* clang-format on */

static void same(const char *found, const char *wanted)
{
	assert_int_equal(found == NULL, wanted == NULL);
	if (wanted != NULL)
		assert_string_equal(found, wanted);
}

static void every_good_one_is_read(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(good); i++) {
		struct redis_options o;
		const char *reason = NULL;
		if (!redis_options_parse(slice_of(good[i].url), &o, &reason))
			fail_msg("%s: %s", good[i].url, reason);
		same(o.host, good[i].host);
		same(o.path, good[i].path);
		same(o.user, good[i].user);
		same(o.password, good[i].password);
		assert_int_equal(o.port, good[i].port);
		assert_int_equal(o.database, good[i].database);
		assert_true(o.connect_timeout > 0 && o.reconnect_base > 0 && o.reconnect_cap >= o.reconnect_base);
		assert_true(o.connect_timeout + o.reconnect_cap <=
			    800 * CLOCK_MILLISECOND); /* normal service within a second of its return */
		redis_options_free(&o);
		redis_options_free(&o); /* harmless twice */
	}
}

static void sentinels_and_their_master(void **state)
{
	struct redis_options o;
	const char *reason;
	(void)state;
	assert_true(redis_options_parse(SLICE("sentinel://user:p%40ss@one:1,two,[::1]:3/my%2fmaster/4"), &o, &reason));
	assert_int_equal(o.sentinels_count, 3);
	assert_string_equal(o.sentinels[0].host, "one");
	assert_int_equal(o.sentinels[0].port, 1);
	assert_string_equal(o.sentinels[1].host, "two");
	assert_int_equal(o.sentinels[1].port, 26379);
	assert_string_equal(o.sentinels[2].host, "::1");
	assert_int_equal(o.sentinels[2].port, 3);
	assert_string_equal(o.master, "my/master");
	assert_string_equal(o.user, "user");
	assert_string_equal(o.password, "p@ss");
	assert_int_equal(o.database, 4);
	assert_null(o.host);
	assert_null(o.path);
	redis_options_free(&o);
	redis_options_free(&o);
}

static void sentinels_with_credentials_of_their_own(void **state)
{
	struct redis_options o;
	const char *reason;
	(void)state;
	assert_true(redis_options_parse(SLICE("sentinel://:pw@h/m/2?sentinel=user:p%3fss"), &o, &reason));
	assert_string_equal(o.sentinel_user, "user");
	assert_string_equal(o.sentinel_password, "p?ss");
	assert_string_equal(o.password, "pw");
	assert_int_equal(o.database, 2);
	redis_options_free(&o);
	assert_true(redis_options_parse(SLICE("sentinel://h/m?sentinel=:pw"), &o, &reason));
	assert_null(o.sentinel_user);
	assert_string_equal(o.sentinel_password, "pw");
	assert_null(o.password);
	assert_string_equal(o.master, "m");
	redis_options_free(&o);
	redis_options_free(&o);
	assert_true(redis_options_parse(SLICE("sentinel://h/m?sentinel=a%26b:p%26x=1/?"), &o, &reason));
	assert_string_equal(o.sentinel_user, "a&b");
	assert_string_equal(o.sentinel_password, "p&x=1/?");
	redis_options_free(&o);
}

static void every_bad_one_has_a_reason(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
		struct redis_options o;
		const char *reason = NULL;
		if (redis_options_parse(slice_of(bad[i]), &o, &reason))
			fail_msg("%s was accepted", bad[i]);
		assert_non_null(reason);
		assert_true(strlen(reason) > 10);
		assert_null(o.host);
		assert_null(o.password);
		assert_null(o.sentinel_user);
	}
}

static void what_is_wrong_is_named_with_what_is_allowed(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(remedies); i++) {
		struct redis_options o;
		const char *reason = NULL;
		if (redis_options_parse(slice_of(remedies[i].url), &o, &reason))
			fail_msg("%s was accepted", remedies[i].url);
		if (strstr(reason, remedies[i].told) == NULL)
			fail_msg("%s is told: %s", remedies[i].url, reason);
		assert_null(o.host);
		assert_null(o.sentinel_password);
	}
}

static void every_error_has_its_row(void **state)
{
	(void)state;
	for (int i = REDIS_ERROR_none + 1; i < REDIS_ERROR_COUNT; i++) {
		const struct redis_error_row *row = redis_error_row((enum redis_error)i);
		char text[64];
		assert_int_equal(redis_error_of(slice_of(row->prefix)), i);
		strcpy(text, row->prefix);
		strcat(text, " and more");
		assert_int_equal(redis_error_of(slice_of(text)), i);
		strcpy(text + strlen(row->prefix), "X");
		assert_int_equal(redis_error_of(slice_of(text)), REDIS_ERROR_other);
	}
	assert_int_equal(redis_error_of(SLICE("")), REDIS_ERROR_other);
	assert_int_equal(redis_error_of(SLICE("ERR unknown command 'EVALSHA', with args beginning with: 'x' ")),
			 REDIS_ERROR_unknown_command);
	assert_int_equal(redis_error_of(SLICE("ERR unknown command `evalsha`, with args beginning with: `x`, ")),
			 REDIS_ERROR_unknown_command);
	assert_int_equal(redis_error_of(SLICE("ERR unknown")), REDIS_ERROR_other);
	assert_true(redis_error_row(REDIS_ERROR_readonly)->drop);
	assert_true(redis_error_row(REDIS_ERROR_noauth)->drop);
	assert_true(redis_error_row(REDIS_ERROR_masterdown)->drop);
	assert_false(redis_error_row(REDIS_ERROR_loading)->drop);
	assert_int_equal(redis_error_row(REDIS_ERROR_noscript)->call, REDIS_LOAD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_good_one_is_read),
		cmocka_unit_test(sentinels_and_their_master),
		cmocka_unit_test(sentinels_with_credentials_of_their_own),
		cmocka_unit_test(every_bad_one_has_a_reason),
		cmocka_unit_test(what_is_wrong_is_named_with_what_is_allowed),
		cmocka_unit_test(every_error_has_its_row),
	};
	return cmocka_run_group_tests_name("redis_url", tests, NULL, NULL);
}
