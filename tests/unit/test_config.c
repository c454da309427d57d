/* What a configuration comes to: values, defaults, limits, ${…}, who holds it, who is found in it. Cache and coalesce have their own,
 * test_config_cache.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/mem.h"
#include "tests/support/config_rig.h"
#include "tests/support/tls_files.h"

static const char whole[] =
	"listen: [127.0.0.1:9000, '[::1]:9000', 'unix:/run/sluice.sock']\n"
	"admin: '*:9001'\n"
	"admin_token: a-token-of-the-admin\n"
	"workers: 3\n"
	"allow_anonymous: true\n"
	"trusted_proxies: [10.0.0.0/8, '::1', unix]\n"
	"max_body: 64MiB\n"
	"memory_limit: 2GiB\n"
	"log_level: warning\n"
	"redis: {url: 'redis://user:password@redis:6380/3', timeout: 80ms, on_failure: open}\n"
	"client: {head: 5s, body: 20s, body_rate: 2KiB, idle: 1m, write_stall: 30s, connections: 5k}\n"
	"drain: {wait: 0, deadline: 1m}\n"
	"upstreams:\n"
	"  g:\n"
	"    dialect: gemini\n"
	"    default: true\n"
	"    endpoints: [{url: 'https://provider.example:8443/some/prefix/', region: us, priority: 0, weight: 1, lane: "
	"any}]\n"
	"    credential: {header: x-goog-api-key, value: the-secret}\n"
	"    usage: as_is\n"
	"    forward_headers: [X-One, X-Two]\n"
	"    limits: {rpm: 1000, tpm: 4M, concurrency: 200}\n"
	"    pool: {min: 10, start: 50, max: 90, streams: 110, streams_per_connection: 7, connect_timeout: 3s,\n"
	"           idle_timeout: 2m, max_age: 30m, validate_after: 40s, tenant_max: 9, http: 1.1}\n"
	"    timeout: {connect: 4s, first_byte: 50s, first_byte_plain: 9m, idle: 40s, total: 8m}\n"
	"  plain: {dialect: http, endpoints: [{url: 'http://[::1]'}]}\n"
	"models:\n"
	"  known/model:2: {targets: [{upstream: g, model: theirs}], strategy: priority, limits: {rps: 5}}\n"
	"tenants:\n"
	"  acme: {keys: a-key-of-acme, models: [known/model:2, plain], limits: {rpm: 600}}\n"
	"  other: {keys: ['sha256:5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5', another-key]}\n";

static void judge_upstream(const struct config_upstream *u)
{
	assert_string_equal(u->name, "g");
	assert_int_equal(u->dialect, DIALECT_gemini);
	assert_true(u->is_default);
	assert_int_equal(u->endpoints_count, 1);
	assert_string_equal(u->endpoints[0].origin, "https://provider.example:8443");
	assert_string_equal(u->endpoints[0].prefix, "/some/prefix");
	assert_string_equal(u->endpoints[0].region, "us");
	assert_string_equal(u->credential.header, "x-goog-api-key");
	assert_string_equal(u->credential.value, "the-secret");
	assert_int_equal(u->usage, CONFIG_USAGE_AS_IS);
	assert_int_equal(u->forward_headers_count, 2);
	assert_string_equal(u->forward_headers[1], "X-Two");
	assert_int_equal(u->pool.min, 10);
	assert_int_equal(u->pool.start, 50);
	assert_int_equal(u->pool.max, 90);
	assert_int_equal(u->pool.streams, 110);
	assert_int_equal(u->pool.streams_per_connection, 7);
	assert_int_equal(u->pool.connect_timeout, 3 * CLOCK_SECOND);
	assert_int_equal(u->pool.idle_timeout, 2 * CLOCK_MINUTE);
	assert_int_equal(u->pool.max_age, 30 * CLOCK_MINUTE);
	assert_int_equal(u->pool.validate_after, 40 * CLOCK_SECOND);
	assert_int_equal(u->pool.tenant_max, 9);
	assert_int_equal(u->pool.http, POOL_HTTP_1);
	assert_int_equal(u->timeout.connect, 4 * CLOCK_SECOND);
	assert_int_equal(u->timeout.first_byte, 50 * CLOCK_SECOND);
	assert_int_equal(u->timeout.first_byte_plain, 9 * CLOCK_MINUTE);
	assert_int_equal(u->timeout.idle, 40 * CLOCK_SECOND);
	assert_int_equal(u->timeout.total, 8 * CLOCK_MINUTE);
}

static void reads_every_key(void **state)
{
	const struct config *c = config_rig_take(whole);

	(void)state;
	assert_int_equal(c->listen_count, 3);
	assert_string_equal(c->listen[2], "unix:/run/sluice.sock");
	assert_string_equal(c->admin, "*:9001");
	assert_string_equal(c->admin_token, "a-token-of-the-admin");
	assert_int_equal(c->workers, 3);
	assert_true(c->allow_anonymous);
	assert_int_equal(c->trusted_proxies_count, 3);
	assert_int_equal(c->max_body, 64 << 20);
	assert_int_equal(c->memory_limit, INT64_C(2) << 30);
	assert_int_equal(c->log_level, CONFIG_LOG_WARNING);
	assert_string_equal(c->redis.url, "redis://user:password@redis:6380/3");
	assert_int_equal(c->redis.timeout, 80 * CLOCK_MILLISECOND);
	assert_int_equal(c->redis.on_failure, CONFIG_OPEN);
	assert_int_equal(c->client.head, 5 * CLOCK_SECOND);
	assert_int_equal(c->client.body, 20 * CLOCK_SECOND);
	assert_int_equal(c->client.body_rate, 2048);
	assert_int_equal(c->client.idle, CLOCK_MINUTE);
	assert_int_equal(c->client.write_stall, 30 * CLOCK_SECOND);
	assert_int_equal(c->client.connections, 5000);
	assert_int_equal(c->drain.wait, 0);
	assert_int_equal(c->drain.deadline, CLOCK_MINUTE);
	assert_int_equal(c->upstreams_count, 2);
	judge_upstream(&c->upstreams[0]);
	assert_string_equal(c->upstreams[1].endpoints[0].origin, "http://[::1]");
	assert_string_equal(c->upstreams[1].endpoints[0].prefix, "");
	assert_int_equal(c->models_count, 1);
	assert_ptr_equal(c->models[0].targets[0].upstream, &c->upstreams[0]);
	assert_string_equal(c->models[0].targets[0].model, "theirs");
	assert_int_equal(c->tenants_count, 2);
	assert_int_equal(c->tenants[0].models_count, 2);
	assert_int_equal(c->tenants[1].keys_count, 2);
	config_release(&c);
	assert_null(c);
}

static void knows_the_defaults(void **state)
{
	const struct config *c = config_rig_take(CONFIG_RIG_UPSTREAMS);
	const struct config_upstream *u = &c->upstreams[0];
	cpu_set_t mine;

	(void)state;
	assert_int_equal(c->listen_count, 1);
	assert_string_equal(c->listen[0], "127.0.0.1:8080");
	assert_string_equal(c->admin, "127.0.0.1:8081");
	assert_null(c->admin_token);
	assert_int_equal(sched_getaffinity(0, sizeof(mine), &mine), 0);
	assert_int_equal(c->workers, CPU_COUNT(&mine));
	assert_false(c->allow_anonymous);
	assert_int_equal(c->max_body, 20 << 20);
	assert_int_equal(c->log_level, CONFIG_LOG_INFO);
	assert_string_equal(c->redis.url, "embedded");
	assert_int_equal(c->redis.timeout, 50 * CLOCK_MILLISECOND);
	assert_int_equal(c->redis.on_failure, CONFIG_SHARE);
	assert_int_equal(c->drain.wait, 5 * CLOCK_SECOND);
	assert_int_equal(c->drain.deadline, 30 * CLOCK_SECOND);
	assert_int_equal(c->models_count + c->tenants_count + c->trusted_proxies_count, 0);
	assert_null(u->credential.header);
	assert_null(u->ca_file);
	assert_int_equal(u->usage, CONFIG_USAGE_ASK);
	assert_int_equal(u->pool.max, 100);
	assert_int_equal(u->pool.http, POOL_HTTP_AUTO);
	assert_int_equal(u->timeout.first_byte, 60 * CLOCK_SECOND);
	assert_int_equal(u->timeout.first_byte_plain, 10 * CLOCK_MINUTE);
	for (int i = 0; i < LIMIT_COUNT; i++)
		assert_int_equal(u->limits.of[i].count, 0);
	config_release(&c);
}

static void has_no_admin_plane_when_off(void **state)
{
	const struct config *c = config_rig_take("admin: off\n" CONFIG_RIG_UPSTREAMS);

	(void)state;
	assert_null(c->admin);
	config_release(&c);
}

/* A default that the file's own bounds leave out moves between them. */
static void fits_the_start_of_a_pool(void **state)
{
	static const struct {
		const char *pool;
		int64_t start;
	} cases[] = { { "{max: 5}", 5 }, { "{min: 20}", 20 }, { "{min: 0}", 10 }, { "{min: 2, start: 3, max: 4}", 3 } };
	char text[400];

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		snprintf(text, sizeof(text),
			 "upstreams: {u: {dialect: openai, endpoints: [{url: 'http://h'}], pool: %s}}", cases[i].pool);
		const struct config *c = config_rig_take(text);
		assert_int_equal(c->upstreams[0].pool.start, cases[i].start);
		config_release(&c);
	}
}

