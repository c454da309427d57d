/* Torture of what requests share: each verdict of the look-up, plain and streamed, counted and not, in each order in which things may come; in peace, then with
 * each fault at each step. The world checks after each run that everything was given back once, that a flight ended whole only with a whole answer, and that
 * the client has exactly the bytes of the one answer that it was given; here is checked what it was called, who paid, and how the flight ended. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/flow/world/torture.h"

#define CHAT_USAGE "{\"prompt_tokens\":9,\"completion_tokens\":12,\"total_tokens\":21}"
#define USAGE_EVENT                                                                                                    \
	"data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"choices\":[],\"usage\":" CHAT_USAGE "}\n\n"
#define DELTA(text)                                                                                                    \
	"data: "                                                                                                       \
	"{\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" text  \
	"\"}}]}\n\n"
#define ASKS(rest)                                                                                                     \
	"{\"model\":\"known\",\"temperature\":0," rest "\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}"

/* What is asked, and the three answers that may be given: they have no byte in common that would hide which one it was. */
static const struct world_scenario plain = {
	.target = "/v1/chat/completions",
	.body = ASKS(""),
	.status = 200,
	.type = "application/json",
	.pieces = { "{\"choices\":[{\"message\":{\"content\":\"Hi there", " all\"}}],", "\"usage\":" CHAT_USAGE "}" },
	.stored = "{\"stored\":[{\"message\":{\"content\":\"kept\"}}]}",
	.along = { "{\"along\":[{\"message\":{\"content\":", "\"for all\"}}]}" },
	.promised = true,
	.tokens = 21,
};
static const struct world_scenario stream = {
	.target = "/v1/chat/completions?x=1",
	.body = ASKS("\"stream\":true,"),
	.status = 200,
	.type = "text/event-stream",
	.pieces = { DELTA("Hi"), DELTA("there"), USAGE_EVENT, "data: [DONE]\n\n" },
	.without = USAGE_EVENT,
	.stored = DELTA("kept") DELTA("long") "data: [DONE]\n\n",
	.along = { DELTA("for"), DELTA("all"), "data: [DONE]\n\n" },
	.marked = true,
	.tokens = 21,
};

static const struct world_scenario page = {
	.target = "/plain/some/thing?q=1",
	.method = "GET",
	.always = true,
	.status = 200,
	.type = "application/json",
	.pieces = { "{\"anything\":", "\"at all\"}" },
	.stored = "{\"stored\":true}",
	.along = { "{\"along\":", "\"for all\"}" },
};

/* ---- what is played ------------------------------------------------------------------------------------------------------- */

struct play {
	const char *name;
	enum world_word words[WORLD_WORDS_MOST];
	int status;               /* of the upstream; 0: 200 */
	const char *outcome;      /* in peace; NULL: ok */
	const char *refresh;      /* NULL: nothing is refetched */
	const char *found;        /* as it is counted */
	int calls;                /* to the upstream */
	enum world_flight flight; /* that was led */
	bool local, slides, private, only_stored;
	enum { ANY, AS_IT_COMES, WHOLE } when; /* only of answers that a reader is given so */
};

