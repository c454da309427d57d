#include "tests/support/breaker_script_rig.h"

#include <stdio.h>
#include <stdlib.h>

#include "scripts.h"
#include "tests/support/script_rig.h"

#include <hiredis/hiredis.h>

enum { WORDS = 40, TEXT = 64 * 1024, MODELS = 2048 };

static struct {
	struct redis_server *server;
	redisContext *redis, *ears;
	int64_t calls;
	char pauses[TEXT], heard[4096];
} rig;

const struct breaker_rule breaker_script_rule = { .window = 10 * CLOCK_SECOND,
						  .min_calls = 10,
						  .error_rate = 5000,
						  .slow = CLOCK_SECOND,
						  .slow_rate = 100,
						  .slow_min_calls = 500,
						  .unreachable = 5,
						  .open_for = 30 * CLOCK_SECOND,
						  .open_most = 100 * CLOCK_SECOND,
						  .probes = 2 };

static const char *const key_names[3] = { "sluice:{b:" RIG_NAME "}:s", "sluice:{b:" RIG_NAME "}:p",
					  "sluice:{b:" RIG_NAME "}:w" };

static const char *key_of(char letter)
{
	return key_names[letter == 's' ? 0 : letter == 'p' ? 1 : 2];
}

/* ---- a group, a test ---------------------------------------------------------------------------------------------------- */

int breaker_script_begin(void **state)
{
	static const struct script *const scripts[] = { &script_report, &script_probe, &script_pause, &script_force };

	(void)state;
	rig.server = redis_server_start(NULL);
	rig.redis = script_rig_connect(rig.server);
	rig.ears = script_rig_connect(rig.server);
	script_rig_load(rig.redis, scripts, ARRAY_LENGTH(scripts));
	freeReplyObject(script_rig_must(redisCommand(rig.ears, "SUBSCRIBE %s", BREAKER_CHANNEL), "SUBSCRIBE"));
	return 0;
}

int breaker_script_end(void **state)
{
	(void)state;
	redisFree(rig.redis);
	redisFree(rig.ears);
	redis_server_free(&rig.server);
	return 0;
}

int breaker_script_clean(void **state)
{
	int count;

	(void)state;
	redis_server_do(rig.server, "FLUSHALL");
	breaker_script_heard(&count);
	breaker_script_calls();
	return 0;
}

int breaker_script_leave(void **state)
{
	(void)state;
	script_rig_check_expiries(rig.redis);
	return 0;
}

struct redis_server *breaker_script_server(void)
{
	return rig.server;
}

int64_t breaker_script_int(const char *command, char key, const char *more)
{
	if (more == NULL)
		return redis_server_int(rig.server, "%s %s", command, key_of(key));
	return redis_server_int(rig.server, "%s %s %s", command, key_of(key), more);
}

/* ---- calls ---------------------------------------------------------------------------------------------------------------- */

