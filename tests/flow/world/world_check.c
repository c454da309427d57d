/* What must hold when nothing is left to come. */
#include "svc/metrics.h"
#include "tests/flow/world/world_internal.h"

/* Names the run that does not hold. */
#define MUST(condition) must(condition, #condition)
static void must(bool holds, const char *condition)
{
	const struct world *w = world_now();

	if (!holds)
		fail_msg("%s, %s first, left at %d, %s at step %d: %s", w->scenario->name,
			 world_order_name(w->scenario->order), w->left ? w->scenario->leaves_at : -1,
			 world_fault_name(w->fault), w->fault_step, condition);
}

/* ---- what the client should have ---------------------------------------------------------------------------------------------- */

void world_join_pieces(const char *const pieces[WORLD_PIECES], struct buf *out)
{
	for (size_t i = 0; i < WORLD_PIECES && pieces[i] != NULL; i++)
		assert_true(buf_append(out, slice_of(pieces[i])));
}

void world_expected(struct buf *out)
{
	const struct world_scenario *s = world_now()->scenario;
	const struct transfer *t = world_answering(world_now());
	const char *without;

	if (t != NULL && t->fails) {
		assert_true(buf_append(out, slice_of(s->fail_body)));
		return;
	}
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
		MUST(buf_append(out, slice_of(s->stored)));
	else
		world_join_pieces(s->along, out);
}

const struct transfer *world_answering(const struct world *w)
{
	const struct transfer *last = NULL;

	for (int i = 0; i < w->transfers_count; i++)
		if (w->transfers[i].arg == w->client && w->transfers[i].began)
			last = &w->transfers[i];
	return last;
}

