/* What others have, or get with it: looking up, giving what is stored, reading along; and what a request that leads owes to those who read along with it.
 *
 *   lookup ──► replay      an answer is stored
 *          ──► follow      another asks: read along; when the leader is lost and nothing was given yet, look up again, perhaps to lead
 *          ──► choose      nobody does: ask, and let others read along
 *
 * A leader whose client leaves goes on for the others (flow_carry_on). Its client is given its answer out of the record, like theirs: so a slow one
 * slows nobody down, as long as the record is kept whole. */
#include "svc/flow_internal.h"

#include "lib/clock.h"
#include "lib/log.h"
#include "svc/reply.h"

enum { PIECE = 64 * 1024, HEAD_MOST = 64 * 1024 };

/* What a leader that was refused tells those who are refused with it. */
struct denial {
	enum refusal refusal;
	struct limiter_answer quota;
};
_Static_assert(sizeof(struct denial) <= FLIGHT_NOTE, "it fits into a note");

/* ---- lookup ---------------------------------------------------------------------------------------------------------- */

/* Of the worker's own answers only a fresh one is given: whether a stale one is being refreshed, Redis knows. */
static bool find_here(struct request *r)
{
	const struct flight_ask *ask = &r->share.ask;
	struct answer_times times;
	struct answer *answer;
	int64_t now = clock_now();

	if (!ask->may_read || ask->upstream_failed)
		return false;
	answer = worker_cached(r->worker, ask->key, &times);
	if (answer == NULL)
		return false;
	if (now >= times.fresh || now >= times.fresh + ask->slack ||
	    (ask->oldest >= 0 && now - times.born > ask->oldest)) {
		answer_release(&answer);
		return false;
	}
	r->answer_held = answer;
	r->shared.times = times;
	r->shared.verdict = FLIGHT_HIT;
	r->shared.local = r->shared.looked = true;
	return true;
}

/* Only what the tenant pays for it is asked for before it is given. */
static enum stage give(struct request *r, enum stage how)
{
	return r->config->cache.count_hits && !r->shared.charged ? STAGE_quota : how;
}

/* Whatever its own quota said meanwhile, where hits count: there is nothing to be given. */
static enum stage be_denied(struct request *r)
{
	struct denial denial = { .refusal = REFUSAL_quota_unavailable };

	if (r->shared.denial.len == sizeof(denial))
		memcpy(&denial, r->shared.denial.data, sizeof(denial));
	r->quota = denial.quota;
	buf_append(&r->detail, SLICE("It was refused for an identical request."));
	return flow_refuse(r, denial.refusal);
}

/* `length` of the body that is stored; -1: it is still coming. False: it has no head that this version understands, or another length than that says. */
static bool read_head(struct request *r, struct slice head, int64_t length)
{
	return fields_unpack(head, r->mem, REPLY_FIELDS, &r->answer, &r->shared.status) &&
	       (length < 0 || r->answer.content_length < 0 || r->answer.content_length == length);
}

static bool read_stored(struct request *r)
{
	return read_head(r, answer_head(r->answer_held), (int64_t)answer_body(r->answer_held).len);
}

static void say_poisoned(struct request *r)
{
	log_say(r->worker->log, LOG_WARNING, "answer",
		"a stored or shared answer has no head that this version understands");
	worker_drop(r->worker, r->share.ask.key);
	answer_release(&r->answer_held);
}

/* The client gets what is stale; what is new is fetched by one of its own. Without room for that it stays to the next. */
static void refresh(struct request *r)
{
	if (request_keep_head(r))
		flow_start(request_twin(r), STAGE_choose);
	else
		flight_leave(&r->seat);
}

/* The stored head is read before the body is given away: one whose answer is none of ours asks for itself. */
static void refresh_or_lead(struct request *r)
{
	if (read_stored(r)) {
		refresh(r);
		return;
	}
	say_poisoned(r);
	r->shared.verdict = FLIGHT_LEAD;
}