/* ---- limits ---------------------------------------------------------------------------------------------------------------- */

/* -1: strict, so without a burst. */
struct limit_case {
	const char *written;
	enum limit_kind kind;
	int64_t count, tenant_burst, upstream_burst;
};

static void judge_limit(const struct limit *limit, int64_t count, int64_t burst, const char *written)
{
	if (limit->count != count || limit->strict != (burst == -1) || (burst != -1 && limit->burst != burst))
		fail_msg("%s: count %lld, burst %lld, strict %d", written, (long long)limit->count,
			 (long long)limit->burst, limit->strict);
}

static void reads_limits(void **state)
{
	static const struct limit_case cases[] = {
		{ "rpm: 600", LIMIT_rpm, 600, 600, -1 },
		{ "rps: {limit: 5}", LIMIT_rps, 5, 5, -1 },
		{ "rph: {limit: 1k, burst: 60}", LIMIT_rph, 1000, 60, 60 },
		{ "rpd: {limit: 7, strict: true}", LIMIT_rpd, 7, -1, -1 },
		{ "tpm: {limit: 4M, strict: false}", LIMIT_tpm, 4000000, 4000000, 4000000 },
		{ "tph: {burst: 2, limit: 1, strict: false}", LIMIT_tph, 1, 2, 2 },
		{ "tpd: 1000G", LIMIT_tpd, INT64_C(1000000000000), INT64_C(1000000000000), -1 },
		{ "tpd: {limit: 1, burst: 1000000000000}", LIMIT_tpd, 1, INT64_C(1000000000000),
		  INT64_C(1000000000000) },
	};
	char text[600];

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		const struct limit_case *l = &cases[i];
		snprintf(text, sizeof(text),
			 "upstreams: {u: {dialect: openai, default: true, endpoints: [{url: 'http://h'}], limits: "
			 "{%s}}}\n"
			 "models: {m: {targets: [{upstream: u}], limits: {%s}}}\n"
			 "tenants: {t: {keys: [12345678], limits: {%s}}}\n",
			 l->written, l->written, l->written);
		const struct config *c = config_rig_take(text);
		judge_limit(&c->tenants[0].limits.of[l->kind], l->count, l->tenant_burst, l->written);
		judge_limit(&c->models[0].limits.of[l->kind], l->count, l->upstream_burst, l->written);
		judge_limit(&c->upstreams[0].limits.of[l->kind], l->count, l->upstream_burst, l->written);
		config_release(&c);
	}
}

