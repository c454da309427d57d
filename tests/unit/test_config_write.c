/* What is written from the table: documentation, defaults, the example, the running configuration; and what a reload may change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "svc/config_internal.h"
#include "tests/support/config_rig.h"
#include "tests/support/tls_files.h"

enum { TEXT_MOST = 1 << 20 };

static char *written(void write(struct buf *))
{
	struct buf out;

	buf_init(&out, TEXT_MOST);
	write(&out);
	assert_false(out.overflowed);
	buf_append_byte(&out, '\0');
	return out.data;
}

static json_t *shown(const struct config *c, struct buf *out)
{
	json_error_t error;
	json_t *json;

	buf_init(out, TEXT_MOST);
	config_write_json(c, out);
	json = json_loadb(out->data, out->len, JSON_REJECT_DUPLICATES, &error);
	if (json == NULL)
		fail_msg("%s: %.*s", error.text, SLICE_ARGS(buf_slice(out)));
	buf_append_byte(out, '\0');
	return json;
}

/* By names, "0" being a list's first. */
static const json_t *at(const json_t *json, const char *path)
{
	char copy[200], *rest = copy;

	snprintf(copy, sizeof(copy), "%s", path);
	for (char *name = strtok_r(copy, " ", &rest); name != NULL && json != NULL; name = strtok_r(NULL, " ", &rest))
		json = json_is_array(json) ? json_array_get(json, (size_t)atoi(name)) : json_object_get(json, name);
	if (json == NULL)
		fail_msg("nothing at %s", path);
	return json;
}

/* ---- documentation ----------------------------------------------------------------------------------------------------------- */

static void look_for_rows(const struct config_section *section, const char *above, const char *docs)
{
	for (size_t i = 0; i < section->count; i++) {
		const struct config_row *row = &section->rows[i];
		char path[200], line[300], below[300];
		snprintf(path, sizeof(path), "%s%s", above, row->name);
		snprintf(line, sizeof(line), "\n| `%s` | ", path);
		bool there = strstr(docs, line) != NULL;
		if (there == (row->type == CONFIG_LATER || row->type == CONFIG_SECTION))
			fail_msg("%s is %s the documentation", path, there ? "in" : "not in");
		snprintf(below, sizeof(below), "%s%s", path,
			 row->type == CONFIG_NAMED  ? ".NAME."
			 : row->type == CONFIG_LIST ? "[]."
						    : ".");
		if (row->section != NULL)
			look_for_rows(row->section, below, docs);
	}
}

static void documents_every_row_that_works(void **state)
{
	char *docs = written(config_write_docs);

	(void)state;
	look_for_rows(&config_root, "", docs);
	for (const char *line = docs; *line != '\0'; line = strchr(line, '\n') + 1) {
		int bars = 0;
		for (const char *c = line; *c != '\n'; c++)
			bars += *c == '|';
		assert_int_equal(bars, 7); /* six columns, in every line */
	}
	assert_non_null(strstr(docs, "\n| `redis.timeout` | duration | `50ms` | 5ms to 10s | restart | "));
	assert_non_null(
		strstr(docs, "\n| `redis.on_failure` | word | `share` | `share`, `open`, `closed` | reload | "));
	assert_null(strstr(docs, "cluster://"));
	assert_non_null(strstr(docs, "].price.input` | dollars | `none` | `none`, 0 to 1000000 | reload | "));
	assert_non_null(strstr(docs, ".breaker.error_rate` | percentage | `50%` | 0% to 100% | reload | "));
	free(docs);
}

/* ---- defaults ------------------------------------------------------------------------------------------------------------------ */

static void writes_defaults_that_change_nothing(void **state)
{
	char *defaults = written(config_write_defaults);
	struct buf text, error, one, other;
	const struct config *plain = config_rig_take(CONFIG_RIG_UPSTREAMS), *spelt;

	(void)state;
	buf_init(&text, TEXT_MOST);
	buf_format(&text, "%s%s", defaults, CONFIG_RIG_UPSTREAMS);
	buf_append_byte(&text, '\0');
	spelt = config_rig_take(text.data);
	json_t *a = shown(plain, &one), *b = shown(spelt, &other);
	assert_string_equal(one.data, other.data);
	buf_init(&error, TEXT_MOST);
	assert_true(config_may_reload(plain, spelt, &error));
	assert_int_equal(error.len, 0);
	json_decref(a);
	json_decref(b);
	config_release(&plain);
	config_release(&spelt);
	buf_free(&text);
	buf_free(&error);
	buf_free(&one);
	buf_free(&other);
	free(defaults);
}

