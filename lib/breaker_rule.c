#include "lib/breaker_rule.h"

const char *breaker_why_name(enum breaker_why why)
{
	static const char *const names[BREAKER_WHYS] = {
		"nothing",
		"errors",
		"slow",
		"unreachable",
		"failures in a row",
		"a probe failed",
		"the probes went well",
		"forced",
		"its time was over",
		"as Redis says",
	};
	CHECK(why < BREAKER_WHYS);
	return names[why];
}

/* ---- what is counted ---------------------------------------------------------- */

bool breaker_delta_any(const struct breaker_delta *delta)
{
	const struct breaker_counts *c = &delta->counts;
	return c->calls > 0 || c->failed > 0 || c->first_bytes > 0 || c->slow > 0;
}

void breaker_delta_note(struct breaker_delta *delta, enum breaker_result result, bool counted_as_success)
{
	if (!counted_as_success)
		delta->counts.calls++;
	if (result != BREAKER_SUCCESS) {
		delta->counts.failed++;
		delta->failures++;
	} else {
		delta->went_well = true;
		delta->failures = 0;
	}
	if (result == BREAKER_UNREACHABLE) {
		delta->unreachable++;
	} else {
		delta->reached = true;
		delta->unreachable = 0;
	}
}

/* One that has not come, but had no time to be slow, says nothing. */
void breaker_delta_first_byte(struct breaker_delta *delta, const struct breaker_rule *rule, int64_t took, bool came)
{
	bool slow = took > rule->slow;
	if (!came && !slow)
		return;
	delta->counts.first_bytes++;
	delta->counts.slow += slow;
}

/* ---- the window ----------------------------------------------------------------- */

static int64_t slot_of(const struct breaker_rule *rule, int64_t now)
{
	int64_t width = rule->window / BREAKER_SLICES;
	return now / (width < 1 ? 1 : width);
}

static void add_counts(struct breaker_counts *to, const struct breaker_counts *more)
{
	to->calls += more->calls;
	to->failed += more->failed;
	to->first_bytes += more->first_bytes;
	to->slow += more->slow;
}

struct breaker_counts breaker_judge_window(const struct breaker_judge *judge, const struct breaker_rule *rule,
					   int64_t now)
{
	struct breaker_counts sum = { 0 };
	int64_t slot = slot_of(rule, now);
	for (int i = 0; i < BREAKER_SLICES; i++)
		if (judge->slice[i].slot > slot - BREAKER_SLICES && judge->slice[i].slot <= slot)
			add_counts(&sum, &judge->slice[i].counts);
	return sum;
}

void breaker_judge_forget(struct breaker_judge *judge)
{
	memset(judge->slice, 0, sizeof(judge->slice));
	judge->unreachable = judge->failures = judge->last = 0;
}

static void forget_runs_if_old(struct breaker_judge *judge, const struct breaker_rule *rule, int64_t now)
{
	if (now - judge->last > rule->window)
		judge->unreachable = judge->failures = 0;
}

void breaker_judge_count(struct breaker_judge *judge, const struct breaker_rule *rule, int64_t now, int64_t epoch,
			 const struct breaker_delta *delta)
{
	int64_t slot = slot_of(rule, now);
	struct breaker_slice *slice = &judge->slice[slot % BREAKER_SLICES];
	bool is_of_now = epoch == 0 || judge->epoch == 0 || epoch == judge->epoch;
	if (judge->is_open || !is_of_now || !breaker_delta_any(delta))
		return;
	if (slice->slot != slot)
		*slice = (struct breaker_slice){ .slot = slot };
	add_counts(&slice->counts, &delta->counts);
	forget_runs_if_old(judge, rule, now);
	judge->unreachable = (delta->reached ? 0 : judge->unreachable) + delta->unreachable;
	judge->failures = (delta->went_well ? 0 : judge->failures) + delta->failures;
	judge->last = now;
}

/* ---- the states ------------------------------------------------------------------ */

enum breaker_state breaker_judge_state(const struct breaker_judge *judge, int64_t now)
{
	if (!judge->is_open)
		return BREAKER_CLOSED;
	return now < judge->until ? BREAKER_OPEN : BREAKER_HALF_OPEN;
}

