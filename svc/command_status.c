/* What a running instance tells of itself on its admin plane, for people. */
#include <curl/curl.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/text.h"
#include "svc/command.h"

/* Patience: a page waits for Redis up to redis.timeout, which is at most 10 s. */
enum { STATUS_MOST = 64 * 1024 * 1024, SHOWN_MOST = 256, QUOTAS_SHOWN = 20, PATIENCE = 15 /* s */ };

struct asked {
	const char *admin, *token;
	bool json;
	int64_t count; /* 0: without end */
};

static size_t take(char *bytes, size_t size, size_t count, void *arg)
{
	return buf_append(arg, slice_make(bytes, size * count)) ? size * count : 0;
}

static bool set(CURL *easy, const char *socket_path, const char *url, struct curl_slist *fields, struct buf *into)
{
	return curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, socket_path) == CURLE_OK &&
	       curl_easy_setopt(easy, CURLOPT_URL, url) == CURLE_OK &&
	       curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take) == CURLE_OK &&
	       curl_easy_setopt(easy, CURLOPT_WRITEDATA, into) == CURLE_OK &&
	       curl_easy_setopt(easy, CURLOPT_HTTPHEADER, fields) == CURLE_OK &&
	       curl_easy_setopt(easy, CURLOPT_TIMEOUT, (long)PATIENCE) == CURLE_OK &&
	       curl_easy_setopt(easy, CURLOPT_PROXY, "") == CURLE_OK &&
	       curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK;
}

/* Where the answer is not 200. The data plane asks for a key too, and only the admin plane says "admin". */
static const char *what_to_do(const struct asked *asked, CURL *easy, long status)
{
	struct curl_header *realm;
	bool is_admin = curl_easy_header(easy, "WWW-Authenticate", 0, CURLH_HEADER, -1, &realm) == CURLHE_OK &&
			strstr(realm->value, "\"sluice admin\"") != NULL;

	if (status == 403)
		return "an admin plane without admin_token is asked by an IP address, localhost or its name in `admin`";
	if (status != 401 || !is_admin)
		return "is this the admin address? --admin or $SLUICE_ADMIN says where to ask";
	return asked->token != NULL
		       ? "the token that it was given (--token, else $SLUICE_ADMIN_TOKEN) is not its admin_token"
		       : "give its admin_token with --token or $SLUICE_ADMIN_TOKEN";
}

/* GET path; false when it has been complained about. */
static bool fetch(const struct asked *asked, const char *path, struct buf *into)
{
	static const char unix_scheme[] = "unix:";
	bool is_unix = strncmp(asked->admin, unix_scheme, sizeof(unix_scheme) - 1) == 0;
	const char *socket_path = is_unix ? asked->admin + sizeof(unix_scheme) - 1 : NULL;
	const char *origin = is_unix ? "http://localhost" : asked->admin;
	size_t length = strlen(origin);
	char url[1024], field[600];
	struct curl_slist *fields = NULL;
	CURL *easy = curl_easy_init();
	CURLcode result = CURLE_FAILED_INIT;
	long status = 0;

	while (length > 0 && origin[length - 1] == '/')
		length--;
	snprintf(url, sizeof(url), "%.*s%s", (int)length, origin, path);
	snprintf(field, sizeof(field), "Authorization: Bearer %s", asked->token != NULL ? asked->token : "");
	if (asked->token != NULL)
		fields = curl_slist_append(fields, field);
	if (easy != NULL && set(easy, socket_path, url, fields, into))
		result = curl_easy_perform(easy);
	if (result == CURLE_OK)
		curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	if (result != CURLE_OK)
		fprintf(stderr, "sluice: %s does not answer: %s; --admin or $SLUICE_ADMIN says where to ask\n",
			asked->admin, curl_easy_strerror(result));
	else if (status != 200)
		fprintf(stderr, "sluice: %s answers %s with %ld: %s\n", asked->admin, path, status,
			what_to_do(asked, easy, status));
	curl_slist_free_all(fields);
	curl_easy_cleanup(easy);
	return result == CURLE_OK && status == 200;
}

/* ---- for people ----------------------------------------------------------------------------------------------------------- */

static long long number(const json_t *object, const char *section, const char *name)
{
	return json_integer_value(json_object_get(section != NULL ? json_object_get(object, section) : object, name));
}

static bool truth(const json_t *object, const char *section, const char *name)
{
	return json_is_true(json_object_get(section != NULL ? json_object_get(object, section) : object, name));
}

