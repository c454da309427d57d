/* lib/flight by chance: workers of a fleet, a few keys, and random joins, words, ends, leaving, deaths, partitions, lost answers, a Redis that loses all or
 * stands still. Whatever happens:
 *
 *   no seat ever gets bytes of two answers, or one out of place    every flight writes what nobody else does: its number, and how far it is
 *   what is called whole is whole                                  its last bytes say so
 *   every seat is told, and ends, within a lease and what Redis may take after the last fault
 *   at last no memory is held, no key is without expiry            flight_rig_end
 *
 * SLUICE_TEST_SEED repeats a run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "lib/flight_internal.h"
#include "tests/support/flight_rig.h"

enum { SEATS = 40, KEYS = 3, UNIT = 16, MOST_UNITS = 200, STEPS = 6000 };

static struct flight_rig rig;
static unsigned seed, flights;
static unsigned era;    /* each has keys of its own: one that cannot be shared rests for seconds */
static int64_t longest; /* wait of a seat in quiet times */

/* What a seat does when it leads. */
static struct place {
	struct rig_seat seat;
	unsigned flight, units, wanted; /* of who leads: its number, what it has written, what it will */
	bool orphan, begun;
	int64_t since; /* when it was seated, or the last fault was over, or it was told, whichever is the latest */
} places[SEATS];

static unsigned roll(unsigned sides)
{
	return (unsigned)rand() % sides;
}

static bool chance(unsigned percent)
{
	return roll(100) < percent;
}

/* ---- what is written, and what must be read ------------------------------------------------------------------------------------ */

/* "flight:unit     |", UNIT bytes; the last unit of a flight ends in "." */
static void write_unit(struct place *p)
{
	char unit[UNIT + 1];

	snprintf(unit, sizeof(unit), "%07u:%07u%c", p->flight % 10000000, p->units % 10000000,
		 p->units + 1 == p->wanted ? '.' : '|');
	p->units++;
	flight_rig_write(&p->seat, unit);
}

/* All units of one flight, from the first on, without a gap. `whole`: to the last. */
static void check_bytes(const struct rig_seat *s, bool whole)
{
	struct slice rest = buf_slice(&s->got);
	unsigned flight = 0, unit, mine;
	char text[UNIT + 1], last = '-';

	assert_int_equal(rest.len % UNIT, 0); /* a unit is written at once, and taken so */
	for (unsigned expected = 0; rest.len > 0; expected++, rest = slice_skip(rest, UNIT)) {
		memcpy(text, rest.data, UNIT);
		text[UNIT] = '\0';
		assert_int_equal(sscanf(text, "%7u:%7u%c", &mine, &unit, &last), 3);
		flight = expected == 0 ? mine : flight;
		assert_int_equal(mine, flight);
		assert_int_equal(unit, expected);
		assert_true(last == '|' || last == '.');
	}
	if ((s->has_head || s->has_answer) && flight != 0)
		assert_int_equal(strtoul(s->head, NULL, 10), flight); /* the head is of the same one */
	if (whole)
		assert_int_equal(last, '.');
}

/* ---- seats ---------------------------------------------------------------------------------------------------------------------- */

/* And knows it. */
static bool is_leading(const struct place *p)
{
	return p->seat.seat != NULL && p->flight != 0 && flight_leads(p->seat.seat);
}

static void vacate(struct place *p)
{
	const struct rig_seat *s = &p->seat;

	if (s->seat != NULL && s->told > 0 && !is_leading(p))
		check_bytes(s, s->has_answer || (s->verdict == FLIGHT_FOLLOW && s->state == FLIGHT_WHOLE &&
						 flight_unread(s->seat).len == 0));
	flight_rig_leave(&p->seat);
	*p = (struct place){ 0 };
}

static void on_told(struct rig_seat *s)
{
	struct place *p = s->arg;

	p->since = clock_now();
	if (s->verdict != FLIGHT_LEAD && s->verdict != FLIGHT_REFRESH)
		return;
	assert_true(!s->has_head && (s->got.len == 0 || s->has_answer)); /* who has taken of another leads no more */
	p->flight = ++flights;
	p->wanted = 1 + roll(chance(90) ? MOST_UNITS / 2 : MOST_UNITS);
}

static void on_more(struct rig_seat *s)
{
	struct place *p = s->arg;

	p->since = clock_now();
}

