#include "rules.h"

#include <stdlib.h>

#include "lib/mem.h"

#define RULES_MAX 64

struct rule {
	char *model, *words;
	int64_t left; /* 0: for always */
};

struct rules {
	struct rule rules[RULES_MAX];
	size_t count;
	unsigned short state[3]; /* of erand48 */
};

struct rules *rules_new(void)
{
	struct rules *r = mem_new(sizeof(*r));
	rules_clear(r);
	return r;
}

void rules_free(struct rules **pointer)
{
	if (*pointer == NULL)
		return;
	rules_clear(*pointer);
	mem_free(*pointer);
	*pointer = NULL;
}

static void drop(struct rules *r, size_t at)
{
	mem_free(r->rules[at].model);
	mem_free(r->rules[at].words);
	r->count--;
	memmove(&r->rules[at], &r->rules[at + 1], (r->count - at) * sizeof(r->rules[0]));
}

void rules_clear(struct rules *r)
{
	while (r->count > 0)
		drop(r, r->count - 1);
	memcpy(r->state, (unsigned short[]){ 1, 2, 3 }, sizeof(r->state));
}

bool rules_add(struct rules *r, struct slice model, struct slice words, int64_t times, struct slice *bad)
{
	struct behaviour judged = behaviour_default();
	*bad = SLICE_NONE;
	if (!behaviour_apply(&judged, words, bad) || r->count == RULES_MAX)
		return false;
	r->rules[r->count++] = (struct rule){ mem_text(model), mem_text(words), times };
	return true;
}

static bool fits(const struct rule *rule, struct slice model)
{
	struct slice pattern = slice_of(rule->model);
	if (!slice_ends(pattern, SLICE("*")))
		return slice_equal(pattern, model);
	pattern.len--;
	return slice_starts(model, pattern);
}

void rules_apply(struct rules *r, struct slice model, struct behaviour *b)
{
	for (size_t i = 0; i < r->count;) {
		struct rule *rule = &r->rules[i];
		struct slice bad;
		if (fits(rule, model)) {
			CHECK(behaviour_apply(b, slice_of(rule->words), &bad));
			if (rule->left > 0 && --rule->left == 0) {
				drop(r, i);
				continue;
			}
		}
		i++;
	}
}

void rules_draw(struct rules *r, struct behaviour *b)
{
	if (b->chance >= 1.0 || erand48(r->state) < b->chance)
		return;
	b->status = 0;
	b->fault = FAULT_none;
}