/* Who answers may be anybody: nothing of it steers the terminal. C1 controls (U+0080 to U+009F) do, as ESC does. */
static const char *shown(const char *text, char out[SHOWN_MOST])
{
	size_t length = 0;

	for (; *text != '\0' && length < SHOWN_MOST - 1; text++) {
		unsigned char byte = (unsigned char)text[0], next = (unsigned char)text[1];
		bool control = byte < 0x20 || byte == 0x7F || (byte == 0xC2 && next >= 0x80 && next < 0xA0);
		out[length++] = control ? '?' : (char)byte;
		text += control && byte == 0xC2;
	}
	out[length] = '\0';
	return out;
}

static const char *text(const json_t *object, const char *name, char out[SHOWN_MOST])
{
	const char *found = json_string_value(json_object_get(object, name));

	return shown(found != NULL ? found : "", out);
}

static void print_pools(json_t *upstreams)
{
	const char *name, *pool;
	char name_shown[SHOWN_MOST], pool_shown[SHOWN_MOST];
	json_t *upstream, *stats;

	printf("\n%-20s %-8s %7s %7s %7s %7s %7s %7s %9s %9s %8s %6s\n", "upstream", "pool", "active", "idle",
	       "waiting", "kept", "limit", "peak", "opened", "reused", "saved s", "leaks");
	json_object_foreach(upstreams, name, upstream) json_object_foreach(json_object_get(upstream, "pools"), pool,
									   stats)
		printf("%-20s %-8s %7lld %7lld %7lld %7lld %7lld %7lld %9lld %9lld %8.1f %6lld\n",
		       shown(name, name_shown), shown(pool, pool_shown), number(stats, NULL, "active"),
		       number(stats, NULL, "idle"), number(stats, NULL, "waiting"), number(stats, NULL, "size"),
		       number(stats, NULL, "limit"), number(stats, NULL, "peak"), number(stats, NULL, "opened"),
		       number(stats, NULL, "reused"), json_number_value(json_object_get(stats, "saved_seconds")),
		       number(stats, NULL, "leaks"));
}

/* Printed where it is not as it mostly is. */
static void print_breaker(unsigned *printed, const char *upstream, const json_t *endpoint, const char *model,
			  const json_t *breaker)
{
	char name_shown[SHOWN_MOST], url_shown[SHOWN_MOST], model_shown[SHOWN_MOST], state_shown[SHOWN_MOST],
		force_shown[SHOWN_MOST];
	const char *state = text(breaker, "state", state_shown), *force = text(breaker, "force", force_shown);
	bool is_forced = force[0] != '\0' && strcmp(force, "auto") != 0;

	if (!is_forced && (state[0] == '\0' || strcmp(state, "closed") == 0))
		return;
	if ((*printed)++ == 0)
		printf("\n%-20s %-36s %-24s %-13s %9s %6s\n", "not called freely", "endpoint", "model", "state",
		       "wait s", "trips");
	printf("%-20s %-36s %-24s %s%-*s %9.1f %6lld\n", shown(upstream, name_shown), text(endpoint, "url", url_shown),
	       shown(model, model_shown), is_forced ? "forced " : "", is_forced ? 6 : 13, is_forced ? force : state,
	       (double)number(breaker, NULL, "wait_ms") / 1000, number(breaker, NULL, "trips"));
}

static void print_pause(unsigned *printed, const char *upstream, const json_t *endpoint, const json_t *pause)
{
	char model_shown[SHOWN_MOST];
	json_t *as_breaker =
		json_pack("{s:s,s:I}", "state", "paused", "wait_ms", (json_int_t)number(pause, NULL, "left_ms"));

	if (as_breaker != NULL)
		print_breaker(printed, upstream, endpoint, text(pause, "model", model_shown), as_breaker);
	json_decref(as_breaker);
}

static void print_breakers(json_t *upstreams)
{
	const char *name, *model;
	unsigned printed = 0;
	json_t *upstream, *endpoint, *one;
	size_t i, k;

	json_object_foreach(upstreams, name, upstream)
		json_array_foreach(json_object_get(upstream, "endpoints"), i, endpoint)
	{
		print_breaker(&printed, name, endpoint, "", endpoint);
		json_object_foreach(json_object_get(endpoint, "models"), model, one)
			print_breaker(&printed, name, endpoint, model, one);
		json_array_foreach(json_object_get(endpoint, "pauses"), k, one)
			print_pause(&printed, name, endpoint, one);
	}
}

/* One limit of one name; its texts are the answer's. */
struct quota {
	const char *scope, *name, *limit;
	json_t *state;
	double used; /* below 0: unknown */
};

/* Keeps the fullest, in order; of equals the first. */
static void keep_quota(struct quota kept[QUOTAS_SHOWN], size_t *count, const struct quota *one)
{
	size_t at = *count;

	while (at > 0 && kept[at - 1].used < one->used)
		at--;
	if (at == QUOTAS_SHOWN)
		return;
	*count += *count < QUOTAS_SHOWN;
	memmove(&kept[at + 1], &kept[at], (*count - at - 1) * sizeof(*kept));
	kept[at] = *one;
}