static void takes_concurrency_as_a_count(void **state)
{
	const struct config *c =
		config_rig_take("tenants: {t: {keys: [12345678], limits: {concurrency: 50}}}\n" CONFIG_RIG_UPSTREAMS);

	(void)state;
	assert_int_equal(c->tenants[0].limits.of[LIMIT_concurrency].count, 50);
	config_release(&c);
}

/* ---- ${NAME} and ${file:PATH} ---------------------------------------------------------------------------------------------- */

static const char *target_of(const struct config *c)
{
	return c->models[0].targets[0].model;
}

static void judge_value(const char *written, const char *value)
{
	char text[2000];

	snprintf(text, sizeof(text), "%smodels: {m: {targets: [{upstream: u, model: %s}]}}\n", CONFIG_RIG_UPSTREAMS,
		 written);
	const struct config *c = config_rig_take(text);
	assert_string_equal(target_of(c), value);
	config_release(&c);
}

static void takes_the_environment(void **state)
{
	(void)state;
	setenv("SLUICE_TEST_ONE", "one", 1);
	setenv("SLUICE_TEST_NESTED", "${SLUICE_TEST_ONE}", 1);
	judge_value("'${SLUICE_TEST_ONE}'", "one");
	judge_value("'a ${SLUICE_TEST_ONE} b ${SLUICE_TEST_ONE}'", "a one b one");
	judge_value("'$${SLUICE_TEST_ONE}'", "${SLUICE_TEST_ONE}");
	judge_value("'$$${SLUICE_TEST_ONE}'", "$${SLUICE_TEST_ONE}");
	judge_value("'$ $$ $x {y} }'", "$ $$ $x {y} }");
	judge_value("'${SLUICE_TEST_NESTED}'", "${SLUICE_TEST_ONE}"); /* what was taken is not looked at again */
	setenv("SLUICE_TEST_ONE", "null", 1);
	judge_value("'${SLUICE_TEST_ONE}'", "null");
	unsetenv("SLUICE_TEST_ONE");
	unsetenv("SLUICE_TEST_NESTED");
}

