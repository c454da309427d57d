#include "lib/breaker_wire.h"

#include "lib/text.h"

/* ---- calls -------------------------------------------------------------------- */

static void put(struct breaker_wire *w, struct slice argument)
{
	CHECK(w->argument < BREAKER_WIRE_ARGUMENTS);
	w->arguments[w->argument++] = argument;
}

static void put_int(struct breaker_wire *w, int64_t number)
{
	size_t start = w->text.len;
	CHECK(buf_append_int(&w->text, number));
	put(w, slice_make(w->text.data + start, w->text.len - start));
}

static void begin(struct breaker_wire *w, int64_t now)
{
	w->argument = 0;
	buf_wrap(&w->text, w->memory, sizeof(w->memory), 0);
	if (now == BREAKER_WIRE_NOW)
		put(w, SLICE(""));
	else
		put_int(w, now);
}

static struct slice letter_of(enum breaker_result result)
{
	switch (result) {
	case BREAKER_SUCCESS:
		return SLICE("s");
	case BREAKER_NOTHING:
		return SLICE("n");
	case BREAKER_FAILURE:
	case BREAKER_UNREACHABLE:
		break;
	}
	return SLICE("f");
}

void breaker_wire_report(struct breaker_wire *w, int64_t now, struct slice name, const struct breaker_rule *rule,
			 const struct breaker_report *report)
{
	const struct breaker_delta *d = &report->delta;
	const int64_t numbers[] = { rule->window,         rule->min_calls,       rule->error_rate, rule->slow_rate,
				    rule->slow_min_calls, rule->unreachable,     rule->failures,   rule->open_for,
				    rule->open_most,      rule->probes,          report->epoch,    d->counts.calls,
				    d->counts.failed,     d->counts.first_bytes, d->counts.slow,   d->reached,
				    d->unreachable,       d->went_well,          d->failures,      report->pauses };
	begin(w, now);
	put(w, name);
	for (size_t i = 0; i < ARRAY_LENGTH(numbers); i++)
		put_int(w, numbers[i]);
	put(w, report->ticket);
	put(w, report->so_far ? SLICE("w") : letter_of(report->result));
	put_int(w, report->doubtful);
	put_int(w, report->force);
}

void breaker_wire_probe(struct breaker_wire *w, int64_t now, struct slice ticket, int64_t lasts, int64_t probes)
{
	begin(w, now);
	put(w, ticket);
	put_int(w, lasts);
	put_int(w, probes);
}

void breaker_wire_pause(struct breaker_wire *w, int64_t now, struct slice name, struct slice model, int64_t length)
{
	begin(w, now);
	put(w, name);
	put(w, model);
	put_int(w, length);
	put_int(w, BREAKER_PAUSE_MOST);
	put_int(w, BREAKER_PAUSES_MOST);
}

void breaker_wire_force(struct breaker_wire *w, int64_t now, struct slice name, enum breaker_force force,
			const struct breaker_rule *rule)
{
	begin(w, now);
	put(w, name);
	put_int(w, force);
	put_int(w, rule->window);
	put_int(w, rule->open_most);
}

/* ---- replies ------------------------------------------------------------------ */

enum { SHORT = 7, LONG = 14 };      /* values: verdict, now, then the standing */
#define SENSIBLE (INT64_C(1) << 53) /* the greatest whole number that a script is sure of */
enum { STANDING = 5, MORE = 6 };    /* numbers of it that every reply has, and those that report's has, too */

static bool take(struct breaker_standing *standing, const int64_t *number, size_t count)
{
	if (number[0] < 0 || number[0] > BREAKER_HALF_OPEN || number[4] < 0 || number[4] > BREAKER_FORCED_CLOSED)
		return false;
	for (size_t i = 1; i < count; i++)
		if (number[i] < 0 || number[i] > SENSIBLE)
			return false;
	*standing = (struct breaker_standing){ .state = (enum breaker_state)number[0],
					       .epoch = number[1],
					       .left = number[2],
					       .trips = number[3],
					       .force = (enum breaker_force)number[4] };
	if (count == STANDING)
		return true;
	if (number[5] > BREAKER_WHY_FORCED)
		return false;
	standing->why = (enum breaker_why)number[5];
	standing->counts = (struct breaker_counts){ number[6], number[7], number[8], number[9] };
	standing->run = number[10];
	return true;
}

static bool read_numbers(const struct redisReply *reply, int64_t *number, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!redis_reply_int(redis_reply_at(reply, i), &number[i]))
			return false;
	return true;
}

bool breaker_wire_read_report(const struct redisReply *reply, struct breaker_standing *standing, int64_t *pauses)
{
	int64_t number[LONG];
	if (redis_reply_count(reply) < LONG || redis_reply_count(reply) % 2 != 0 || !read_numbers(reply, number, LONG))
		return false;
	*pauses = number[LONG - 1];
	return take(standing, number + 2, STANDING + MORE);
}

bool breaker_wire_read_pause(const struct redisReply *reply, size_t index, struct slice *model, int64_t *left)
{
	const struct redisReply *key = redis_reply_at(reply, LONG + 2 * index);
	const struct redisReply *value = redis_reply_at(reply, LONG + 2 * index + 1);
	return key != NULL && value != NULL && redis_reply_text(key, model) && redis_reply_int(value, left);
}

bool breaker_wire_read_short(const struct redisReply *reply, int64_t *verdict, struct breaker_standing *standing)
{
	int64_t number[SHORT];
	if (redis_reply_count(reply) != SHORT || !read_numbers(reply, number, SHORT))
		return false;
	*verdict = number[0];
	return take(standing, number + 2, STANDING);
}

/* ---- what is heard -------------------------------------------------------------- */

/* So many numbers, a blank behind each. */
static bool cut_numbers(struct slice *rest, int64_t *number, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!text_int(slice_cut(*rest, ' ', rest), &number[i]))
			return false;
	return true;
}

bool breaker_wire_hear_standing(struct slice text, struct breaker_standing *standing, struct slice *name)
{
	int64_t number[STANDING + MORE];
	if (!slice_starts(text, SLICE("b ")))
		return false;
	*name = slice_skip(text, 2);
	return cut_numbers(name, number, ARRAY_LENGTH(number)) && take(standing, number, ARRAY_LENGTH(number));
}

bool breaker_wire_hear_pause(struct slice text, struct slice *name, struct slice *model, int64_t *left)
{
	int64_t number[2];
	if (!slice_starts(text, SLICE("p ")))
		return false;
	*name = slice_skip(text, 2);
	if (!cut_numbers(name, number, 2) || number[0] < 0 || number[1] < 0 || (uint64_t)number[1] > name->len)
		return false;
	*left = number[0];
	*model = slice_first(*name, (size_t)number[1]);
	*name = slice_skip(*name, (size_t)number[1]);
	return true;
}