static void occupy(struct place *p)
{
	struct flight_ask ask = flight_rig_ask(1 + (era * KEYS + roll(KEYS)) % 250);
	struct rig_worker *w = &rig.worker[roll((unsigned)rig.workers)];

	if (w->flights == NULL)
		return;
	ask.may_read = chance(70);
	ask.may_be_late = ask.may_read;
	ask.may_follow = chance(95);
	ask.may_lead = chance(95);
	ask.upstream_failed = chance(3);
	ask.group = roll(3);
	ask.oldest = chance(20) ? (int64_t)roll(50) * CLOCK_MILLISECOND : -1;
	p->seat.on_told = on_told;
	p->seat.on_more = on_more;
	p->seat.arg = p;
	p->seat.slow = chance(20);
	p->since = clock_now();
	flight_rig_join(&p->seat, w, &ask);
}

static void end_flight(struct place *p)
{
	static const enum flight_outcome outcomes[] = { FLIGHT_BROKEN, FLIGHT_REFUSED, FLIGHT_PRIVATE, FLIGHT_REFUSED };

	if (p->units == p->wanted)
		flight_end(p->seat.seat, &(struct flight_end){ .outcome = FLIGHT_DONE,
							       .store = chance(70),
							       .fresh = chance(50) ? 20 * CLOCK_MILLISECOND : 0,
							       .stale = 60 * CLOCK_MILLISECOND,
							       .error = 200 * CLOCK_MILLISECOND });
	else
		flight_rig_fail(&p->seat, outcomes[roll(ARRAY_LENGTH(outcomes))], "note");
	vacate(p);
}

static void lead_on(struct place *p)
{
	char head[16];

	if (!p->begun && chance(95)) {
		snprintf(head, sizeof(head), "%u", p->flight);
		flight_begin(p->seat.seat, slice_of(head));
		p->begun = true;
	}
	for (unsigned i = roll(20); p->begun && i > 0 && p->units < p->wanted; i--)
		write_unit(p);
	if (!p->orphan && chance(5)) {
		p->orphan = true;
		if (!flight_orphan(p->seat.seat)) {
			vacate(p);
			return;
		}
	}
	if (p->begun ? p->units == p->wanted || chance(2) : chance(50))
		end_flight(p);
}

static void take_some(struct place *p)
{
	struct slice note;

	flight_rig_take(&p->seat, UNIT * roll(10));
	p->seat.state = flight_state(p->seat.seat, &note);
}

static bool is_done(const struct place *p)
{
	const struct rig_seat *s = &p->seat;

	if (s->seat == NULL || s->told == 0 || is_leading(p))
		return false;
	if (s->verdict != FLIGHT_FOLLOW)
		return true;
	return s->state == FLIGHT_FAILED || (s->state == FLIGHT_WHOLE && flight_unread(s->seat).len == 0);
}

static void move(struct place *p)
{
	if (is_done(p))
		vacate(p);
	else if (is_leading(p))
		lead_on(p);
	else if (p->seat.told > 0 && p->seat.verdict == FLIGHT_FOLLOW && p->seat.slow && p->seat.more > 0 && chance(50))
		take_some(p);
}

/* ---- faults --------------------------------------------------------------------------------------------------------------------- */

static void calm(struct rig_worker *w)
{
	if (w->flights == NULL)
		return;
	fault_proxy_tell(w->proxy, "drop-reply-every 0");
	fault_proxy_tell(w->proxy, "error-every 0");
	fault_proxy_tell(w->proxy, "stall off");
	fault_proxy_tell(w->proxy, "delay 0");
	w->deaf = false;
}

static void disturb(struct rig_worker *w)
{
	if (w->flights == NULL)
		return;
	switch (roll(7)) {
	case 0:
		fault_proxy_tell(w->proxy, "drop-reply-every %u", 2 + roll(10));
		break;
	case 1:
		fault_proxy_tell(w->proxy, "error-every %u ERR made up", 2 + roll(10));
		break;
	case 2:
		fault_proxy_tell(w->proxy, "stall on");
		break;
	case 3:
		fault_proxy_tell(w->proxy, "delay %u", roll(30));
		break;
	case 4:
		fault_proxy_tell(w->proxy, "reset");
		break;
	case 5:
		w->deaf = true;
		break;
	default:
		calm(w);
	}
}

/* As SIGKILL does: its seats are gone, and not a word of it gets out. */
static void kill_worker(struct rig_worker *w)
{
	flight_rig_cut_off(w);
	for (size_t i = 0; i < SEATS; i++)
		if (places[i].seat.worker == w)
			vacate(&places[i]);
	flight_rig_bury(w);
}