static void begin_epoch(struct breaker_judge *judge, int64_t now)
{
	judge->epoch = judge->epoch + 1 > now ? judge->epoch + 1 : now;
}

static void close_it(struct breaker_judge *judge, int64_t now)
{
	begin_epoch(judge, now);
	judge->is_open = false;
	judge->until = judge->trips = judge->good = 0;
	breaker_judge_forget(judge);
}

static void open_it(struct breaker_judge *judge, const struct breaker_rule *rule, int64_t now)
{
	int64_t length = rule->open_for;
	for (int64_t i = 0; i < judge->trips && length < rule->open_most; i++)
		length *= 2;
	begin_epoch(judge, now);
	judge->is_open = true;
	judge->until = now + (length < rule->open_most ? length : rule->open_most);
	judge->trips++;
	judge->good = 0;
	breaker_judge_forget(judge);
}

/* Not as a quotient: nothing is rounded. */
static bool more_than(int64_t part, int64_t rate, int64_t whole)
{
	return rate > 0 && part * 10000 > rate * whole;
}

static enum breaker_why reason_to_open(struct breaker_judge *judge, const struct breaker_rule *rule)
{
	const struct breaker_counts *c = &judge->judged;
	judge->run = 0;
	if (c->calls >= rule->min_calls && more_than(c->failed, rule->error_rate, c->calls))
		return BREAKER_WHY_ERRORS;
	if (c->first_bytes >= rule->slow_min_calls && more_than(c->slow, rule->slow_rate, c->first_bytes))
		return BREAKER_WHY_SLOW;
	if (rule->unreachable > 0 && judge->unreachable >= rule->unreachable) {
		judge->run = judge->unreachable;
		return BREAKER_WHY_UNREACHABLE;
	}
	if (rule->failures > 0 && judge->failures >= rule->failures) {
		judge->run = judge->failures;
		return BREAKER_WHY_FAILURES;
	}
	return BREAKER_WHY_NOTHING;
}

/* Until when it is open lies too far away when the clock was set back, or the rule is a shorter one. */
static void heed_open_most(struct breaker_judge *judge, const struct breaker_rule *rule, int64_t now)
{
	if (judge->until > now + rule->open_most)
		judge->until = now + rule->open_most;
}

enum breaker_why breaker_judge_add(struct breaker_judge *judge, const struct breaker_rule *rule, int64_t now,
				   int64_t epoch, const struct breaker_delta *delta)
{
	heed_open_most(judge, rule, now);
	judge->judged = (struct breaker_counts){ 0 };
	judge->run = 0;
	if (judge->is_open)
		return BREAKER_WHY_NOTHING;
	breaker_judge_count(judge, rule, now, epoch, delta);
	forget_runs_if_old(judge, rule, now);
	judge->judged = breaker_judge_window(judge, rule, now);
	enum breaker_why why = judge->force == BREAKER_AUTO ? reason_to_open(judge, rule) : BREAKER_WHY_NOTHING;
	if (why != BREAKER_WHY_NOTHING)
		open_it(judge, rule, now);
	return why;
}

enum breaker_why breaker_judge_probed(struct breaker_judge *judge, const struct breaker_rule *rule, int64_t now,
				      int64_t epoch, bool well)
{
	heed_open_most(judge, rule, now);
	judge->judged = (struct breaker_counts){ 0 };
	judge->run = 0;
	if (breaker_judge_state(judge, now) != BREAKER_HALF_OPEN || judge->force != BREAKER_AUTO ||
	    epoch != judge->epoch)
		return BREAKER_WHY_NOTHING;
	if (!well) {
		open_it(judge, rule, now);
		return BREAKER_WHY_PROBE_FAILED;
	}
	if (++judge->good < rule->probes)
		return BREAKER_WHY_NOTHING;
	close_it(judge, now);
	return BREAKER_WHY_PROBES_WELL;
}

void breaker_judge_forced(struct breaker_judge *judge, int64_t now, enum breaker_force force)
{
	if (force == judge->force && judge->epoch > 0)
		return;
	if (force == BREAKER_FORCED_CLOSED)
		close_it(judge, now);
	else
		begin_epoch(judge, now);
	judge->force = force;
}