/* clang-format off */
static const struct play plays[] = {
	{ "hit", { WORD_hit }, .found = "hit" },
	{ "stale", { WORD_stale }, .found = "stale" },
	{ "refresh", { WORD_refresh }, .found = "stale", .refresh = "ok", .calls = 1, .flight = WORLD_FLIGHT_STORED },
	{ "lead", { WORD_lead }, .found = "miss", .calls = 1, .flight = WORLD_FLIGHT_STORED },
	{ "lead, a record that slides", { WORD_lead }, .found = "miss", .calls = 1, .flight = WORLD_FLIGHT_STORED, .slides = true },
	{ "lead, alone", { WORD_lead }, .found = "miss", .calls = 1, .flight = WORLD_FLIGHT_PRIVATE, .private = true },
	{ "follow", { WORD_follow, WORD_head, WORD_bytes, WORD_bytes, WORD_bytes, WORD_whole }, .found = "collapsed" },
	{ "follow, fail", { WORD_follow, WORD_failed, WORD_nothing }, .found = "none", .outcome = "upstream_timeout" },
	{ "follow, fail, stale", { WORD_follow, WORD_failed, WORD_stale }, .found = "stale_error" },
	{ "follow, head, fail", { WORD_follow, WORD_head, WORD_failed }, .found = "collapsed", .outcome = "upstream_broken", .when = AS_IT_COMES },
	{ "follow, head, fail, stale", { WORD_follow, WORD_head, WORD_failed, WORD_stale }, .found = "stale_error", .when = WHOLE },
	{ "follow, bytes, fail", { WORD_follow, WORD_head, WORD_bytes, WORD_failed }, .found = "collapsed", .outcome = "upstream_broken", .when = AS_IT_COMES },
	{ "follow, bytes, fail", { WORD_follow, WORD_head, WORD_bytes, WORD_failed, WORD_nothing }, .found = "none", .outcome = "upstream_timeout", .when = WHOLE },
	{ "follow, lead", { WORD_follow, WORD_lead }, .found = "miss", .calls = 1, .flight = WORLD_FLIGHT_STORED },
	{ "follow, follow", { WORD_follow, WORD_follow, WORD_head, WORD_bytes, WORD_bytes, WORD_bytes, WORD_whole }, .found = "collapsed" },
	{ "follow, hit", { WORD_follow, WORD_hit }, .found = "hit" },
	{ "follow, refresh", { WORD_follow, WORD_refresh }, .found = "stale", .refresh = "ok", .calls = 1, .flight = WORLD_FLIGHT_STORED },
	{ "follow, refresh, poisoned", { WORD_follow, WORD_bad_refresh }, .found = "miss", .calls = 1, .flight = WORLD_FLIGHT_STORED },
	{ "follow, pass", { WORD_follow, WORD_pass }, .found = "pass", .calls = 1 },
	{ "follow, denied", { WORD_follow, WORD_denied }, .found = "collapsed", .outcome = "quota_unavailable" },
	{ "follow, poisoned", { WORD_follow, WORD_bad_head }, .found = "pass", .calls = 1, .when = AS_IT_COMES },
	{ "follow, poisoned", { WORD_follow, WORD_bad_head, WORD_whole }, .found = "pass", .calls = 1, .when = WHOLE },
	{ "pass", { WORD_pass }, .found = "pass", .calls = 1 },
	{ "nothing", { WORD_nothing }, .found = "none", .outcome = "not_stored", .only_stored = true },
	{ "denied", { WORD_denied }, .found = "collapsed", .outcome = "quota_unavailable" },
	{ "poisoned", { WORD_bad_hit }, .found = "pass", .calls = 1 },
	{ "refresh, poisoned", { WORD_bad_refresh }, .found = "miss", .calls = 1, .flight = WORLD_FLIGHT_STORED },
	{ "too short", { WORD_short_hit }, .found = "pass", .calls = 1 },
	{ "lead, stale behind", { WORD_stale_behind, WORD_stale }, .found = "miss", .calls = 1, .flight = WORLD_FLIGHT_STORED },
	{ "rescued", { WORD_stale_behind, WORD_stale }, 529, .found = "stale_error", .calls = 1, .flight = WORLD_FLIGHT_BROKEN },
	{ "not rescued", { WORD_stale_behind, WORD_nothing }, 529, .found = "none", .outcome = "upstream_error", .calls = 1, .flight = WORLD_FLIGHT_BROKEN },
	{ "rescued by poison", { WORD_stale_behind, WORD_bad_hit }, 529, .found = "none", .outcome = "upstream_error", .calls = 1, .flight = WORLD_FLIGHT_BROKEN },
	{ "local", { WORD_lead }, .found = "local", .local = true },
};
/* clang-format on */

