/* What must hold when nothing is left to come. */
#include "svc/metrics.h"
#include "tests/flow/world/world_internal.h"

/* ---- what the client should have ---------------------------------------------------------------------------------------------- */

void world_join_pieces(const char *const pieces[WORLD_PIECES], struct buf *out)
{
	for (size_t i = 0; i < WORLD_PIECES && pieces[i] != NULL; i++)
		assert_true(buf_append(out, slice_of(pieces[i])));
}

void world_expected(struct buf *out)
{
	const struct world_scenario *s = world_now()->scenario;
	const char *without;

	world_join_pieces(s->pieces, out);
	if (s->without == NULL)
		return;
	assert_true(buf_append_byte(out, '\0'));
	without = strstr(out->data, s->without);
	assert_non_null(without);
	memmove(out->data + (without - out->data), without + strlen(s->without),
		out->len - (size_t)(without - out->data) - strlen(s->without));
	out->len -= strlen(s->without) + 1;
}

enum source { UPSTREAM, STORED, ALONG };

static enum source source_of(const struct world *w)
{
	const struct flight_seat *s = w->exchange.source;

	if (s == NULL)
		return w->scenario->local ? STORED : UPSTREAM;
	if (s->poisoned)
		return UPSTREAM;
	if (s->verdict == FLIGHT_HIT || s->verdict == FLIGHT_STALE || s->verdict == FLIGHT_REFRESH)
		return STORED;
	return s->verdict == FLIGHT_FOLLOW ? ALONG : UPSTREAM;
}

static void whole_of(enum source source, struct buf *out)
{
	const struct world_scenario *s = world_now()->scenario;

	if (source == UPSTREAM)
		world_expected(out);
	else if (source == STORED)
		assert_true(buf_append(out, slice_of(s->stored)));
	else
		world_join_pieces(s->along, out);
}

static bool upstream_began(const struct world *w)
{
	for (int i = 0; i < w->transfers_count; i++)
		if (w->transfers[i].arg == w->client && w->transfers[i].began)
			return true;
	return false;
}

/* An error inside a stream stands between two events, and may begin as the event does that would have come. */
static bool is_error_event(struct slice body, size_t at)
{
	struct slice rest = slice_skip(body, at);

	if (at > 0 && body.data[at - 1] != '\n')
		return false;
	return slice_starts(rest, SLICE("data: {\"error\":")) || slice_starts(rest, SLICE("event: error\n")) ||
	       slice_starts(rest, SLICE("{\"error\":"));
}

static bool is_cut_of(struct slice body, struct slice whole)
{
	size_t same = 0;

	while (same < body.len && same < whole.len && body.data[same] == whole.data[same])
		same++;
	for (size_t at = same + 1; at-- > 0;)
		if (is_error_event(body, at))
			return true;
	return same == body.len;
}

static void check_answer(const struct world *w)
{
	const struct exchange *e = &w->exchange;
	enum source source = source_of(w);
	struct slice body = buf_slice(&e->body);
	struct buf whole;

	assert_true(e->ended != e->gone);
	if (!e->answered || w->scenario->pieces[0] == NULL)
		return;
	if (e->status != (source == UPSTREAM ? w->scenario->status : 200) ||
	    (source == UPSTREAM && !upstream_began(w))) {
		assert_true(e->gone || (e->clean && e->status >= 400)); /* a refusal is a whole answer */
		return;
	}
	buf_init(&whole, WORLD_ANSWER);
	whole_of(source, &whole);
	if (e->ended && e->clean) { /* only the whole may look whole */
		assert_true(slice_equal(body, buf_slice(&whole)));
		assert_true(e->promised < 0 || e->promised == (int64_t)body.len);
	} else {
		assert_true(is_cut_of(body, buf_slice(&whole)));
	}
	buf_free(&whole);
}

/* ---- what must have been given back --------------------------------------------------------------------------------------------- */

/* Its transfer brought all that there was. */
static bool came_whole(const struct world *w, const struct flight_seat *s)
{
	for (int i = 0; i < w->transfers_count; i++) {
		const struct transfer *t = &w->transfers[i];
		if (t->arg == s->arg && t->whole)
			return true;
	}
	return false;
}

static void check_seat(const struct world *w, const struct flight_seat *s)
{
	bool done = s->ending == WORLD_FLIGHT_DONE || s->ending == WORLD_FLIGHT_STORED;
	struct buf whole;

	assert_true(s->left && !s->leads);
	if (!s->led)
		return;
	assert_true(s->ending != WORLD_FLIGHT_NONE);
	buf_init(&whole, WORLD_ANSWER);
	world_expected(&whole);
	if (done) /* whoever reads along takes it for whole */
		assert_true(slice_equal(buf_slice(&s->bytes), buf_slice(&whole)));
	else if (s->ending != WORLD_FLIGHT_PRIVATE && s->ending != WORLD_FLIGHT_ALONE)
		assert_false(came_whole(w, s));
	assert_true(s->ending != WORLD_FLIGHT_STORED || w->scenario->status == 200);
	buf_free(&whole);
}

