#include "lib/retry.h"

__extension__ typedef unsigned __int128 wide; /* a delay times what is random passes 2^64 */

enum { WHOLE = 10000 }; /* parts of one call */

const char *retry_class_name(enum retry_class class)
{
	static const char *const names[] = {
		[RETRY_NEVER] = "never",   [RETRY_UNSENT] = "unsent",   [RETRY_BUSY] = "busy",
		[RETRY_UNSURE] = "unsure", [RETRY_LIMITED] = "limited", [RETRY_EXHAUSTED] = "exhausted",
	};
	_Static_assert(ARRAY_LENGTH(names) == RETRY_CLASSES, "a class has no name");

	CHECK(class < RETRY_CLASSES);
	return names[class];
}

/* first · 2^(again - 1), at most `cap`, without ever making a number that is larger than it. */
static int64_t ceiling_of(int64_t first, unsigned again, int64_t cap)
{
	int64_t ceiling = first < cap ? first : cap;

	while (again > 1 && ceiling > 0 && ceiling < cap) {
		ceiling = ceiling > cap / 2 ? cap : ceiling * 2;
		again--;
	}
	return ceiling;
}

/* 0 to `ceiling`, both included; each as likely as 64 random bits can make it. */
static int64_t jitter(int64_t ceiling, uint64_t random)
{
	return (int64_t)(((wide)random * ((uint64_t)ceiling + 1)) >> 64);
}

static int64_t ceiling_for(const struct retry_policy *policy, enum retry_class class, unsigned again, bool elsewhere)
{
	switch (class) {
	case RETRY_BUSY:
	case RETRY_UNSURE:
		return elsewhere ? policy->timeout_base : ceiling_of(policy->timeout_base, again, policy->cap);
	case RETRY_LIMITED:
		return elsewhere ? 0 : ceiling_of(policy->base, again, policy->cap);
	case RETRY_NEVER:
	case RETRY_UNSENT:
	case RETRY_EXHAUSTED:
	case RETRY_CLASSES:
		break;
	}
	return 0;
}

int64_t retry_wait(const struct retry_policy *policy, int64_t retry_after, uint64_t random)
{
	int64_t moment;

	CHECK(policy->cap >= 0 && policy->timeout_base >= 0);
	if (retry_after <= 0)
		return 0;
	moment = jitter(policy->timeout_base < policy->cap ? policy->timeout_base : policy->cap, random);
	return retry_after < INT64_MAX - moment ? retry_after + moment : INT64_MAX;
}

int64_t retry_delay(const struct retry_policy *policy, enum retry_class class, unsigned again, int64_t retry_after,
		    bool elsewhere, uint64_t random)
{
	CHECK(class < RETRY_CLASSES && policy->base >= 0 && policy->cap >= 0 && policy->timeout_base >= 0);
	int64_t delay = jitter(ceiling_for(policy, class, again, elsewhere), random), asked;

	/* Who asked for time was the one that failed: another one is not spared by waiting. */
	if (elsewhere)
		return delay;
	asked = retry_wait(policy, retry_after, random);
	return asked > delay ? asked : delay;
}

void retry_budget_earn(struct retry_budget *budget, const struct retry_policy *policy)
{
	const int64_t most = (int64_t)RETRY_BUDGET_MOST * WHOLE;

	CHECK(policy->budget >= 0);
	budget->held = policy->budget < most - budget->held ? budget->held + policy->budget : most;
}

bool retry_budget_spend(struct retry_budget *budget)
{
	if (budget->held < WHOLE)
		return false;
	budget->held -= WHOLE;
	return true;
}