static void takes_numbers_from_the_environment(void **state)
{
	const struct config *c;

	(void)state;
	setenv("SLUICE_TEST_WORKERS", "7", 1);
	c = config_rig_take("workers: ${SLUICE_TEST_WORKERS}\n" CONFIG_RIG_UPSTREAMS);
	assert_int_equal(c->workers, 7);
	config_release(&c);
	unsetenv("SLUICE_TEST_WORKERS");
}

static void write_file(const char *folder, const char *name, const char *text, size_t len)
{
	char path[200];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
}

static void remove_folder(const char *folder, const char *const *names)
{
	char path[200];

	for (; *names != NULL; names++) {
		snprintf(path, sizeof(path), "%s/%s", folder, *names);
		assert_int_equal(unlink(path), 0);
	}
	assert_int_equal(rmdir(folder), 0);
}

/* Loads a file with that model's name in it; NULL and the errors in `error`, NUL-terminated. */
static const struct config *load(const char *folder, const char *written, struct buf *error)
{
	char path[200], text[1000];
	const struct config *c;

	snprintf(text, sizeof(text), "%smodels:\n  m: {targets: [{upstream: u,\n    model: %s}]}\n",
		 CONFIG_RIG_UPSTREAMS, written);
	write_file(folder, "sluice.yaml", text, strlen(text));
	snprintf(path, sizeof(path), "%s/sluice.yaml", folder);
	buf_init(error, 1 << 20);
	c = config_load(path, error);
	buf_append_byte(error, '\0');
	return c;
}

static void judge_file(const char *folder, const char *written, const char *value)
{
	struct buf error;
	const struct config *c = load(folder, written, &error);

	if (c == NULL)
		fail_msg("%s", error.data);
	assert_string_equal(target_of(c), value);
	config_release(&c);
	buf_free(&error);
}

static void judge_no_file(const char *folder, const char *written, const char *what)
{
	struct buf error;
	char told[1000];

	assert_null(load(folder, written, &error));
	snprintf(told, sizeof(told), "%s/sluice.yaml:4: models.m.targets[0].model: %s\n", folder, what);
	assert_string_equal(error.data, told);
	buf_free(&error);
}

