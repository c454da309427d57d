#include "judge.h"

#include "control.h"
#include "echo.h"
#include "lib/clock.h"
#include "lib/text.h"
#include "models.h"
#include "refusal.h"

#define BODY_MAX (size_t)(512u << 20)

struct trial {
	struct sim *sim;
	const struct wire_request *request;
	struct route route;
	struct ask *ask;
	struct judgement *j;
};

static void refuse(struct trial *t, struct refusal_facts facts)
{
	const struct behaviour *b = &t->ask->behaviour;
	facts.method = t->route.method.len > 0 ? t->route.method : t->request->method;
	facts.path = t->request->path;
	if (facts.why >= REFUSAL_QUOTA_MINUTE && b->retry >= 0)
		facts.retry = facts.reset = b->retry;
	t->j->writer = NULL;
	t->j->streams = false;
	t->j->status = refusal_status(t->ask, &facts);
	t->j->type = t->ask->dialect == DIALECT_GEMINI ? "application/json; charset=UTF-8" : "application/json";
	buf_clear(&t->j->body);
	refusal_body(t->ask, &facts, &t->j->body);
	refusal_fields(t->ask, &facts, &t->j->fields);
}

static void refuse_simply(struct trial *t, enum refusal why)
{
	refuse(t, (struct refusal_facts){ .why = why, .retry = -1 });
}

/* What the caller's headers say of whose API it means, where the path does not. */
static enum dialect suggested(const struct wire_request *request)
{
	if (wire_field(request, "anthropic-version").len > 0)
		return DIALECT_ANTHROPIC;
	if (wire_field(request, "x-goog-api-key").len > 0 || route_parameter(request->query, SLICE("key")).len > 0)
		return DIALECT_GEMINI;
	return DIALECT_OPENAI;
}

static struct slice bearer(const struct wire_request *request)
{
	struct slice value = wire_field(request, "authorization");
	return slice_equal_nocase(slice_first(value, 7), SLICE("bearer ")) ? slice_trim(slice_skip(value, 7))
									   : SLICE_NONE;
}

static struct slice credential(const struct trial *t)
{
	const struct wire_request *request = t->request;
	struct slice key = SLICE_NONE;
	if (t->ask->dialect == DIALECT_GEMINI) {
		key = wire_field(request, "x-goog-api-key");
		if (key.len == 0)
			key = route_parameter(request->query, SLICE("key"));
	} else if (t->ask->dialect == DIALECT_ANTHROPIC) {
		key = wire_field(request, "x-api-key");
	}
	return key.len > 0 ? key : bearer(request);
}

static bool has_credential(struct trial *t)
{
	struct slice key = credential(t);
	if (key.len == 0) {
		refuse_simply(t, REFUSAL_NO_KEY);
		return false;
	}
	if (t->sim->key != NULL && !slice_equal(key, slice_of(t->sim->key))) {
		refuse(t, (struct refusal_facts){ .why = REFUSAL_BAD_KEY, .key = key, .retry = -1 });
		return false;
	}
	if (t->ask->dialect == DIALECT_ANTHROPIC && wire_field(t->request, "anthropic-version").len == 0) {
		refuse_simply(t, REFUSAL_NO_VERSION);
		return false;
	}
	return true;
}

static bool is_get(const struct wire_request *request)
{
	return slice_equal(request->method, SLICE("GET")) || slice_equal(request->method, SLICE("HEAD"));
}

static void answer_models(struct trial *t)
{
	struct judgement *j = t->j;
	ledger_other(t->sim->ledger);
	if (!has_credential(t))
		return;
	j->type = t->ask->dialect == DIALECT_GEMINI ? "application/json; charset=UTF-8" : "application/json";
	if (t->route.verb == VERB_MODELS)
		models_list(t->ask->dialect, &j->body);
	else if (models_know(t->ask->dialect, t->route.model, slice_of(t->sim->models)))
		models_one(t->ask->dialect, t->route.model, &j->body);
	else
		refuse_simply(t, REFUSAL_UNKNOWN_MODEL);
}

/* What the behaviour asks for. */
static void refuse_as_told(struct trial *t)
{
	const struct behaviour *b = &t->ask->behaviour;
	struct refusal_facts facts = { .why = REFUSAL_STATUS, .status = b->status, .retry = -1 };
	if (b->quota != QUOTA_NONE && b->status == 429) {
		facts.why = REFUSAL_QUOTA_MINUTE + (b->quota - QUOTA_MINUTE);
		facts.limit = facts.used = b->quota == QUOTA_DAY ? 250 : 10;
		facts.reset = b->quota == QUOTA_DAY ? CLOCK_DAY : CLOCK_MINUTE;
	}
	refuse(t, facts);
}

/* True when the provider's own limits let it pass. */
static bool within_limits(struct trial *t, const struct ledger_entry *entry)
{
	/* clang-format off */
	static const enum refusal refusals[] = { REFUSAL_STATUS, REFUSAL_RPM, REFUSAL_TPM, REFUSAL_CONCURRENCY };
	/* clang-format on */
	struct limits_state s =
		limits_admit(t->sim->limits, slice_of(t->ask->model), t->ask->input, ledger_in_flight(entry));
	t->j->limits = s;
	t->j->limited = true;
	if (s.verdict == LIMITS_FINE)
		return true;
	struct refusal_facts facts = { .why = refusals[s.verdict], .retry = s.retry };
	facts.limit = s.verdict == LIMITS_RPM   ? s.rates.rpm
		      : s.verdict == LIMITS_TPM ? s.rates.tpm
						: s.rates.concurrency;
	facts.used = s.verdict == LIMITS_TPM ? s.tokens : s.requests;
	refuse(t, facts);
	return false;
}