static void told(struct flight_seat *seat, void *arg, const struct flight_told *t)
{
	struct request *r = request_of(arg);

	CHECK(seat == r->seat);
	r->shared.verdict = t->verdict;
	r->shared.looked = true;
	r->shared.fleet = t->fleet;
	r->shared.has_stale = t->has_stale;
	if (t->answer != NULL) {
		answer_release(&r->answer_held);
		r->answer_held = answer_hold(t->answer);
		r->shared.times = t->times;
		worker_keep(r->worker, r->share.ask.key, t->answer, &t->times, t->epoch);
	}
	if (t->verdict == FLIGHT_DENIED)
		r->shared.denial = mem_copy(r->mem, t->note);
	if (t->verdict == FLIGHT_REFRESH)
		refresh_or_lead(r);
	if (r->waiting == seat)
		flow_resume(r, seat);
}

static void more(struct flight_seat *seat, void *arg)
{
	struct request *r = request_of(arg);

	if (r->waiting == seat && !r->blocked)
		flow_resume(r, seat);
}

static void alone(struct flight_seat *seat, void *arg)
{
	struct request *r = request_of(arg);

	CHECK(seat == r->seat);
	flow_abort(r, r->left);
}

static const struct flight_events events = { told, more, alone };

enum stage stage_lookup(struct request *r)
{
	if (find_here(r))
		return give(r, STAGE_replay);
	r->shared.looked = false;
	r->share.ask.timeout = (request_redis_left(r) + 1) / 2; /* the other half is for the quota */
	r->seat = flight_join(r->worker->flights, &r->share.ask, &events, r);
	return flow_await(r, r->seat);
}

/* Whoever leads may have to go on without its client. */
static enum stage lead(struct request *r)
{
	return request_keep_head(r) ? STAGE_choose : flow_refuse(r, REFUSAL_internal);
}

static enum stage find_nothing(struct request *r)
{
	flight_leave(&r->seat);
	if (!r->share.ask.upstream_failed)
		return flow_refuse(r, REFUSAL_not_stored);
	return r->shared.rescued ? flow_degrade_further(r) : flow_refuse(r, r->shared.failure);
}

enum stage stage_lookup_done(struct request *r)
{
	if (r->stage == STAGE_lookup)
		r->took.cache += clock_now() - r->entered;
	switch (r->shared.verdict) {
	case FLIGHT_HIT:
	case FLIGHT_STALE:
	case FLIGHT_REFRESH:
		flight_leave(&r->seat);
		return give(r, STAGE_replay);
	case FLIGHT_LEAD:
		return lead(r);
	case FLIGHT_FOLLOW:
		return give(r, STAGE_follow);
	case FLIGHT_PASS:
		flight_leave(&r->seat);
		return STAGE_choose;
	case FLIGHT_NONE:
		return find_nothing(r);
	case FLIGHT_DENIED:
		break;
	}
	return be_denied(r);
}

/* ---- replay ---------------------------------------------------------------------------------------------------------- */

/* As if nothing had been stored or were on its way, but asked for by this one alone, unless it has failed already. */
static enum stage ask_alone(struct request *r)
{
	r->shared.verdict = r->share.ask.upstream_failed ? FLIGHT_NONE : FLIGHT_PASS;
	if (r->shared.verdict == FLIGHT_NONE)
		return find_nothing(r);
	flight_leave(&r->seat);
	r->shared.local = false;
	return STAGE_choose;
}

static void begin_answer(struct request *r)
{
	loop_timer_free(&r->deadline);
	r->attempt.has_error = false;
	r->status = r->shared.status;
	reply_head(r, r->answer.content_length);
}

static enum stage give_stored(struct request *r)
{
	struct slice rest = slice_skip(answer_body(r->answer_held), r->shared.given);

	while (rest.len > 0 && !r->blocked) {
		struct slice piece = slice_first(rest, PIECE);
		r->shared.given += piece.len;
		rest = slice_skip(rest, piece.len);
		flow_to_client(r, piece);
	}
	return rest.len == 0 ? STAGE_settle : flow_await(r, r->exchange);
}

enum stage stage_replay(struct request *r)
{
	if (r->shared.verdict != FLIGHT_REFRESH && !read_stored(r)) {
		say_poisoned(r);
		return ask_alone(r);
	}
	begin_answer(r);
	return give_stored(r);
}

enum stage stage_replay_done(struct request *r)
{
	return give_stored(r);
}

/* ---- follow ---------------------------------------------------------------------------------------------------------- */