/* What stands for a key that has no default, below a name. */
static const char *filling(const char *key)
{
	static const char *const fillings[][2] = {
		{ "admin_token:", "sixteen-bytes-or-more" },
		{ "trusted_proxies:", "10.0.0.1" },
		{ "dialect:", "openai" },
		{ "url:", "https://h" },
		{ "region:", "r" },
		{ "header:", "h" },
		{ "value:", "v" },
		{ "ca_file:", "${SLUICE_TEST_CA}" },
		{ "forward_headers:", "[]" },
		{ "limits:", "{}" },
		{ "upstream:", "NAME" },
		{ "model:", "m" },
		{ "path:", "/v1/models" },
		{ "fallback:", "[]" },
		{ "keys:", "[12345678]" },
		{ "      models:", "NAME" }, /* a group's */
		{ "      share:", "10%" },
		{ "    models:", "NAME" },           /* a tenant's */
		{ "  redis:", "unix:///run/redis" }, /* the cache's */
	};
	const char *bare = key + strspn(key, " ");

	for (size_t i = 0; i < ARRAY_LENGTH(fillings); i++)
		if (strcmp(fillings[i][0], bare) == 0 || strcmp(fillings[i][0], key) == 0)
			return fillings[i][1];
	return "";
}

/* With the hash signs taken off and its blanks filled in, the whole of it is a configuration. */
static void writes_every_key_into_the_defaults(void **state)
{
	char *defaults = written(config_write_defaults), *rest = defaults, *line;
	struct tls_files tls;
	struct buf text;
	const struct config *c;

	(void)state;
	tls_files_make(&tls);
	setenv("SLUICE_TEST_CA", tls.ca, 1);
	buf_init(&text, TEXT_MOST);
	while ((line = strtok_r(rest, "\n", &rest)) != NULL) {
		line += strncmp(line, "# ", 2) == 0 ? 2 : 0;
		buf_format(&text, "%s %s\n", line, filling(line));
	}
	buf_append_byte(&text, '\0');
	c = config_rig_take(text.data);
	assert_int_equal(c->upstreams_count, 1);
	assert_int_equal(c->models_count, 1);
	assert_int_equal(c->tenants_count, 1);
	config_release(&c);
	buf_free(&text);
	tls_files_free(&tls);
	free(defaults);
}

/* ---- the example --------------------------------------------------------------------------------------------------------------- */

static void writes_an_example_that_is_taken(void **state)
{
	static const char *const names[] = { "GEMINI_API_KEY", "OPENAI_API_KEY", "ACME_KEY", "INTERN_KEY_SHA256" };
	static const char digest[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
	char *example = written(config_write_example);
	const struct config *c;
	struct buf error;

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(names); i++)
		unsetenv(names[i]);
	assert_null(config_rig_parse(example, &error));
	for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
		assert_non_null(strstr(error.data, names[i]));
		setenv(names[i], i == 3 ? digest : "CANARY-of-the-environment", 1);
	}
	buf_free(&error);
	c = config_rig_take(example);
	assert_int_equal(c->upstreams_count, 2);
	assert_int_equal(c->tenants_count, 2);
	assert_true(c->upstreams[0].limits.of[LIMIT_rpm].strict);
	assert_false(c->tenants[0].limits.of[LIMIT_rpm].strict);
	assert_int_equal(c->tenants[0].limits.of[LIMIT_rpm].burst, 60);
	config_release(&c);
	free(example);
}