/* In the order in which the providers look: key, JSON, members, model, limits. */
static void answer_call(struct trial *t, enum ask_fault fault, const struct ledger_entry *entry)
{
	/* clang-format off */
	static const enum refusal faults[] = {
		[ASK_NOT_JSON] = REFUSAL_NOT_JSON, [ASK_NO_MODEL] = REFUSAL_NO_MODEL, [ASK_NO_MESSAGES] = REFUSAL_NO_MESSAGES,
		[ASK_NO_MAXIMUM] = REFUSAL_NO_MAXIMUM, [ASK_MODEL_TOO_LONG] = REFUSAL_UNKNOWN_MODEL,
	};
	/* clang-format on */
	struct judgement *j = t->j;
	if (!has_credential(t))
		return;
	if (t->request->too_large) {
		refuse_simply(t, REFUSAL_TOO_LARGE);
	} else if (fault != ASK_FINE) {
		refuse_simply(t, faults[fault]);
	} else if (!models_know(t->ask->dialect, slice_of(t->ask->model), slice_of(t->sim->models))) {
		refuse_simply(t, REFUSAL_UNKNOWN_MODEL);
	} else if (t->ask->behaviour.status >= 400) {
		refuse_as_told(t);
	} else if (within_limits(t, entry)) {
		j->writer = writer_of(t->ask);
		j->streams = t->ask->stream && j->writer->steps != NULL;
		j->type = j->writer->whole_type;
		if (!j->streams)
			j->writer->whole(t->ask, &j->body);
	}
}

/* The path's model may hold escapes. One that is too long is unknown. */
static bool take_model(struct ask *ask, struct slice model)
{
	size_t len = 0;
	bool fits = text_url_decode(model, ask->model, MODEL_MAX, &len);
	ask->model[fits ? len : 0] = '\0';
	return fits;
}

static void judge_call(struct trial *t, struct ledger_entry *entry)
{
	struct ask *ask = t->ask;
	bool named = take_model(ask, t->route.model);
	ask->stream = t->route.stream;
	ask->array = t->route.stream && !slice_equal(route_parameter(t->request->query, SLICE("alt")), SLICE("sse"));
	ask->vertex = t->route.vertex;
	enum ask_fault fault = ask_read(ask, t->request->body, wire_field(t->request, "x-sim"), t->sim->rules);
	struct slice id = wire_field(t->request, "x-sim-id");
	ledger_arrive(t->sim->ledger, entry, ask, t->request->path,
		      id.len > 0 ? id : wire_field(t->request, "x-request-id"));
	if (ask->behaviour.unique)
		ask->seed += entry->number * UINT64_C(0x9E3779B97F4A7C15);
	if (!slice_equal(t->request->method, SLICE("POST")))
		refuse_simply(t, REFUSAL_METHOD);
	else
		answer_call(t, named ? fault : ASK_MODEL_TOO_LONG, entry);
}

/* Echo and control know no dialect's behaviour but faults and delays may be wanted of an echo. */
static void judge_echo(struct trial *t)
{
	struct slice bad;
	rules_apply(t->sim->rules, SLICE("anything"), &t->ask->behaviour);
	bool understood = behaviour_apply(&t->ask->behaviour, wire_field(t->request, "x-sim"), &bad);
	rules_draw(t->sim->rules, &t->ask->behaviour);
	t->j->type = "application/json";
	t->j->status = !understood ? 400 : t->ask->behaviour.status > 0 ? t->ask->behaviour.status : 200;
	if (t->j->status >= 400 && t->ask->behaviour.retry >= 0)
		refusal_retry_fields(t->ask->behaviour.retry, false, &t->j->fields);
	echo_put(t->request, t->ask->behaviour.size, &t->j->body);
	memcpy(t->ask->nonce, t->ask->behaviour.nonce, sizeof(t->ask->nonce));
}

void judge(struct sim *sim, const struct wire_request *request, struct ask *ask, struct ledger_entry *entry,
	   struct judgement *j)
{
	struct trial t = { sim, request, route_of(request->path, suggested(request)), ask, j };
	*j = (struct judgement){ .status = 200, .type = "application/json" };
	buf_init(&j->body, BODY_MAX);
	buf_init(&j->fields, 4096);
	j->head_only = slice_equal(request->method, SLICE("HEAD"));
	*ask = (struct ask){
		.dialect = t.route.dialect, .verb = t.route.verb, .behaviour = sim->defaults, .choices = 1
	};
	ledger_body(sim->ledger, request->body.len);
	if (t.route.verb == VERB_CONTROL) {
		ask->behaviour = behaviour_default();
		j->status = control_answer(sim, request, &j->body);
	} else if (t.route.verb == VERB_ECHO) {
		ledger_other(sim->ledger);
		judge_echo(&t);
	} else if (t.route.verb == VERB_NONE) {
		ledger_other(sim->ledger);
		refuse_simply(&t, REFUSAL_NO_PATH);
	} else if (t.route.get && is_get(request)) {
		answer_models(&t);
	} else if (t.route.get) {
		ledger_other(sim->ledger);
		refuse_simply(&t, REFUSAL_METHOD);
	} else {
		judge_call(&t, entry);
	}
}

void judgement_free(struct judgement *j)
{
	buf_free(&j->body);
	buf_free(&j->fields);
}