static void takes_files_beside_the_configuration(void **state)
{
	static const char *const names[] = { "sluice.yaml", "secret", "lines", "empty", "nul", "long", "most", NULL };
	char folder[] = "/tmp/sluice-config-XXXXXX", absolute[100], *big = malloc(65537);

	(void)state;
	assert_non_null(mkdtemp(folder));
	memset(big, 'x', 65537);
	write_file(folder, "secret", "from-a-file\n", 12);
	write_file(folder, "lines", "CANARY\nCANARY\r\n\n", 16);
	write_file(folder, "empty", "\n", 1);
	write_file(folder, "nul", "CANARY\0x", 8);
	write_file(folder, "long", big, 65537);
	write_file(folder, "most", big, 65536);
	judge_file(folder, "'${file:secret}'", "from-a-file");
	judge_file(folder, "'<${file:./secret}>'", "<from-a-file>");
	snprintf(absolute, sizeof(absolute), "'${file:%s/secret}'", folder);
	judge_file(folder, absolute, "from-a-file");
	judge_no_file(folder, "'${file:lines}'",
		      "found \"${file:lines}\"; allowed: text of 1 to 256 bytes, in one line");
	judge_no_file(folder, "'${file:most}'", "found \"${file:most}\"; allowed: text of 1 to 256 bytes, in one line");
	judge_no_file(folder, "'${file:empty}'", "the file \"empty\" is empty; allowed: text");
	judge_no_file(folder, "'${file:nul}'",
		      "the file \"nul\" cannot be used: it holds a NUL byte; allowed: text of at most 64 KiB");
	judge_no_file(folder, "'${file:long}'",
		      "the file \"long\" cannot be used: it has more than 64 KiB; allowed: text of at most 64 KiB");
	judge_no_file(
		folder, "'${file:nowhere}'",
		"the file \"nowhere\" cannot be used: No such file or directory; allowed: text of at most 64 KiB");
	judge_no_file(folder, "'${file:.}'",
		      "the file \".\" cannot be used: Is a directory; allowed: text of at most 64 KiB");
	free(big);
	remove_folder(folder, names);
}

static void takes_certificates_beside_the_configuration(void **state)
{
	static const char text[] =
		"upstreams: {u: {dialect: openai, endpoints: [{url: 'https://h'}], ca_file: ca.pem}}\n";
	struct tls_files tls;
	char path[120], moved[120];
	const struct config *c;
	struct buf error;

	(void)state;
	tls_files_make(&tls);
	snprintf(moved, sizeof(moved), "%s/ca.pem", tls.directory);
	assert_int_equal(rename(tls.ca, moved), 0);
	write_file(tls.directory, "sluice.yaml", text, strlen(text));
	snprintf(path, sizeof(path), "%s/sluice.yaml", tls.directory);
	buf_init(&error, 4096);
	c = config_load(path, &error);
	if (c == NULL)
		fail_msg("%.*s", SLICE_ARGS(buf_slice(&error)));
	assert_string_equal(c->upstreams[0].ca_file, moved);
	config_release(&c);
	buf_free(&error);
	assert_int_equal(rename(moved, tls.ca), 0);
	assert_int_equal(unlink(path), 0);
	tls_files_free(&tls);
}

static void judge_unloadable(const char *path, const char *told)
{
	struct buf error;

	buf_init(&error, 4096);
	assert_null(config_load(path, &error));
	buf_append_byte(&error, '\0');
	assert_string_equal(error.data, told);
	buf_free(&error);
}

static void says_why_a_file_cannot_be_loaded(void **state)
{
	char folder[] = "/tmp/sluice-config-XXXXXX", path[100], told[200], *big = malloc((4 << 20) + 1);
	static const char *const names[] = { "big", NULL };

	(void)state;
	assert_non_null(mkdtemp(folder));
	memset(big, '\n', (4 << 20) + 1);
	write_file(folder, "big", big, (4 << 20) + 1);
	snprintf(path, sizeof(path), "%s/big", folder);
	snprintf(told, sizeof(told), "%s: cannot be read: File too large\n", path);
	judge_unloadable(path, told);
	snprintf(told, sizeof(told), "%s: cannot be read: Is a directory\n", folder);
	judge_unloadable(folder, told);
	judge_unloadable("/nowhere/sluice.yaml", "/nowhere/sluice.yaml: cannot be read: No such file or directory\n");
	free(big);
	remove_folder(folder, names);
}

