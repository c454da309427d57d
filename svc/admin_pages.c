/* The paths of the admin plane: what visits the workers for each, and what writes its answer. */
#include "lib/clock.h"
#include "lib/log.h"
#include "svc/admin_internal.h"
#include "svc/flow.h"
#include "svc/metrics.h"

enum { ERROR_MOST = 128 * 1024 };         /* a thousand names of upstreams */
#define REFRESH_LEAST (10 * CLOCK_SECOND) /* between two looks at the quotas for /metrics */

/* ---- /metrics ------------------------------------------------------------------------------------------------------------ */

static void visit_metrics(struct worker *w, void *question)
{
	struct admin_question *q = question;
	struct http_stats stats;

	worker_gauge(w);
	flow_gauge(w);
	http_server_stats(w->http, &stats);
	metrics_set(w->metrics, METRIC_client_connections, NULL, stats.connections);
	metrics_merge(q->metrics, w->metrics);
}

void admin_keep_fullest(struct admin *a, const struct admin_quotas *quotas)
{
	admin_quotas_fullest(quotas, a->fullest);
	a->looked = clock_now();
}

static void refreshed(void *arg)
{
	struct admin *a = arg;

	CHECK(a->magic == ADMIN_MAGIC);
	admin_keep_fullest(a, a->refresh);
	admin_quotas_free(&a->refresh);
}

/* What is known is told at once; what it finds, the next scrape tells. */
static void refresh_quotas(struct admin *a)
{
	if (a->refresh == NULL && (a->looked == 0 || clock_now() - a->looked >= REFRESH_LEAST))
		a->refresh = admin_quotas_ask(a->server, a->loop, server_config(a->server), refreshed, a);
}

static void set_fullest(struct metrics *m, const struct admin *a)
{
	for (int s = 0; s < LIMITER_SCOPES; s++)
		for (int k = 0; k < LIMIT_COUNT; k++) {
			struct slice labels[2] = { slice_of(limiter_scope_name((enum limiter_scope)s)),
						   slice_of(limit_name((enum limit_kind)k)) };
			if (a->fullest[s][k] >= 0)
				metrics_set(m, METRIC_quota_used_ratio, labels, a->fullest[s][k]);
		}
}

static void write_metrics(struct admin_question *q)
{
	const struct worker_shared *shared = server_shared(q->admin->server);
	struct slice version = SLICE(SLUICE_VERSION);

	metrics_set(q->metrics, METRIC_request_body_bytes, NULL, (double)atomic_load(&shared->body_bytes));
	metrics_add(q->metrics, METRIC_log_dropped_total, NULL, (double)log_dropped(q->admin->log));
	metrics_set(q->metrics, METRIC_memory_bytes, NULL, (double)atomic_load(&shared->memory_used));
	metrics_set(q->metrics, METRIC_shedding, NULL, atomic_load(&shared->pressure));
	metrics_set(q->metrics, METRIC_ready, NULL, atomic_load(&shared->ready) ? 1 : 0);
	metrics_set(q->metrics, METRIC_build_info, &version, 1);
	set_fullest(q->metrics, q->admin);
	refresh_quotas(q->admin);
	metrics_write(q->metrics, &q->answer);
}

/* ---- the others ---------------------------------------------------------------------------------------------------------- */

static void visit_requests(struct worker *w, void *question)
{
	struct admin_question *q = question;

	if (q->answer.len == 0)
		buf_append(&q->answer, SLICE("{\"requests\":["));
	else if (w->requests_count > 0 && q->answer.data[q->answer.len - 1] != '[')
		buf_append_byte(&q->answer, ',');
	flow_write_requests(w, &q->answer);
}

static void write_requests(struct admin_question *q)
{
	buf_append(&q->answer, SLICE("]}\n"));
}

static void write_config(struct admin_question *q)
{
	config_write_json(q->config, &q->answer);
	buf_append_byte(&q->answer, '\n');
}

static void write_healthz(struct admin_question *q)
{
	buf_append(&q->answer, SLICE("ok\n"));
}

static void write_readyz(struct admin_question *q)
{
	const struct worker_shared *shared = server_shared(q->admin->server);
	bool ready = atomic_load(&shared->ready);

	q->status = ready ? 200 : 503;
	buf_append(&q->answer, ready                            ? SLICE("ok\n")
			       : atomic_load(&shared->draining) ? SLICE("draining\n")
								: SLICE("warming up\n"));
}

static void write_drain(struct admin_question *q)
{
	q->status = 202;
	buf_append(&q->answer, SLICE("{\"draining\":true}\n"));
	q->admin->drain(q->admin->drain_arg);
}

static void take_purge(struct admin_question *q)
{
	char memory[1024];
	struct buf error;

	buf_wrap(&error, memory, sizeof(memory), 0);
	q->purge = admin_purge_read(buf_slice(&q->body), q->config, &error);
	if (q->purge == NULL) {
		q->status = 400;
		admin_put_error(&q->answer, buf_slice(&error));
		return;
	}
	q->awaited++;
	admin_purge_start(q->purge, q->admin->server, q->admin->loop, admin_answer, q);
}