static size_t find_fullest(json_t *status, struct quota kept[QUOTAS_SHOWN])
{
	static const char *const sections[][2] = { { "upstreams", "upstream" },
						   { "models", "model" },
						   { "tenants", "tenant" } };
	json_t *limits;
	size_t count = 0;

	for (size_t s = 0; s < ARRAY_LENGTH(sections); s++) {
		struct quota one = { .scope = sections[s][1] };
		json_t *names = json_object_get(json_object_get(status, "quotas"), sections[s][0]);
		json_object_foreach(names, one.name, limits) json_object_foreach(limits, one.limit, one.state)
		{
			json_t *used = json_object_get(one.state, "used");
			one.used = json_is_number(used) ? json_number_value(used) : -1;
			keep_quota(kept, &count, &one);
		}
	}
	return count;
}

static void print_quotas(json_t *status)
{
	struct quota kept[QUOTAS_SHOWN];
	size_t count = find_fullest(status, kept);
	char name[SHOWN_MOST], limit[SHOWN_MOST];

	if (count == 0)
		return;
	printf("\n%-10s %-20s %-12s %13s %7s %13s\n", "scope", "name", "quota", "limit", "used", "left now");
	for (size_t i = 0; i < count; i++) {
		const struct quota *q = &kept[i];
		printf("%-10s %-20s %-12s %13lld ", q->scope, shown(q->name, name), shown(q->limit, limit),
		       number(q->state, NULL, "limit"));
		if (q->used >= 0)
			printf("%6.1f%% %13lld\n", 100 * q->used, number(q->state, NULL, "left"));
		else
			printf("%7s %13s\n", "?", "?");
	}
}

/* An instance of an earlier version tells nothing of it. */
static void print_shared(const json_t *cache)
{
	if (cache == NULL)
		return;
	printf("flights: leading %lld, reading %lld, requests in them %lld; hot answers %lld, %lld bytes, %lld hits; "
	       "store %s, %lld listening\n",
	       number(cache, "flights", "leading"), number(cache, "flights", "reading"),
	       number(cache, "flights", "seats"), number(cache, "hot", "entries"), number(cache, "hot", "bytes"),
	       number(cache, "hot", "hits"), truth(cache, NULL, "up") ? "up" : "DOWN",
	       number(cache, NULL, "listening"));
}

static bool has_waiters(const json_t *lanes)
{
	return number(lanes, NULL, "high") + number(lanes, NULL, "medium") + number(lanes, NULL, "low") > 0;
}

/* Only while somebody waits. Of the fleet as many as the last beat told: not yet, of a line that is younger. */
static void print_queue(json_t *queue)
{
	char shown_name[SHOWN_MOST];
	const char *name;
	json_t *line;

	if (queue == NULL || !has_waiters(json_object_get(queue, "waiting")))
		return;
	printf("\n%-32s %8s %8s %8s   %s\n", "waiting for room in", "high", "medium", "low",
	       "in the fleet h/m/l, but for who is called");
	json_object_foreach(json_object_get(queue, "lines"), name, line)
	{
		const json_t *here = json_object_get(line, "here"), *fleet = json_object_get(line, "fleet");
		printf("%-32s %8lld %8lld %8lld   ", shown(name, shown_name), number(here, NULL, "high"),
		       number(here, NULL, "medium"), number(here, NULL, "low"));
		if (json_is_object(fleet))
			printf("%lld/%lld/%lld\n", number(fleet, NULL, "high"), number(fleet, NULL, "medium"),
			       number(fleet, NULL, "low"));
		else
			printf("?\n");
	}
}

/* Of an instance of an earlier version only what it tells. */
static void print_redis(const json_t *redis)
{
	char mode_shown[SHOWN_MOST], reason_shown[SHOWN_MOST];
	const char *mode = text(redis, "mode", mode_shown), *reason = text(redis, "reason", reason_shown);
	bool is_up = truth(redis, NULL, "up");
	bool refuses = json_object_get(redis, "refuses") == NULL ? is_up : truth(redis, NULL, "refuses");

	if (mode[0] != '\0' && strcmp(mode, "normal") != 0)
		printf("Redis %s (%s, %s, %lld s)\n", refuses ? "REFUSES" : "DOWN", mode, reason,
		       number(redis, NULL, "since_ms") / 1000);
	else if (is_up || mode[0] == '\0')
		printf("Redis %s\n", is_up ? "up" : "DOWN");
	else
		printf("Redis DOWN (no call has missed it yet: %s)\n",
		       reason[0] != '\0' ? reason : "there was no connection yet");
}