/* `letters` name the keys. */
static redisReply *run(const struct script *script, const char *letters, const struct breaker_wire *wire)
{
	const char *words[WORDS];
	size_t lengths[WORDS], count = 0, keys = strlen(letters);
	char number[24];

	snprintf(number, sizeof(number), "%zu", keys);
	const char *const first[] = { "EVALSHA", script->sha1, number };
	for (size_t i = 0; i < 3; i++) {
		words[count] = first[i];
		lengths[count++] = strlen(first[i]);
	}
	for (size_t i = 0; i < keys; i++) {
		words[count] = key_of(letters[i]);
		lengths[count++] = strlen(key_of(letters[i]));
	}
	for (size_t i = 0; i < wire->argument; i++) {
		words[count] = wire->arguments[i].len == 0 ? "" : wire->arguments[i].data;
		lengths[count++] = wire->arguments[i].len;
	}
	return script_rig_must(redisCommandArgv(rig.redis, (int)count, words, lengths), script->name);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void note_pauses(const redisReply *reply)
{
	static char line[MODELS][300];
	size_t count = 0, length = 0;
	struct slice model;
	int64_t left;

	for (; count < MODELS && breaker_wire_read_pause(reply, count, &model, &left); count++)
		snprintf(line[count], sizeof(line[count]), "%.*s=%lld", SLICE_ARGS(model), (long long)left);
	qsort(line, count, sizeof(line[0]), by_text);
	rig.pauses[0] = '\0';
	for (size_t i = 0; i < count; i++)
		length += (size_t)snprintf(rig.pauses + length, sizeof(rig.pauses) - length, i == 0 ? "%s" : " %s",
					   line[i]);
}

struct rig_report breaker_script_report(int64_t now, const struct breaker_rule *rule,
					const struct breaker_report *report)
{
	struct breaker_wire wire;
	struct rig_report result;

	breaker_wire_report(&wire, now, SLICE(RIG_NAME), rule, report);
	redisReply *reply = run(&script_report, "spw", &wire);
	if (!breaker_wire_read_report(reply, &result.standing, &result.pauses))
		script_rig_fail("report", "answered something else");
	result.there = reply->element[0]->integer;
	note_pauses(reply);
	freeReplyObject(reply);
	return result;
}

const char *breaker_script_pauses(void)
{
	return rig.pauses;
}

enum breaker_verdict breaker_script_probe(int64_t now, const char *ticket, int64_t lasts, int64_t probes)
{
	struct breaker_wire wire;
	struct breaker_standing standing;
	int64_t verdict;

	breaker_wire_probe(&wire, now, slice_of(ticket), lasts, probes);
	redisReply *reply = run(&script_probe, "sp", &wire);
	if (!breaker_wire_read_short(reply, &verdict, &standing))
		script_rig_fail("probe", "answered something else");
	freeReplyObject(reply);
	return (enum breaker_verdict)verdict;
}

bool breaker_script_pause(int64_t now, const char *model, int64_t length, int64_t *stands)
{
	struct breaker_wire wire;

	breaker_wire_pause(&wire, now, SLICE(RIG_NAME), slice_of(model), length);
	redisReply *reply = run(&script_pause, "w", &wire);
	bool extended = reply->element[0]->integer == 1;
	*stands = reply->element[2]->integer;
	freeReplyObject(reply);
	return extended;
}

struct breaker_standing breaker_script_force(int64_t now, enum breaker_force force, const struct breaker_rule *rule)
{
	struct breaker_wire wire;
	struct breaker_standing standing;
	int64_t changed;

	breaker_wire_force(&wire, now, SLICE(RIG_NAME), force, rule);
	redisReply *reply = run(&script_force, "s", &wire);
	if (!breaker_wire_read_short(reply, &changed, &standing))
		script_rig_fail("force", "answered something else");
	freeReplyObject(reply);
	standing.why = changed ? BREAKER_WHY_FORCED : BREAKER_WHY_NOTHING;
	return standing;
}

/* ---- looking ---------------------------------------------------------------------------------------------------------------- */

int64_t breaker_script_calls(void)
{
	int64_t all = redis_server_calls(rig.server), since = all - rig.calls;

	rig.calls = all;
	return since;
}

double breaker_script_time(void)
{
	redisReply *info = script_rig_must(redisCommand(rig.redis, "INFO commandstats"), "INFO");
	const char *line = strstr(info->str, "cmdstat_evalsha:"),
		   *value = strstr(line == NULL ? "" : line, "usec_per_call=");

	double time = value == NULL ? -1 : strtod(value + strlen("usec_per_call="), NULL);
	freeReplyObject(info);
	return time;
}

/* A word to ourselves says that all before it was heard. */
struct slice breaker_script_heard(int *count)
{
	size_t length = 0;

	redis_server_do(rig.server, "PUBLISH %s end", BREAKER_CHANNEL);
	for (*count = 0;;) {
		redisReply *reply;
		if (redisGetReply(rig.ears, (void **)&reply) != 0)
			script_rig_fail("ears", rig.ears->errstr);
		const redisReply *text = reply->element[2];
		bool is_end = reply->elements == 3 && text->str != NULL && strcmp(text->str, "end") == 0;
		if (!is_end && text->str != NULL && strcmp(reply->element[0]->str, "message") == 0) {
			length = text->len < sizeof(rig.heard) ? text->len : sizeof(rig.heard);
			memcpy(rig.heard, text->str, length);
			++*count;
		}
		freeReplyObject(reply);
		if (is_end)
			return slice_make(rig.heard, length);
	}
}

void breaker_script_listen(const char *channel, bool on)
{
	if (redisAppendCommand(rig.ears, on ? "SUBSCRIBE %s" : "UNSUBSCRIBE %s", channel) != 0)
		script_rig_fail("listen", channel);
	int count;
	int done;
	do
		if (redisBufferWrite(rig.ears, &done) != 0)
			script_rig_fail("listen", rig.ears->errstr);
	while (!done);
	/* Its confirmation is behind the write; the next look passes over it. */
	while (redis_server_int(rig.server, "PUBLISH %s there?", channel) != (on ? 1 : 0))
		;
	breaker_script_heard(&count);
}