static void upset_redis(void)
{
	if (chance(50)) {
		redis_server_do(rig.server, "FLUSHALL");
		return;
	}
	redis_server_restart(rig.server);
}

static void purge(void)
{
	redis_server_do(rig.server, "EVAL %s 1 %s",
			"local t = redis.call('TIME') redis.call('HSET', KEYS[1], 't:acme', t[1] * 1000000 + t[2]) "
			"redis.call('PEXPIRE', KEYS[1], 60000)",
			FLIGHT_PURGED);
}

/* ---- a run ---------------------------------------------------------------------------------------------------------------------- */

/* Of one fence, one leads. */
static void check_leaders(void)
{
	for (size_t i = 0; i < SEATS; i++)
		for (size_t j = i + 1; j < SEATS; j++) {
			const struct flight_seat *a = places[i].seat.seat, *b = places[j].seat.seat;
			if (is_leading(&places[i]) && is_leading(&places[j]) && a->flight->fence != 0 &&
			    memcmp(a->flight->key, b->flight->key, ANSWER_KEY) == 0)
				assert_true(a->flight->fence != b->flight->fence);
		}
}

static void step(bool faulty)
{
	for (unsigned i = roll(12); i > 0; i--) {
		struct place *p = &places[roll(SEATS)];
		if (p->seat.seat == NULL)
			occupy(p);
		else if (chance(2))
			vacate(p);
		else
			move(p);
	}
	check_leaders();
	if (faulty && chance(3))
		disturb(&rig.worker[roll((unsigned)rig.workers)]);
	if (faulty && roll(1000) < 2)
		upset_redis();
	if (roll(1000) < 5)
		purge();
	flight_rig_turn(&rig);
}

/* A lease, and a second; and for how long this process stood still meanwhile, as far as it can tell. */
static void check_wait(const struct place *p, int64_t stood_still)
{
	int64_t waited = clock_now() - p->since - stood_still;

	longest = waited > longest ? waited : longest;
	if (waited > RIG_HASTY_LEASE + CLOCK_SECOND)
		fail_msg("a seat waits for %lld ms; told %u, verdict %u", (long long)waited / 1000, p->seat.told,
			 p->seat.verdict);
}

/* Nobody comes any more; who leads goes on; who waits is told. */
static void wind_up(void)
{
	int64_t stood_still = 0, before;
	size_t left;

	for (size_t i = 0; i < rig.workers; i++)
		calm(&rig.worker[i]);
	for (size_t i = 0; i < SEATS; i++)
		places[i].since = clock_now();
	do {
		left = 0;
		for (size_t i = 0; i < SEATS; i++) {
			if (places[i].seat.seat == NULL)
				continue;
			left++;
			if (!is_leading(&places[i]) && !is_done(&places[i]))
				check_wait(&places[i], stood_still);
			move(&places[i]);
		}
		before = clock_now();
		flight_rig_turn(&rig);
		stood_still += clock_now() - before > 50 * CLOCK_MILLISECOND ? clock_now() - before : 0;
	} while (left > 0);
}

static void run(bool faulty)
{
	flight_rig_begin(&rig, &(struct flight_rig_options){ .workers = RIG_WORKERS,
							     .pace = RIG_HASTY,
							     .most = UNIT * MOST_UNITS / 2,
							     .ceiling = 200000,
							     .window = 20 * CLOCK_MILLISECOND,
							     .proxied = true });
	for (int i = 0; i < STEPS; i++) {
		era = (unsigned)i / 40;
		step(faulty);
		if (faulty && i == STEPS / 2)
			kill_worker(&rig.worker[3]);
	}
	wind_up();
	flight_rig_end(&rig);
	print_message("%u flights; %lld ms was the longest wait\n", flights, (long long)longest / 1000);
}

static void without_faults(void **state)
{
	(void)state;
	run(false);
}

static void with_faults(void **state)
{
	(void)state;
	run(true);
}

int main(void)
{
	seed = getenv("SLUICE_TEST_SEED") != NULL ? (unsigned)strtoul(getenv("SLUICE_TEST_SEED"), NULL, 10)
						  : (unsigned)time(NULL);
	printf("seed %u\n", seed);
	srand(seed);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_faults),
		cmocka_unit_test(with_faults),
	};
	return cmocka_run_group_tests_name("flight_random", tests, NULL, NULL);
}