static int upstream_status(const struct world *w)
{
	const struct transfer *t = world_answering(w);

	return t == NULL ? 0 : t->fails ? w->scenario->fail_status : w->scenario->status;
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

/* The gateway's own 429, not to be taken for the upstream's: its limit, or what it says instead of half an error. */
static bool is_own_429(const struct world *w)
{
	const struct transfer *t = world_answering(w);
	bool denied =
		(w->fault == WORLD_denied || w->fault == WORLD_late) && w->fault_came && w->fault_hit == w->client;

	return w->exchange.status == 429 && (denied || (t != NULL && t->ended && !t->whole));
}

static void check_answer(const struct world *w)
{
	const struct exchange *e = &w->exchange;
	enum source source = source_of(w);
	struct slice body = buf_slice(&e->body);
	struct buf whole;

	MUST(e->ended != e->gone);
	if (!e->answered || w->scenario->pieces[0] == NULL)
		return;
	if (e->status != (source == UPSTREAM ? upstream_status(w) : 200) || is_own_429(w)) {
		MUST(e->gone || (e->clean && e->status >= 400)); /* a refusal is a whole answer */
		return;
	}
	buf_init(&whole, WORLD_ANSWER);
	whole_of(source, &whole);
	if (e->ended && e->clean) { /* only the whole may look whole */
		MUST(slice_equal(body, buf_slice(&whole)));
		MUST(e->promised < 0 || e->promised == (int64_t)body.len);
	} else {
		MUST(is_cut_of(body, buf_slice(&whole)));
	}
	buf_free(&whole);
}

/* ---- what must have been given back --------------------------------------------------------------------------------------------- */

/* Its transfer brought all that there was, and it was no failure. */
static bool came_whole(const struct world *w, const struct flight_seat *s)
{
	for (int i = 0; i < s->calls_at_end; i++) {
		const struct transfer *t = &w->transfers[i];
		if (t->arg == s->arg && t->whole && (t->fails ? w->scenario->fail_status : w->scenario->status) < 429)
			return true;
	}
	return false;
}

static void check_seat(const struct world *w, const struct flight_seat *s)
{
	bool done = s->ending == WORLD_FLIGHT_DONE || s->ending == WORLD_FLIGHT_STORED;
	struct buf whole;

	MUST(s->left && !s->leads);
	if (!s->led)
		return;
	MUST(s->ending != WORLD_FLIGHT_NONE);
	buf_init(&whole, WORLD_ANSWER);
	world_expected(&whole);
	if (done) /* whoever reads along takes it for whole */
		MUST(slice_equal(buf_slice(&s->bytes), buf_slice(&whole)));
	else if (s->ending != WORLD_FLIGHT_PRIVATE && s->ending != WORLD_FLIGHT_ALONE)
		MUST(!came_whole(w, s));
	MUST(s->ending != WORLD_FLIGHT_STORED || w->scenario->status == 200);
	buf_free(&whole);
}

static void check_leases(const struct world *w, struct world_outcome *o)
{
	for (int i = 0; i < w->leases_count; i++) {
		const struct lease *lease = &w->leases[i];
		MUST(lease->settled);
		MUST(lease->for_call || (lease->tokens == 0 && lease->used.tokens == 0));
		MUST(lease->arg == w->client || lease->requests == 0); /* its hit is the client's request */
		o->tokens += lease->used.tokens;
		o->counted += lease->admitted && lease->requests > 0 && !lease->used.never_sent;
		if (lease->for_call) {
			o->leased = true;
			o->never_sent = lease->used.never_sent;
		}
	}
	o->leases = w->leases_count;
	MUST(o->counted <= 1);
}

static void check_transfers(const struct world *w, struct world_outcome *o)
{
	int own = 0;

	for (int i = 0; i < w->transfers_count; i++) {
		const struct transfer *t = &w->transfers[i];
		MUST(t->ended != t->cancelled);
		own += t->arg == w->client;
		o->pieces = t->fails ? 0 : (int)t->piece;
	}
	o->calls = w->transfers_count;
	MUST(own <= (w->scenario->again ? 4 : 1) && o->calls - own <= 1); /* nobody is asked again, unless he may be */
}

static void check_probes(const struct world *w, struct world_outcome *o)
{
	for (int i = 0; i < w->probes_count; i++) {
		MUST(w->probes[i].ended);
		o->tickets += w->probes[i].granted;
		o->failures += w->probes[i].granted &&
			       (w->probes[i].result == BREAKER_FAILURE || w->probes[i].result == BREAKER_UNREACHABLE);
	}
	o->failures += w->noted_bad + w->noted_worse;
	o->pauses = w->pauses;
	MUST(o->failures <= w->transfers_count);
}

/* ---- what was counted ------------------------------------------------------------------------------------------------------------ */

static void note_request(const struct request *r, struct world_outcome *o)
{
	const struct metrics *m = r->worker->metrics;
	const char *outcome = request_outcome(r), *upstream = r->route.upstream != NULL ? r->route.upstream->name : "";
	char text[12];
	struct slice labels[] = { request_tenant(r), r->route.model, slice_of(upstream), slice_of(outcome),
				  SLICE_NONE };

	if (r->shared.refresh) {
		MUST(o->refresh[0] == '\0' && metrics_value(m, METRIC_refreshes_total, &labels[3]) == 1);
		snprintf(o->refresh, sizeof(o->refresh), "%s", outcome);
		return;
	}
	snprintf(o->model, sizeof(o->model), "%.*s", SLICE_ARGS(r->route.model));
	o->status = r->left != REFUSAL_none ? refusal_status(r->left) : r->status;
	labels[4] = slice_make(text, (size_t)snprintf(text, sizeof(text), "%d", o->status));
	MUST(o->outcome[0] == '\0' && metrics_value(m, METRIC_requests_total, labels) == 1);
	snprintf(o->outcome, sizeof(o->outcome), "%s", outcome);
}

void world_note_ended(struct world *w)
{
	LIST_EACH (&w->worker->requests, node, following) {
		const struct request *r = CONTAINER_OF(node, struct request, node);
		if (r->waiting == NULL)
			note_request(r, &w->outcome);
	}
}

/* The one result that was counted; of the scout's no word. */
static void read_found(const struct world *w, struct world_outcome *o)
{
	static const char *const results[] = { "local", "hit",       "stale", "stale_error",
					       "miss",  "collapsed", "pass",  "none" };

	for (size_t i = 0; i < ARRAY_LENGTH(results); i++) {
		struct slice label = slice_of(results[i]);
		double count = metrics_value(w->worker->metrics, METRIC_cache_total, &label);
		if (count == 0 || (w->scenario->local && i == 1))
			continue;
		MUST(count == 1 && o->found[0] == '\0');
		snprintf(o->found, sizeof(o->found), "%s", results[i]);
	}
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

	*o = w->outcome;
	MUST(w->worker->requests_count == 0 && o->outcome[0] != '\0');
	o->steps = w->step;
	o->fault_came = w->fault_came;
	o->fault_step = w->fault_step;
	o->hit_twin = w->fault_came && w->fault_hit != w->client;
	o->left = w->left;
	o->answered = w->exchange.answered;
	o->tells_limits = w->exchange.tells_limits;
	o->joins = w->seats_count;
	MUST(atomic_load(&w->shared.body_bytes) == 0);
	snprintf(o->cache, sizeof(o->cache), "%s", w->exchange.cache);
	check_answer(w);
	check_leases(w, o);
	check_transfers(w, o);
	check_probes(w, o);
	for (int i = 0; i < w->seats_count; i++) {
		check_seat(w, &w->seats[i]);
		note_flight(&w->seats[i], o);
	}
	read_found(w, o);
}