static void note_tail(struct request *r, struct slice bytes)
{
	size_t keep = bytes.len < sizeof(r->shared.tail) ? sizeof(r->shared.tail) - bytes.len : 0;

	memmove(r->shared.tail, r->shared.tail + sizeof(r->shared.tail) - keep, keep);
	memcpy(r->shared.tail + keep, bytes.data + bytes.len - (sizeof(r->shared.tail) - keep),
	       sizeof(r->shared.tail) - keep);
}

void flow_give_record(struct request *r)
{
	struct slice bytes;

	while (!r->blocked && (bytes = slice_first(flight_unread(r->seat), PIECE)).len > 0) {
		note_tail(r, bytes);
		flow_to_client(r, bytes);
		flight_take(r->seat, bytes.len);
	}
}

/* The leader has failed, and this one with it, unless something older will do. */
static enum stage fail_together(struct request *r, struct slice note)
{
	enum refusal why = refusal_of_code(note);

	r->shared.failure = why == REFUSAL_none ? REFUSAL_upstream_broken : why;
	flight_leave(&r->seat);
	if (!r->share.ask.may_read || r->config->cache.stale_if_error == 0)
		return flow_refuse(r, r->shared.failure);
	r->share.ask.upstream_failed = true;
	return STAGE_lookup;
}

/* A plain answer is of no use before it is whole, so it is not begun before: until then its reader may still be sent elsewhere, should the leader die or
 * the answer be too large to be kept. What another API's answer is nobody knows; it may be a stream. */
static bool may_begin(const struct request *r)
{
	struct slice note;

	return r->call.framing != DIALECT_PLAIN || r->call.dialect == DIALECT_http ||
	       flight_state(r->seat, &note) == FLIGHT_WHOLE;
}

/* The leader may have fallen back to a model that this one's tenant may not use. */
static bool may_have(const struct request *r)
{
	for (size_t i = 0; i < r->answer.count; i++)
		if (slice_equal_nocase(r->answer.fields[i].name, SLICE("x-sluice-model")))
			return route_allows(r->caller.tenant, r->answer.fields[i].value);
	return true;
}

/* False: it is none that this one can take. */
static bool take_head(struct request *r, struct slice head)
{
	if (!read_head(r, head, -1)) {
		say_poisoned(r);
		return false;
	}
	return may_have(r);
}

static enum stage read_along(struct request *r)
{
	struct slice head, note;
	enum flight_state state;

	if (r->shared.verdict != FLIGHT_FOLLOW)
		return stage_lookup_done(r);
	if (!r->answered && may_begin(r) && flight_head(r->seat, &head)) {
		if (!take_head(r, head))
			return ask_alone(r);
		begin_answer(r);
		flight_take_head(r->seat);
	}
	if (r->answered)
		flow_give_record(r);
	state = flight_state(r->seat, &note);
	if (state == FLIGHT_GOING || (r->blocked && flight_unread(r->seat).len > 0))
		return flow_await(r, r->seat);
	if (state == FLIGHT_WHOLE)
		return STAGE_settle;
	return r->answered ? flow_refuse(r, REFUSAL_upstream_broken) : fail_together(r, note);
}

enum stage stage_follow(struct request *r)
{
	return read_along(r);
}

enum stage stage_follow_done(struct request *r)
{
	return read_along(r);
}

/* ---- for who leads ------------------------------------------------------------------------------------------------------ */

bool flow_leads(const struct request *r)
{
	return r->seat != NULL && r->shared.looked && r->shared.verdict == FLIGHT_LEAD && flight_leads(r->seat);
}

/* Before our own fields are added to it. */
void flow_share_head(struct request *r, int64_t length)
{
	struct buf head;

	if (!flow_leads(r))
		return;
	buf_init(&head, HEAD_MOST);
	if (share_is_private(&r->call, &r->answer) || length > r->config->cache.max_body ||
	    !fields_pack(&r->answer, r->status, length, &head))
		flight_end(r->seat, &(struct flight_end){ .outcome = FLIGHT_PRIVATE });
	else
		flight_begin(r->seat, buf_slice(&head));
	buf_free(&head);
}

void flow_share_bytes(void *request, struct slice bytes)
{
	struct request *r = request;

	if (!flow_leads(r)) {
		if (r->exchange != NULL)
			flow_to_client(r, bytes);
		return;
	}
	flight_write(r->seat, bytes);
	if (flow_leads(r) && r->exchange != NULL)
		flow_give_record(r);
}