static void check_leases(const struct world *w, struct world_outcome *o)
{
	for (int i = 0; i < w->leases_count; i++) {
		const struct lease *lease = &w->leases[i];
		assert_true(lease->settled);
		assert_true(lease->for_call || (lease->tokens == 0 && lease->used.tokens == 0));
		assert_true(lease->arg == w->client || lease->requests == 0); /* its hit is the client's request */
		o->tokens += lease->used.tokens;
		o->counted += lease->admitted && lease->requests > 0 && !lease->used.never_sent;
		if (lease->for_call) {
			o->leased = true;
			o->never_sent = lease->used.never_sent;
		}
	}
	o->leases = w->leases_count;
	assert_true(o->counted <= 1);
}

static void check_transfers(const struct world *w, struct world_outcome *o)
{
	int own = 0;

	for (int i = 0; i < w->transfers_count; i++) {
		const struct transfer *t = &w->transfers[i];
		assert_true(t->ended != t->cancelled);
		own += t->arg == w->client;
		o->pieces = (int)t->piece;
	}
	o->calls = w->transfers_count;
	assert_true(own <= 1 && o->calls - own <= 1); /* nobody is asked twice */
}

/* ---- what was counted ------------------------------------------------------------------------------------------------------------ */

static void read_requests(const char *text, struct world_outcome *o)
{
	const char *line = text, *at;
	int count = 0;

	for (; (line = strstr(line, "\nsluice_requests_total{")) != NULL; line++) {
		if (strncmp(strstr(line, "tenant="), "tenant=\"scout\"", strlen("tenant=\"scout\"")) == 0)
			continue;
		count++;
		at = strstr(line, "outcome=\"");
		assert_int_equal(sscanf(at, "outcome=\"%39[^\"]\"", o->outcome), 1);
		at = strstr(line, "status=\"");
		assert_int_equal(sscanf(at, "status=\"%d\"} 1", &o->status), 1);
	}
	assert_int_equal(count, 1);
}

/* The one series of a metric with one label, each of whose counts is 1. `but`: not this one. */
static void read_label(const char *text, const char *series, const char *but, char label[40])
{
	for (const char *line = text; (line = strstr(line, series)) != NULL; line++) {
		char found[40];
		int count;
		assert_int_equal(sscanf(line + strlen(series), "%39[^\"]\"} %d", found, &count), 2);
		if (but != NULL && strcmp(found, but) == 0)
			continue;
		assert_true(count == 1 && label[0] == '\0');
		snprintf(label, 40, "%s", found);
	}
}

static void read_metrics(const struct world *w, struct world_outcome *o)
{
	struct buf text;

	buf_init(&text, 1024 * 1024);
	metrics_write(w->worker->metrics, &text);
	assert_true(buf_append_byte(&text, '\0'));
	read_requests(text.data, o);
	read_label(text.data, "\nsluice_refreshes_total{outcome=\"", NULL, o->refresh);
	read_label(text.data, "\nsluice_cache_total{result=\"", w->scenario->local ? "hit" : NULL, o->found);
	buf_free(&text);
}

static void note_flight(const struct flight_seat *s, struct world_outcome *o)
{
	o->along = s->along;
	o->took = s->took;
	if (!s->led)
		return;
	o->flight = s->ending;
	memcpy(o->note, s->end_note, sizeof(o->note));
	o->note_length = s->end.note.len;
}

void world_check(struct world_outcome *o)
{
	struct world *w = world_now();

	*o = (struct world_outcome){ .steps = w->step,
				     .fault_came = w->fault_came,
				     .fault_step = w->fault_step,
				     .hit_twin = w->fault_came && w->fault_hit != w->client,
				     .left = w->left,
				     .joins = w->seats_count };
	assert_int_equal(w->worker->requests_count, 0);
	assert_int_equal(atomic_load(&w->shared.body_bytes), 0);
	snprintf(o->cache, sizeof(o->cache), "%s", w->exchange.cache);
	check_answer(w);
	check_leases(w, o);
	check_transfers(w, o);
	for (int i = 0; i < w->seats_count; i++) {
		check_seat(w, &w->seats[i]);
		note_flight(&w->seats[i], o);
	}
	read_metrics(w, o);
}