static struct world_scenario scenario_of(const struct play *play, const struct world_scenario *shape, char name[100])
{
	struct world_scenario s = *shape;

	snprintf(name, 100, "%s, %s", play->name, shape->marked ? "stream" : shape->always ? "http" : "plain");
	s.name = name;
	memcpy(s.words, play->words, sizeof(s.words));
	s.note = SLICE("upstream_timeout");
	s.local = play->local;
	s.slides = play->slides;
	s.private = play->private;
	s.cache_control = play->only_stored ? "only-if-cached" : NULL;
	if (play->status != 0) {
		s.status = play->status;
		s.without = NULL;
		s.tokens = 0;
		s.marked = false;
	}
	return s;
}

/* ---- what it must come to --------------------------------------------------------------------------------------------------- */

struct run {
	const struct play *play;
	const struct world_scenario *s;
};

static const char *in_peace(const struct play *play)
{
	return play->outcome != NULL ? play->outcome : "ok";
}

static bool is_rescuable(const struct play *play)
{
	return play->words[0] == WORD_stale_behind;
}

/* It was told to ask the upstream itself. */
static const char *when_leading(const struct run *run)
{
	return run->s->status < 400 ? "ok" : "upstream_error";
}

static const char *unavailable(const struct run *run, const struct world_outcome *o)
{
	if (run->play->only_stored)
		return "not_stored";
	if (o->joins == 1)
		return when_leading(run);
	return is_rescuable(run->play) ? "upstream_error" : "upstream_timeout"; /* it asked again, because of that */
}

static const char *lost(const struct run *run, const struct world_outcome *o)
{
	return o->took ? "upstream_broken" : when_leading(run);
}

/* An upstream's or a model's limits have refused, not the tenant's. */
static bool is_of_line(enum world_fault fault)
{
	return fault == WORLD_full || fault == WORLD_late;
}

static const char *expected_outcome(const struct run *run, enum world_fault fault, const struct world_outcome *o)
{
	if (fault == WORLD_none || o->hit_twin)
		return in_peace(run->play);
	if (fault == WORLD_lookup_unavailable)
		return unavailable(run, o);
	if (fault == WORLD_flight_lost)
		return lost(run, o);
	if (run->play->refresh == NULL && torture_is_told(run->s, fault, o))
		return "ok";
	if (is_rescuable(run->play) && (torture_is_upstreams(fault) || is_of_line(fault)) && o->joins == 2 &&
	    run->play->words[1] == WORD_stale)
		return "ok";
	return torture_outcome(fault);
}

static const char *expected_refresh(const struct run *run, enum world_fault fault, const struct world_outcome *o)
{
	if (o->refresh[0] == '\0')
		return "";
	if (torture_is_told(run->s, fault, o))
		return "ok";
	if (o->hit_twin || (fault == WORLD_drain && strcmp(o->refresh, "ok") != 0))
		return torture_outcome(fault);
	return "ok";
}

static void check_names(const struct run *run, enum world_fault fault, const struct world_outcome *o)
{
	const char *outcome = expected_outcome(run, fault, o), *refresh = expected_refresh(run, fault, o);
	const char *order = world_order_name(run->s->order);

	if (strcmp(o->outcome, outcome) != 0)
		fail_msg("%s, %s first, %s at step %d: outcome %s, not %s", run->s->name, order,
			 world_fault_name(fault), o->fault_step, o->outcome, outcome);
	if (strcmp(o->refresh, refresh) != 0)
		fail_msg("%s, %s first, %s at step %d: refresh %s, not %s", run->s->name, order,
			 world_fault_name(fault), o->fault_step, o->refresh, refresh);
}