bool flow_wants_more(const struct request *r)
{
	return !r->blocked || (flow_leads(r) && !flight_slides(r->seat));
}

void flow_give_rest(struct request *r)
{
	if (r->exchange != NULL && r->answered && flow_leads(r)) {
		for (r->blocked = false; flight_unread(r->seat).len > 0; r->blocked = false)
			flow_give_record(r);
	}
}

/* The client has been answered, or has left. One that came to lead while it waits for another quota has not kept what it needs for a call without it. */
bool flow_carry_on(struct request *r, enum refusal why)
{
	if (r->waiting == NULL || !flow_leads(r) || !r->head_kept || r->left != REFUSAL_none || !flight_orphan(r->seat))
		return false;
	r->left = why;
	r->blocked = false;
	loop_timer_free(&r->deadline);
	if (r->transfer != NULL) /* it may have waited for the client */
		pool_resume(r->transfer);
	if (r->exchange != NULL) {
		r->refusal = why;
		reply_refusal(r);
		r->refusal = REFUSAL_none;
		r->answered = false;
	}
	return true;
}

bool flow_may_rescue(const struct request *r)
{
	return flow_leads(r) && r->shared.has_stale && r->exchange != NULL && r->share.ask.may_read;
}

/* The attempt is over, and what was denied settled, before the answer's times and status become those of another. */
enum stage flow_rescue(struct request *r, enum refusal failure, int status)
{
	const struct limiter_used used = { .never_sent = true };

	CHECK(r->transfer == NULL && r->probe == NULL);

	r->shared.failure = failure;
	r->shared.failed_status = status;
	flight_end(r->seat, &(struct flight_end){ .outcome = FLIGHT_BROKEN, .note = slice_of(refusal_code(failure)) });
	flight_leave(&r->seat);
	limiter_settle(&r->lease, &used);
	r->shared.rescued = true;
	r->share.ask.upstream_failed = true;
	return STAGE_lookup;
}

/* ---- the end of a flight -------------------------------------------------------------------------------------------------- */

static void end_whole(struct request *r)
{
	struct flight_end end = { .outcome = FLIGHT_DONE };
	bool good = r->status == 200 && r->metered.ended && !r->metered.error_in_band && !r->metered.filtered;

	end.store = r->share.store && !request_fell_back(r) &&
		    share_keep(r->config, &r->call, r->status, &r->answer, &r->metered, &end);
	if (!end.store && good && !request_fell_back(r) && r->share.ask.may_be_late && r->config->coalesce.window > 0)
		end.store = true; /* for latecomers alone */
	end.store &= !r->worker->answers_full;
	worker_drop(r->worker, r->share.ask.key); /* what is older than this; elsewhere Redis tells so */
	flight_end(r->seat, &end);
}

/* True: the quota's answer, which may be another for another tenant. */
static bool is_denial(enum refusal why)
{
	return why == REFUSAL_rate_limited || why == REFUSAL_too_many_at_once || why == REFUSAL_queue_full ||
	       why == REFUSAL_exceeds_limit || why == REFUSAL_quota_unavailable;
}

static bool is_upstreams(enum refusal why)
{
	return why == REFUSAL_upstream_unreachable || why == REFUSAL_upstream_broken ||
	       why == REFUSAL_upstream_invalid || why == REFUSAL_upstream_busy || why == REFUSAL_upstream_timeout ||
	       why == REFUSAL_upstream_limited || why == REFUSAL_breaker_open;
}

/* What is neither the answer's nor the upstream's fault is this request's own: it leaves, and somebody else leads. */
void flow_end_flight(struct request *r)
{
	struct denial denial = { .refusal = r->refusal, .quota = r->quota };

	if (!flow_leads(r))
		return;
	if (r->refusal == REFUSAL_none && r->meter != NULL)
		end_whole(r);
	else if (is_denial(r->refusal) && r->attempts == 0)
		flight_end(r->seat, &(struct flight_end){ .outcome = FLIGHT_REFUSED,
							  .note = slice_make((const char *)&denial, sizeof(denial)) });
	else if (is_upstreams(r->refusal))
		flight_end(r->seat, &(struct flight_end){ .outcome = FLIGHT_BROKEN,
							  .note = slice_of(refusal_code(r->refusal)) });
}