/* The same, with what it has for later, behind the first line, which is for people. */
static void writes_an_example_that_is_taken_with_all_of_it(void **state)
{
	char *example = written(config_write_example), *rest = strchr(example, '\n') + 1, *line;
	const struct config *c;
	struct buf text;
	int later = 0;

	(void)state;
	setenv("GEMINI_API_KEY", "CANARY", 1);
	setenv("OPENAI_API_KEY", "CANARY", 1);
	setenv("ACME_KEY", "CANARY-of-the-environment", 1);
	setenv("INTERN_KEY_SHA256", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", 1);
	buf_init(&text, TEXT_MOST);
	while ((line = strtok_r(rest, "\n", &rest)) != NULL) {
		bool is_later = strncmp(line, "# ", 2) == 0;
		buf_format(&text, "%s\n", is_later ? line + 2 : line);
		later += is_later;
	}
	buf_append_byte(&text, '\0');
	c = config_rig_take(text.data);
	assert_true(later > 8);
	assert_string_equal(c->region, "eu");
	assert_int_equal(c->upstreams[0].endpoints_count, 2);
	assert_int_equal(c->upstreams[0].endpoints[1].priority, 1);
	assert_string_equal(c->upstreams[0].health.path, "/v1beta/models");
	assert_int_equal(c->models_count, 2);
	assert_string_equal(c->models[0].fallback[0], c->models[1].name);
	assert_int_equal(c->models[0].price.cached, 310000);
	assert_int_equal(c->models[1].strategy, CONFIG_STRATEGY_WEIGHTED);
	assert_int_equal(c->models[1].targets[1].weight, 5);
	config_release(&c);
	buf_free(&text);
	free(example);
}

/* ---- the running one ----------------------------------------------------------------------------------------------------------- */

static void shows_itself_without_secrets(void **state)
{
	const struct config *c =
		config_rig_take("listen: [127.0.0.1:1, 'unix:/a\"b']\nadmin: '*:1'\nadmin_token: "
				"CANARY-CANARY-CANARY\nmax_body: 1536KiB\n"
				"redis: {url: 'redis://user:CANARY@h', timeout: 1500ms}\n"
				"cache: {redis: 'redis://user:CANARY@i', scope: user, local: 0, stale_if_error: 36h}\n"
				"upstreams: {u: {dialect: openai, default: true, endpoints: [{url: 'https://h/p/'}],\n"
				"  credential: {header: x-key, value: CANARY}, limits: {rpm: 5, tpm: {limit: 4M, "
				"burst: 9k}, concurrency: 3}}}\n"
				"models: {m: {targets: [{upstream: u}]}}\ntenants: {t: {keys: [CANARY-CANARY, "
				"CANARY-CANARY-2], models: [m]}}\n");
	struct buf out;
	json_t *json = shown(c, &out);

	(void)state;
	assert_null(strstr(out.data, "CANARY"));
	assert_string_equal(json_string_value(at(json, "listen 1")), "unix:/a\"b");
	assert_string_equal(json_string_value(at(json, "admin_token")), "***");
	assert_string_equal(json_string_value(at(json, "redis url")), "***");
	assert_string_equal(json_string_value(at(json, "redis timeout")), "1.5s");
	assert_string_equal(json_string_value(at(json, "max_body")), "1.5MiB");
	assert_string_equal(json_string_value(at(json, "upstreams u dialect")), "openai");
	assert_true(json_is_true(at(json, "upstreams u default")));
	assert_string_equal(json_string_value(at(json, "upstreams u endpoints 0 url")), "https://h/p/");
	assert_string_equal(json_string_value(at(json, "upstreams u credential header")), "x-key");
	assert_string_equal(json_string_value(at(json, "upstreams u credential value")), "***");
	assert_true(json_is_null(at(json, "upstreams u ca_file")));
	assert_true(json_is_true(at(json, "upstreams u limits rpm strict")));
	assert_int_equal(json_integer_value(at(json, "upstreams u limits tpm burst")), 9000);
	assert_int_equal(json_integer_value(at(json, "upstreams u limits concurrency limit")), 3);
	assert_null(json_object_get(at(json, "upstreams u limits concurrency"), "burst"));
	assert_int_equal(json_integer_value(at(json, "upstreams u pool max")), 100);
	assert_string_equal(json_string_value(at(json, "upstreams u pool http")), "auto");
	assert_string_equal(json_string_value(at(json, "models m targets 0 upstream")), "u");
	assert_string_equal(json_string_value(at(json, "tenants t keys")), "2, not shown");
	assert_string_equal(json_string_value(at(json, "cache redis")), "***");
	assert_string_equal(json_string_value(at(json, "cache scope")), "user");
	assert_string_equal(json_string_value(at(json, "cache local")), "0");
	assert_string_equal(json_string_value(at(json, "cache stale_if_error")), "36h");
	assert_true(json_is_false(at(json, "cache count_hits")));
	assert_string_equal(json_string_value(at(json, "coalesce when")), "deterministic");
	assert_string_equal(json_string_value(at(json, "queue max_wait")), "5s");
	assert_int_equal(json_integer_value(at(json, "queue weights high")), 5);
	json_decref(json);
	buf_free(&out);
	config_release(&c);
}

static void shows_what_has_no_password(void **state)
{
	const struct config *c = config_rig_take("admin: off\n" CONFIG_RIG_UPSTREAMS);
	struct buf out;
	json_t *json = shown(c, &out);

	(void)state;
	assert_string_equal(json_string_value(at(json, "redis url")), "embedded");
	assert_true(json_is_null(at(json, "admin")));
	assert_true(json_is_null(at(json, "admin_token")));
	assert_true(json_is_null(at(json, "cache redis")));
	json_decref(json);
	buf_free(&out);
	config_release(&c);
}

static void shows_where_requests_may_go(void **state)
{
	const struct config *c = config_rig_take(
		"upstreams: {u: {dialect: openai, breaker: {preset: simple, slow_rate: 0.5%},\n"
		"  endpoints: [{url: 'https://h', priority: 1, lane: batch}, {url: 'https://i', region: eu}]}}\n"
		"models:\n  m: {targets: [{upstream: u, weight: 3, price: {input: 1.250, output: 10.00}}], fallback: "
		"n}\n"
		"  n: {targets: [{upstream: u, capabilities: {context: 128k}}], strategy: load}\n");
	struct buf out;
	json_t *json = shown(c, &out);

	(void)state;
	assert_true(json_is_null(at(json, "region")));
	assert_int_equal(json_integer_value(at(json, "upstreams u endpoints 0 priority")), 1);
	assert_string_equal(json_string_value(at(json, "upstreams u endpoints 0 lane")), "batch");
	assert_string_equal(json_string_value(at(json, "upstreams u endpoints 1 region")), "eu");
	assert_string_equal(json_string_value(at(json, "upstreams u breaker preset")), "simple");
	assert_string_equal(json_string_value(at(json, "upstreams u breaker error_rate")), "0%");
	assert_string_equal(json_string_value(at(json, "upstreams u breaker slow_rate")), "0.5%");
	assert_string_equal(json_string_value(at(json, "upstreams u breaker open_most")), "1m");
	assert_string_equal(json_string_value(at(json, "upstreams u retry budget")), "20%");
	assert_true(json_is_null(at(json, "upstreams u health path")));
	assert_int_equal(json_integer_value(at(json, "models m targets 0 weight")), 3);
	assert_true(json_real_value(at(json, "models m targets 0 price input")) == 1.25);
	assert_int_equal(json_integer_value(at(json, "models m targets 0 price output")), 10);
	assert_true(json_is_null(at(json, "models m targets 0 price cached")));
	assert_true(json_is_null(at(json, "models m price input")));
	assert_string_equal(json_string_value(at(json, "models m fallback 0")), "n");
	assert_string_equal(json_string_value(at(json, "models n strategy")), "load");
	assert_int_equal(json_integer_value(at(json, "models n targets 0 capabilities context")), 128000);
	json_decref(json);
	buf_free(&out);
	config_release(&c);
}

/* ---- reload -------------------------------------------------------------------------------------------------------------------- */

static void judge_reload(const char *now, const char *next, const char *told)
{
	char one[2000], other[2000];
	const struct config *a, *b;
	struct buf error;

	snprintf(one, sizeof(one), "%s%s", now, CONFIG_RIG_UPSTREAMS);
	snprintf(other, sizeof(other), "%s%s", next, CONFIG_RIG_UPSTREAMS);
	a = config_rig_take(one);
	b = config_rig_take(other);
	buf_init(&error, TEXT_MOST);
	if (config_may_reload(a, b, &error) != (told == NULL))
		fail_msg("from %s to %s: %.*s", now, next, SLICE_ARGS(buf_slice(&error)));
	buf_append_byte(&error, '\0');
	assert_string_equal(error.data, told != NULL ? told : "");
	buf_free(&error);
	config_release(&a);
	config_release(&b);
}

static void says_what_needs_a_restart(void **state)
{
	(void)state;
	judge_reload("", "", NULL);
	judge_reload("", "listen: [127.0.0.1:8080]\n", NULL);
	judge_reload("", "listen: [127.0.0.1:8080, 127.0.0.1:1]\n",
		     "listen: from [\"127.0.0.1:8080\"] to [\"127.0.0.1:8080\",\"127.0.0.1:1\"]: needs a restart\n");
	judge_reload("", "admin: off\n", "admin: from \"127.0.0.1:8081\" to null: needs a restart\n");
	judge_reload(
		"workers: 1\n", "workers: 2\nredis: {timeout: 1s}\n",
		"workers: from 1 to 2: needs a restart\nredis.timeout: from \"50ms\" to \"1s\": needs a restart\n");
	judge_reload("admin_token: CANARY-CANARY-CANARY\n", "admin_token: CANARY-CANARY-CANARX\n",
		     "admin_token: from \"***\" to \"***\": needs a restart\n");
	judge_reload("", "redis: {url: 'redis://:CANARY@h'}\n",
		     "redis.url: from \"embedded\" to \"***\": needs a restart\n");
	judge_reload("redis: {url: 'redis://h/1'}\n", "redis: {url: 'redis://h/1', timeout: 0.05s}\n", NULL);
	judge_reload("client: {head: 1s}\n", "client: {head: 2s}\n",
		     "client.head: from \"1s\" to \"2s\": needs a restart\n");
	judge_reload("", "cache: {max_body: 8MiB}\ncoalesce: {window: 0}\n",
		     "cache.max_body: from \"1MiB\" to \"8MiB\": needs a restart\n"
		     "coalesce.window: from \"100ms\" to \"0\": needs a restart\n");
	judge_reload("", "cache: {local: 0, redis: 'redis://:CANARY@h'}\n",
		     "cache.local: from \"32MiB\" to \"0\": needs a restart\n"
		     "cache.redis: from null to \"***\": needs a restart\n");
	judge_reload("cache: {redis: 'redis://:CANARY@h'}\n", "cache: {redis: 'redis://:CANARX@h'}\n",
		     "cache.redis: from \"***\" to \"***\": needs a restart\n");
}

static void reloads_the_rest(void **state)
{
	(void)state;
	judge_reload("",
		     "log_level: debug\nmax_body: 1MiB\nmemory_limit: 2GiB\nallow_anonymous: true\n"
		     "trusted_proxies: 10.0.0.1\ndrain: {wait: 1s}\nredis: {on_failure: open}\n"
		     "cache: {ttl: 5m, stale_while_revalidate: 0, stale_if_error: 0, when: never, scope: shared,\n"
		     "  max_body: 1024KiB, count_hits: true, local: 32768KiB}\n"
		     "coalesce: {when: asked, window: 0.1s, streams: false}\n"
		     "tenants: {a: {keys: [12345678]}}\nmodels: {m: {targets: [{upstream: u}], fallback: [n], price: "
		     "{input: 1}},\n"
		     "  n: {targets: [{upstream: u, weight: 2}], strategy: weighted, affinity: false}}\nregion: eu\n",
		     NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(documents_every_row_that_works),
		cmocka_unit_test(writes_defaults_that_change_nothing),
		cmocka_unit_test(writes_every_key_into_the_defaults),
		cmocka_unit_test(writes_an_example_that_is_taken),
		cmocka_unit_test(writes_an_example_that_is_taken_with_all_of_it),
		cmocka_unit_test(shows_itself_without_secrets),
		cmocka_unit_test(shows_what_has_no_password),
		cmocka_unit_test(shows_where_requests_may_go),
		cmocka_unit_test(says_what_needs_a_restart),
		cmocka_unit_test(reloads_the_rest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