/* Whoever leads and fails tells it as it is; what is nobody's fault leaves the flight to another. */
static enum world_flight expected_flight(const struct run *run, enum world_fault fault, const struct world_outcome *o)
{
	if (torture_is_told(run->s, fault, o))
		return WORLD_FLIGHT_STORED;
	if (is_of_line(fault) && o->joins == 2) /* it looked for something stale */
		return WORLD_FLIGHT_BROKEN;
	if (fault == WORLD_denied || fault == WORLD_never || fault == WORLD_unavailable || is_of_line(fault))
		return WORLD_FLIGHT_REFUSED;
	return torture_is_upstreams(fault) ? WORLD_FLIGHT_BROKEN : WORLD_FLIGHT_LEFT;
}

static void check_flight(const struct run *run, enum world_fault fault, const struct world_outcome *o)
{
	enum world_flight flight = run->play->flight;

	if (fault != WORLD_none && !o->hit_twin && run->play->refresh != NULL)
		return; /* the twin's flight goes on */
	if (fault != WORLD_none) {
		if (flight != WORLD_FLIGHT_STORED || o->flight == WORLD_FLIGHT_NONE ||
		    fault >= WORLD_lookup_unavailable)
			return;
		flight = expected_flight(run, fault, o);
	}
	if (o->flight != flight)
		fail_msg("%s, %s first, %s at step %d: the flight ended as %d, not %d", run->s->name,
			 world_order_name(run->s->order), world_fault_name(fault), o->fault_step, o->flight, flight);
}

/* In peace; with a fault nobody pays for what was never sent. */
static void check_payment(const struct run *run, enum world_fault fault, const struct world_outcome *o)
{
	bool calls = run->play->calls > 0 && run->play->refresh == NULL, given = strcmp(o->outcome, "ok") == 0;

	if (fault != WORLD_none) {
		if (torture_spares_all(fault) && (o->tokens != 0 || (o->leased && !o->never_sent)) &&
		    (o->hit_twin || run->play->refresh == NULL))
			fail_msg("%s, %s at step %d: charged %lld", run->s->name, world_fault_name(fault),
				 o->fault_step, (long long)o->tokens);
		return;
	}
	assert_int_equal(o->calls, run->play->calls);
	assert_int_equal(o->tokens, run->play->calls > 0 ? run->s->tokens : 0);
	if (o->counted != (calls || (run->s->counts_hits && (given || o->took))))
		fail_msg("%s: %d requests of the tenant counted", run->s->name, o->counted);
	if (!run->s->counts_hits)
		assert_int_equal(o->leases, run->play->calls);
}

/* What is stored tells no limits; a refusal by one does. And each tells where it comes from. */
static void check_fields(const struct run *run, enum world_fault fault, const struct world_outcome *o)
{
	const struct play *play = run->play;

	if (fault == WORLD_denied && !o->hit_twin)
		assert_true(o->tells_limits);
	if (fault != WORLD_none)
		return;
	if (strcmp(o->found, "hit") == 0 || strcmp(o->found, "stale") == 0 || strcmp(o->found, "local") == 0) {
		assert_false(o->tells_limits);
		assert_non_null(strstr(o->cache, "sluice; hit; ttl="));
	} else if (strcmp(o->found, "stale_error") == 0) {
		assert_string_equal(o->cache, play->status != 0 ? "sluice; fwd=stale; fwd-status=529; detail=SIE"
								: "sluice; fwd=stale; detail=SIE");
	} else if (strcmp(o->found, "collapsed") == 0 && o->took) {
		assert_string_equal(o->cache, "sluice; fwd=uri-miss; collapsed");
	} else if (play->flight == WORLD_FLIGHT_STORED) {
		assert_string_equal(o->cache, "sluice; fwd=uri-miss; stored");
	}
}