/* ---- JSON -------------------------------------------------------------------------------------------------------------------- */

static void reads_json(void **state)
{
	static const char text[] =
		"{\n\t\"listen\": [\"127.0.0.1:1\"],\n\t\"drain\": {\"wait\": \"0s\", \"deadline\": \"10s\"},\n"
		"\t\"workers\": 2, \"allow_anonymous\": false,\n"
		"\t\"upstreams\": {\"\\u0075\": {\"dialect\": \"openai\", \"endpoints\": [\n"
		"\t\t{\"url\": \"http:\\/\\/127.0.0.1:1\"}\n\t]}}\n}\n";
	const struct config *c = config_rig_take(text);

	(void)state;
	assert_string_equal(c->upstreams[0].name, "u");
	assert_string_equal(c->upstreams[0].endpoints[0].origin, "http://127.0.0.1:1");
	assert_int_equal(c->workers, 2);
	config_release(&c);
}

/* ---- finding, holding ---------------------------------------------------------------------------------------------------------- */

static void finds_by_name_and_by_key(void **state)
{
	const struct config *c = config_rig_take(whole);
	unsigned char digest[32];

	(void)state;
	assert_ptr_equal(config_find_upstream(c, SLICE("plain")), &c->upstreams[1]);
	assert_null(config_find_upstream(c, SLICE("plai")));
	assert_null(config_find_upstream(c, SLICE_NONE));
	assert_ptr_equal(config_find_model(c, SLICE("known/model:2")), &c->models[0]);
	assert_null(config_find_model(c, SLICE("known/model")));
	SHA256((const unsigned char *)"a-key-of-acme", 13, digest);
	assert_ptr_equal(config_find_tenant(c, digest), &c->tenants[0]);
	SHA256((const unsigned char *)"the key", 7, digest);
	assert_null(config_find_tenant(c, digest));
	memcpy(digest, c->tenants[1].keys[0].sha256, sizeof(digest));
	assert_ptr_equal(config_find_tenant(c, digest), &c->tenants[1]);
	digest[31] ^= 1;
	assert_null(config_find_tenant(c, digest));
	assert_string_equal(config_dialect_name(DIALECT_anthropic), "anthropic");
	config_release(&c);
}

enum { HOLDERS = 4, HOLDS = 20000 };

static void *hold_and_release(void *arg)
{
	const struct config *mine = arg;

	for (int i = 0; i < HOLDS; i++) {
		const struct config *held = config_hold(mine);
		config_release(&held);
	}
	config_release(&mine);
	return NULL;
}

/* A count that loses one frees too early or never: the sanitizers see either. */
static void is_held_by_many_threads(void **state)
{
	const struct config *c = config_rig_take(whole), *none = NULL;
	pthread_t threads[HOLDERS];

	(void)state;
	for (int i = 0; i < HOLDERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, hold_and_release, (void *)(uintptr_t)config_hold(c)),
				 0);
	assert_string_equal(c->upstreams[0].credential.value, "the-secret");
	for (int i = 0; i < HOLDERS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_string_equal(c->upstreams[0].name, "g");
	config_release(&c);
	config_release(&none);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_every_key),
		cmocka_unit_test(knows_the_defaults),
		cmocka_unit_test(has_no_admin_plane_when_off),
		cmocka_unit_test(fits_the_start_of_a_pool),
		cmocka_unit_test(reads_limits),
		cmocka_unit_test(takes_concurrency_as_a_count),
		cmocka_unit_test(takes_the_environment),
		cmocka_unit_test(takes_numbers_from_the_environment),
		cmocka_unit_test(takes_files_beside_the_configuration),
		cmocka_unit_test(takes_certificates_beside_the_configuration),
		cmocka_unit_test(says_why_a_file_cannot_be_loaded),
		cmocka_unit_test(reads_json),
		cmocka_unit_test(finds_by_name_and_by_key),
		cmocka_unit_test(is_held_by_many_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
