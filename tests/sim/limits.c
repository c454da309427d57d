#include "limits.h"

#include "lib/clock.h"
#include "lib/map.h"
#include "lib/mem.h"

#define WINDOW CLOCK_MINUTE

struct charge {
	int64_t at, requests, tokens;
};

/* The charges of the last minute, oldest first: charges[from .. to), in an array that is moved down when it is full. */
struct window {
	struct charge *charges;
	size_t from, to, capacity;
	int64_t requests, tokens;
};

struct limits {
	struct limits_rates rates;
	struct map *windows;
};

static void free_window(void *value)
{
	struct window *w = value;
	mem_free(w->charges);
	mem_free(w);
}

struct limits *limits_new(void)
{
	struct limits *l = mem_new(sizeof(*l));
	l->windows = map_new();
	return l;
}

void limits_free(struct limits **pointer)
{
	struct limits *l = *pointer;
	if (l == NULL)
		return;
	map_free(&l->windows, free_window);
	mem_free(l);
	*pointer = NULL;
}

void limits_set(struct limits *l, struct limits_rates rates)
{
	l->rates = rates;
}

void limits_forget(struct limits *l)
{
	map_free(&l->windows, free_window);
	l->windows = map_new();
}

static struct window *window_of(struct limits *l, struct slice model)
{
	struct window *w = map_get(l->windows, model);
	if (w == NULL) {
		w = mem_new(sizeof(*w));
		map_put(l->windows, model, w);
	}
	return w;
}

static void forget_old(struct window *w, int64_t now)
{
	while (w->from < w->to && w->charges[w->from].at <= now - WINDOW) {
		w->requests -= w->charges[w->from].requests;
		w->tokens -= w->charges[w->from].tokens;
		w->from++;
	}
}

static void add(struct window *w, struct charge charge)
{
	if (w->to == w->capacity && w->from > w->capacity / 2) {
		memmove(w->charges, w->charges + w->from, (w->to - w->from) * sizeof(*w->charges));
		w->to -= w->from;
		w->from = 0;
	}
	if (w->to == w->capacity) {
		w->capacity = w->capacity == 0 ? 64 : w->capacity * 2;
		w->charges = mem_resize(w->charges, w->capacity * sizeof(*w->charges));
	}
	w->charges[w->to++] = charge;
	w->requests += charge.requests;
	w->tokens += charge.tokens;
}

/* When enough of the oldest charges will have left. */
static int64_t wait_for(const struct window *w, int64_t now, int64_t requests, int64_t tokens)
{
	size_t at = w->from;
	while (at < w->to && (requests > 0 || tokens > 0)) {
		requests -= w->charges[at].requests;
		tokens -= w->charges[at].tokens;
		at++;
	}
	return at == w->from ? WINDOW : w->charges[at - 1].at + WINDOW - now;
}

struct limits_state limits_admit(struct limits *l, struct slice model, int64_t tokens, int64_t in_flight)
{
	struct limits_state state = { .rates = l->rates, .retry = -1 };
	if (l->rates.rpm == 0 && l->rates.tpm == 0 && l->rates.concurrency == 0)
		return state;
	struct window *w = window_of(l, model);
	int64_t now = clock_now();
	forget_old(w, now);
	if (l->rates.concurrency > 0 && in_flight > l->rates.concurrency)
		state.verdict = LIMITS_CONCURRENCY;
	else if (l->rates.rpm > 0 && w->requests + 1 > l->rates.rpm)
		state.verdict = LIMITS_RPM;
	else if (l->rates.tpm > 0 && w->tokens + tokens > l->rates.tpm)
		state.verdict = LIMITS_TPM;
	if (state.verdict == LIMITS_FINE)
		add(w, (struct charge){ now, 1, tokens });
	else if (state.verdict != LIMITS_CONCURRENCY)
		state.retry = wait_for(w, now, state.verdict == LIMITS_RPM ? w->requests + 1 - l->rates.rpm : 0,
				       state.verdict == LIMITS_TPM ? w->tokens + tokens - l->rates.tpm : 0);
	state.requests = w->requests;
	state.tokens = w->tokens;
	state.reset = w->from < w->to ? w->charges[w->to - 1].at + WINDOW - now : 0;
	return state;
}

void limits_charge(struct limits *l, struct slice model, int64_t tokens)
{
	if (l->rates.tpm == 0 || tokens == 0)
		return;
	add(window_of(l, model), (struct charge){ clock_now(), 0, tokens });
}