static void print_warnings(const json_t *redis)
{
	char shown_text[SHOWN_MOST];
	json_t *warning;
	size_t i;

	json_array_foreach(json_object_get(redis, "warnings"), i, warning) if (json_is_string(warning))
		printf("warning: %s\n", shown(json_string_value(warning), shown_text));
}

static void print_status(json_t *status)
{
	char version[SHOWN_MOST], instance[SHOWN_MOST];
	const json_t *redis = json_object_get(status, "redis");
	long long workers = number(status, NULL, "workers");

	printf("sluice %s, instance %s, up %lld s, %s, %lld worker%s, ", text(status, "version", version),
	       text(status, "instance", instance), number(status, NULL, "uptime_seconds"),
	       truth(status, NULL, "draining") ? "draining"
	       : truth(status, NULL, "ready")  ? "ready"
					       : "not ready",
	       workers, workers == 1 ? "" : "s");
	print_redis(redis);
	print_warnings(redis);
	printf("in flight %lld, clients %lld, leases %lld, admitted %lld, denied %lld; without Redis: admitted %lld, "
	       "denied %lld\n",
	       number(status, "requests", "in_flight"), number(status, "clients", "connections"),
	       number(status, "quota", "leases"), number(status, "quota", "admitted"),
	       number(status, "quota", "denied"), number(status, "quota", "local_admitted"),
	       number(status, "quota", "local_denied"));
	print_shared(json_object_get(status, "cache"));
	print_queue(json_object_get(status, "queue"));
	print_breakers(json_object_get(status, "upstreams"));
	print_pools(json_object_get(status, "upstreams"));
	print_quotas(status);
}

static bool show(const struct asked *asked)
{
	struct buf answer;
	json_error_t error;
	json_t *status = NULL;
	char reason[SHOWN_MOST];
	bool good;

	buf_init(&answer, STATUS_MOST);
	good = fetch(asked, "/status", &answer);
	if (good) {
		status = json_loadb(answer.len > 0 ? answer.data : "", answer.len, JSON_REJECT_DUPLICATES, &error);
		good = json_is_object(status);
		if (!good)
			fprintf(stderr, "sluice: %s/status is not understood: %s\n", asked->admin,
				status != NULL ? "it is no object" : shown(error.text, reason));
		else if (asked->json)
			good = json_dumpf(status, stdout, JSON_COMPACT | JSON_ENSURE_ASCII) == 0 && putchar('\n') > 0;
		else
			print_status(status);
	}
	json_decref(status);
	buf_free(&answer);
	return good;
}

/* ---- options -------------------------------------------------------------------------------------------------------------- */

static const struct option options[] = {
	{ "help", no_argument, NULL, 'h' },        { "admin", required_argument, NULL, 'a' },
	{ "token", required_argument, NULL, 't' }, { "json", no_argument, NULL, 'j' },
	{ "count", required_argument, NULL, 'n' }, { 0 }
};

/* False: leave with *code. */
static bool read_options(const struct command *c, int argc, char **argv, struct asked *asked, int *code)
{
	const char *admin = getenv("SLUICE_ADMIN"), *token = getenv("SLUICE_ADMIN_TOKEN");
	int option;

	*asked = (struct asked){ .admin = admin != NULL && admin[0] != '\0' ? admin : "http://127.0.0.1:8081",
				 .token = token != NULL && token[0] != '\0' ? token : NULL };
	while ((option = command_option(c, argc, argv, options, code)) >= 0) {
		if (option == 'a')
			asked->admin = optarg;
		else if (option == 't')
			asked->token = optarg;
		else if (option == 'j')
			asked->json = true;
		else if (!text_int(slice_of(optarg), &asked->count) || asked->count < 1) {
			*code = command_misused(c, "--count is \"%s\"; allowed: a number from 1", optarg);
			return false;
		}
	}
	if (option == -2)
		return false;
	if (optind != argc) {
		*code = command_misused(c, "found \"%s\"; it takes options alone", argv[optind]);
		return false;
	}
	return true;
}

int command_status(const struct command *c, int argc, char **argv)
{
	struct asked asked;
	int code = 0;

	if (!read_options(c, argc, argv, &asked, &code))
		return code;
	return show(&asked) ? COMMAND_DONE : COMMAND_FAILED;
}

int command_top(const struct command *c, int argc, char **argv)
{
	struct asked asked;
	int code = 0;
	bool terminal = isatty(STDOUT_FILENO) == 1;

	if (!read_options(c, argc, argv, &asked, &code))
		return code;
	for (int64_t i = 0; asked.count == 0 || i < asked.count; i++) {
		if (i > 0)
			clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){ .tv_sec = 1 }, NULL);
		if (terminal)
			fputs("\033[H\033[2J", stdout);
		if (!show(&asked))
			return COMMAND_FAILED;
		fflush(stdout);
	}
	return COMMAND_DONE;
}