static void write_purge(struct admin_question *q)
{
	if (q->purge == NULL || admin_purge_write(q->purge, &q->answer))
		return;
	q->status = 503;
	admin_put_error(&q->answer, SLICE("Redis did not say that it is purged; it may be all the same. Ask again."));
}

static void visit_breakers(struct worker *w, void *question)
{
	struct admin_question *q = question;

	admin_breakers_look(q->breakers, w);
}

static void write_breakers(struct admin_question *q)
{
	admin_breakers_write(q->breakers, &q->answer);
}

static void take_force(struct admin_question *q)
{
	struct slice query, path = slice_cut(http_head_of(q->exchange)->target, '?', &query);
	struct buf error;

	buf_init(&error, ERROR_MOST);
	q->force = admin_force_read(admin_name_in(q->row, path), buf_slice(&q->body), q->config, &error, &q->status);
	if (q->force == NULL) {
		admin_put_error(&q->answer, buf_slice(&error));
	} else {
		q->awaited++;
		admin_force_start(q->force, q->admin->server, q->admin->loop, admin_answer, q);
	}
	buf_free(&error);
}

static void write_force(struct admin_question *q)
{
	if (q->force != NULL)
		admin_force_write(q->force, &q->answer, &q->status);
}

static void write_index(struct admin_question *q);

/* clang-format off */
static const struct admin_row rows[] = {
	{ { "/", 1 },             { "GET", 3 },  { "text/plain", 10 },              NULL,               NULL,       write_index,        false, { "this list", 9 } },
	{ { "/healthz", 8 },      { "GET", 3 },  { "text/plain", 10 },              NULL,               NULL,       write_healthz,      false, { "the process lives", 17 } },
	{ { "/readyz", 7 },       { "GET", 3 },  { "text/plain", 10 },              NULL,               NULL,       write_readyz,       false, { "it is warm, and takes requests", 30 } },
	{ { "/metrics", 8 },      { "GET", 3 },  { "text/plain; version=0.0.4", 25 }, visit_metrics,      NULL,       write_metrics,      false, { "for Prometheus", 14 } },
	{ { "/status", 7 },       { "GET", 3 },  { "application/json", 16 },        admin_visit_status, NULL,       admin_write_status, true,  { "pools, quotas with what is left, shared answers, Redis", 54 } },
	{ { "/requests", 9 },     { "GET", 3 },  { "application/json", 16 },        visit_requests,     NULL,       write_requests,     false, { "what is in flight, by stage and age", 35 } },
	{ { "/config", 7 },       { "GET", 3 },  { "application/json", 16 },        NULL,               NULL,       write_config,       false, { "what it runs with; secrets are left out", 39 } },
	{ { "/breakers", 9 },     { "GET", 3 },  { "application/json", 16 },        visit_breakers,     NULL,       write_breakers,     false, { "which endpoints are called: breakers, pauses, calls in flight", 61 } },
	{ { "/breakers/{upstream}", 20 }, { "POST", 4 }, { "application/json", 16 }, NULL,              take_force, write_force,        false, { "takes them by hand, in the whole fleet: {\"force\": \"open\", \"closed\" or \"auto\", \"endpoint\": URL, \"model\": NAME}, the first of which is needed", 139 } },
	{ { "/cache/purge", 12 }, { "POST", 4 }, { "application/json", 16 },        NULL,               take_purge, write_purge,        false, { "no shared answer so far is given any more: {\"tenant\": …, \"model\": …}, {\"key\": …} or {\"all\": true}", 103 } },
	{ { "/drain", 6 },        { "POST", 4 }, { "application/json", 16 },        NULL,               NULL,       write_drain,        false, { "end in order, as at SIGTERM", 27 } },
};
/* clang-format on */

static void write_index(struct admin_question *q)
{
	buf_append(&q->answer, SLICE("Sluice " SLUICE_VERSION "\n\n"));
	for (size_t i = 0; i < ARRAY_LENGTH(rows); i++)
		buf_format(&q->answer, "%-5.*s%-21.*s %.*s\n", SLICE_ARGS(rows[i].method), SLICE_ARGS(rows[i].path),
			   SLICE_ARGS(rows[i].help));
}

struct slice admin_name_in(const struct admin_row *row, struct slice path)
{
	struct slice name, before = slice_cut(row->path, '{', &name);

	return name.len > 0 && slice_starts(path, before) ? slice_skip(path, before.len) : SLICE_NONE;
}

const struct admin_row *admin_find_row(struct slice path)
{
	for (size_t i = 0; i < ARRAY_LENGTH(rows); i++)
		if (slice_equal(rows[i].path, path) || admin_name_in(&rows[i], path).len > 0)
			return &rows[i];
	return NULL;
}
