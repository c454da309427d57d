#include "control.h"

#include <errno.h>
#include <string.h>

#include "json.h"
#include "lib/buf.h"
#include "lib/mem.h"

static int refuse(struct buf *out, int status, const char *why, struct slice detail)
{
	buf_append(out, SLICE("{\"error\":"));
	buf_append_json(out, slice_of(why));
	buf_append(out, SLICE(",\"found\":"));
	buf_append_json(out, detail);
	buf_append(out, SLICE("}\n"));
	return status;
}

static int64_t integer(struct slice object, const char *key, int64_t otherwise)
{
	double number;
	return json_number(json_get(object, key), &number) && number >= 0 && number < 1e15 ? (int64_t)number
											   : otherwise;
}

static void set_limits(struct sim *sim, struct slice limits)
{
	sim->rates = (struct limits_rates){ integer(limits, "rpm", 0), integer(limits, "tpm", 0),
					    integer(limits, "concurrency", 0) };
	limits_set(sim->limits, sim->rates);
	limits_forget(sim->limits);
}

static void replace(char **text, struct slice value)
{
	mem_free(*text);
	*text = mem_text(value);
}

static bool is_known(struct slice key)
{
	static const char *const keys[] = { "clear", "limits", "key", "models", "set", "model", "times", "down" };
	for (size_t i = 0; i < ARRAY_LENGTH(keys); i++)
		if (slice_equal(key, slice_of(keys[i])))
			return true;
	return false;
}

/* One trouble ends before another begins. */
static bool become(struct sim *sim, enum sim_down down)
{
	if (sim->down == down)
		return true;
	wire_server_swallow(sim->server, false);
	if (!wire_server_refuse(sim->server, false))
		return false;
	sim->down = down;
	if (down == SIM_BLACKHOLE)
		wire_server_swallow(sim->server, true);
	return down != SIM_REFUSE || wire_server_refuse(sim->server, true);
}

static int set_down(struct sim *sim, struct slice value, struct buf *out)
{
	static const char *const names[] = { "", "blackhole", "refuse", "garbage" };
	int down = SIM_UP;
	if (json_is(value, '"')) {
		down = SIM_GARBAGE;
		while (down > SIM_UP && !slice_equal(json_string(value), slice_of(names[down])))
			down--;
		if (down == SIM_UP)
			return refuse(out, 400, "not understood", json_string(value));
	}
	if (down != SIM_UP && !sim->controlled)
		return refuse(out, 400, "`down` needs --control", SLICE_NONE);
	if (!become(sim, (enum sim_down)down))
		return refuse(out, 500, "the listener is lost", slice_of(strerror(errno)));
	return 200;
}

static int set(struct sim *sim, struct slice text, struct buf *out)
{
	struct slice body, key, value, bad;
	if (!json_parse(text, &body) || !json_is(body, '{'))
		return refuse(out, 400, "the body is no JSON object", slice_first(text, 100));
	for (size_t at = 0; json_member(body, &at, &key, &value);)
		if (!is_known(key))
			return refuse(out, 400, "unknown member", key);
	if (json_is_true(json_get(body, "clear"))) {
		rules_clear(sim->rules);
		if (set_down(sim, SLICE_NONE, out) != 200)
			return 500;
	}
	if (json_is(json_get(body, "limits"), '{'))
		set_limits(sim, json_get(body, "limits"));
	value = json_get(body, "key");
	if (json_is(value, '"')) {
		replace(&sim->key, json_string(value));
	} else if (value.len > 0) {
		mem_free(sim->key);
		sim->key = NULL;
	}
	if (json_is(json_get(body, "models"), '"'))
		replace(&sim->models, json_string(json_get(body, "models")));
	struct slice words = json_string(json_get(body, "set")), model = json_string(json_get(body, "model"));
	if (words.len > 0 &&
	    !rules_add(sim->rules, model.len > 0 ? model : SLICE("*"), words, integer(body, "times", 0), &bad))
		return refuse(out, 400, bad.len > 0 ? "not understood" : "too many rules", bad);
	value = json_get(body, "down");
	int status = value.len > 0 ? set_down(sim, value, out) : 200;
	if (status != 200)
		return status;
	buf_append(out, SLICE("{}\n"));
	return 200;
}

int control_answer(struct sim *sim, const struct wire_request *request, struct buf *out)
{
	struct slice page = slice_skip(request->path, sizeof("/__sim/") - 1);
	if (slice_equal(request->method, SLICE("POST"))) {
		if (slice_equal(page, SLICE("set")))
			return set(sim, request->body, out);
		if (slice_equal(page, SLICE("reset"))) {
			ledger_reset(sim->ledger);
			limits_forget(sim->limits);
			buf_append(out, SLICE("{}\n"));
			return 200;
		}
	} else if (slice_equal(page, SLICE("stats"))) {
		ledger_stats(sim->ledger, out);
		return 200;
	} else if (slice_equal(page, SLICE("arrivals"))) {
		ledger_arrivals(sim->ledger, out);
		return 200;
	} else if (slice_equal(page, SLICE("aborts"))) {
		ledger_aborts(sim->ledger, out);
		return 200;
	}
	return refuse(out, 404, "no such page", page);
}