static void judge(const void *arg, enum world_fault fault, const struct world_outcome *o)
{
	const struct run *run = arg;

	check_names(run, fault, o);
	check_flight(run, fault, o);
	check_payment(run, fault, o);
	check_fields(run, fault, o);
	if (fault == WORLD_none)
		assert_string_equal(o->found, run->play->found);
	if (fault == WORLD_none && run->play->refresh != NULL)
		assert_string_equal(o->refresh, run->play->refresh);
}

/* ---- the tests ----------------------------------------------------------------------------------------------------------------- */

/* In each order; where hits count; and with a client who is slow. */
static void torture_play(const struct play *play, const struct world_scenario *shape, int came[WORLD_FAULT_COUNT])
{
	char name[100];
	struct world_scenario s = scenario_of(play, shape, name);
	const struct run run = { play, &s };

	for (int variant = 0; variant < 2 * ORDER_COUNT; variant++) {
		s.order = (enum world_order)(variant / 2);
		s.counts_hits = variant % 2 == 1;
		s.waits = variant % 2; /* it stands in a line first, where it makes a call */
		s.slow = variant % 2 == 1 && shape->marked;
		torture(&s, judge, &run, came);
	}
}

static void test_each_verdict_with_each_fault(void **state)
{
	static const enum world_fault none[] = { WORLD_no_ticket, WORLD_none };
	int came[WORLD_FAULT_COUNT] = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(plays); i++) {
		if (plays[i].when != AS_IT_COMES)
			torture_play(&plays[i], &plain, came);
		if (plays[i].when == WHOLE)
			continue;
		torture_play(&plays[i], &stream, came);
		torture_play(&plays[i], &page, came);
	}
	torture_report(came, none);
}

/* The client has left; who follows has not. */
static void judge_left(const void *arg, enum world_fault fault, const struct world_outcome *o)
{
	const struct run *run = arg;
	const struct world_scenario *s = run->s;
	enum world_flight whole = s->status == 200 ? WORLD_FLIGHT_STORED : WORLD_FLIGHT_DONE,
			  flight = s->private     ? WORLD_FLIGHT_PRIVATE
				   : o->joins > 1 ? WORLD_FLIGHT_BROKEN
						  : whole;

	if (!o->left)
		return;
	if (strcmp(o->outcome, torture_outcome(s->leaves)) != 0)
		fail_msg("%s, %s first, %s at step %d, %s at %d: outcome %s", s->name, world_order_name(s->order),
			 world_fault_name(s->leaves), s->leaves_at, world_fault_name(fault), o->fault_step, o->outcome);
	if (s->leaves == WORLD_deadline)
		assert_int_equal(o->status, 504);
	if (torture_is_upstreams(fault) && o->joins == 1 && !torture_is_told(s, fault, o) && !s->private)
		assert_int_equal(o->flight, WORLD_FLIGHT_BROKEN); /* and not left: those who follow fail with it */
	if (fault != WORLD_none || o->flight == WORLD_FLIGHT_NONE)
		return;
	if (s->words[1] == WORD_alone && o->flight == WORLD_FLIGHT_ALONE)
		return;
	if (s->words[0] == WORD_follow && o->flight == WORLD_FLIGHT_LEFT && o->calls == 0)
		return; /* it came to lead while it waited for a quota: somebody else does */
	if (o->flight != flight)
		fail_msg("%s, %s first, %s at step %d: the flight ended as %d", s->name, world_order_name(s->order),
			 world_fault_name(s->leaves), s->leaves_at, o->flight);
	if (!s->private)
		assert_int_equal(o->tokens, s->tokens);
	else if (!o->answered || s->leaves == WORLD_deadline)
		assert_int_equal(o->pieces, 0); /* nobody wants it any more */
}

