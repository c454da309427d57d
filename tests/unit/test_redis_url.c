/* lib/redis_url: what a Redis URL may look like, and what each wrong one is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

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
	{ "redis://u:a@b@h",                  "h",         6379, NULL,      "u",   "a@b",  0 },
	{ "unix:///run/redis.sock",           NULL,        6379, "/run/redis.sock", NULL, NULL, 0 },
	{ "unix:///run/a%20b?db=3",           NULL,        6379, "/run/a b", NULL, NULL,   3 },
	{ "unix://u:pw@/run/r",               NULL,        6379, "/run/r",  "u",   "pw",   0 },
};

static const char *const bad[] = {
	"", "redis", "redis:", "redis://", "redis:///1", "http://h", "rediss://h", "redis://h:", "redis://h:0", "redis://h:65536",
	"redis://h:1x", "redis://h:-1", "redis://h/x", "redis://h/-1", "redis://h/1/2", "redis://h/99999", "redis://u@h", "redis://u:@h",
	"redis://[::1", "redis://[]:1", "redis://[::1]1", "redis://%zz", "redis://h%00", "redis://:%@h", "redis://@h", "redis://:1",
	"unix://", "unix:///", "unix://run/r", "unix:///run/r?", "unix:///run/r?db=", "unix:///run/r?db=x", "unix:///run/r?x=1",
	"unix:///run/%0", "sentinel://h/m", "cluster://h",
	"unix:///0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567",
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
		redis_options_free(&o);
		redis_options_free(&o); /* harmless twice */
	}
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
		cmocka_unit_test(every_bad_one_has_a_reason),
		cmocka_unit_test(every_error_has_its_row),
	};
	return cmocka_run_group_tests_name("redis_url", tests, NULL, NULL);
}