/* At each step, and then each fault. */
static void torture_left(const struct play *play, const struct world_scenario *shape, enum world_word then, int came[])
{
	static const enum world_fault ways[] = { WORLD_client_gone, WORLD_deadline };
	char name[100];
	struct world_scenario s = scenario_of(play, shape, name);
	const struct run run = { play, &s };
	struct world_outcome o = { .left = true };

	s.others = true;
	if (s.words[1] == WORD_end)
		s.words[1] = then;
	for (int variant = 0; variant < (int)ARRAY_LENGTH(ways) * ORDER_COUNT; variant++, o.left = true) {
		s.leaves = ways[variant % (int)ARRAY_LENGTH(ways)];
		s.order = (enum world_order)(variant / (int)ARRAY_LENGTH(ways));
		s.counts_hits = s.slow = s.order != ORDER_call;
		for (s.leaves_at = 0; o.left; s.leaves_at++) {
			world_run(&s, WORLD_none, 0, &o);
			torture(&s, judge_left, &run, came);
		}
		assert_true(s.leaves_at > 2);
	}
}

static void test_who_leaves_while_others_follow(void **state)
{
	int came[WORLD_FAULT_COUNT] = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(plays); i++) {
		if (plays[i].flight == WORLD_FLIGHT_NONE || plays[i].refresh != NULL)
			continue;
		torture_left(&plays[i], &plain, WORD_end, came);
		torture_left(&plays[i], &stream, WORD_end, came);
		torture_left(&plays[i], &stream, WORD_alone, came);
	}
	assert_true(came[WORLD_truncated] > 100 && came[WORLD_lease_lost] > 100);
}

/* What an answer forbids to share is shared with nobody, and who went on for others alone stops. */
static void test_a_private_answer(void **state)
{
	char name[100];
	struct world_scenario s = scenario_of(&(struct play){ .name = "private", .words = { WORD_lead } }, &page, name);
	struct world_outcome o;

	(void)state;
	s.others = true;
	s.answer_control = "private, max-age=60";
	world_run(&s, WORLD_none, 0, &o);
	assert_string_equal(o.outcome, "ok");
	assert_int_equal(o.flight, WORLD_FLIGHT_PRIVATE);
	s.leaves = WORLD_client_gone;
	s.leaves_at = 2; /* it waits for the upstream's head */
	world_run(&s, WORLD_none, 0, &o);
	assert_true(o.left && o.calls == 1 && o.pieces == 0);
	assert_int_equal(o.flight, WORLD_FLIGHT_PRIVATE);
}

/* Where nothing can be stored a flight is whole all the same, and nobody is told of a store. */
static void test_a_full_store(void **state)
{
	char name[100];
	struct world_scenario s = scenario_of(&(struct play){ .name = "full", .words = { WORD_lead } }, &stream, name);
	struct world_outcome o;

	(void)state;
	s.full = true;
	world_run(&s, WORLD_none, 0, &o);
	assert_string_equal(o.outcome, "ok");
	assert_int_equal(o.flight, WORLD_FLIGHT_DONE);
	assert_string_equal(o.cache, "sluice; fwd=uri-miss");
}

/* Who follows a leader that a quota refuses is told what the leader was. */
static void test_a_denial_is_passed_on(void **state)
{
	char name[100];
	struct world_scenario s = scenario_of(&(struct play){ .name = "denied", .words = { WORD_lead } }, &plain, name);
	struct world_outcome leader, follower;

	(void)state;
	world_run(&s, WORLD_denied, 0, &leader);
	assert_true(leader.fault_came && leader.flight == WORLD_FLIGHT_REFUSED && leader.note_length > 0);
	s.words[0] = WORD_denied;
	s.note = slice_make(leader.note, leader.note_length);
	world_run(&s, WORLD_none, 0, &follower);
	assert_string_equal(follower.outcome, "rate_limited");
	assert_int_equal(follower.status, leader.status);
	assert_int_equal(follower.calls, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_verdict_with_each_fault),
		cmocka_unit_test(test_who_leaves_while_others_follow),
		cmocka_unit_test(test_a_private_answer),
		cmocka_unit_test(test_a_full_store),
		cmocka_unit_test(test_a_denial_is_passed_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
