/* Each path is a row: what visits the workers for it, and what writes its answer. An answer is a whole text, made when the visit is over; if its reader has left
 * meanwhile, it is dropped. */
#include "svc/admin.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/limiter.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/pool.h"
#include "lib/redis.h"
#include "svc/admin_quotas.h"
#include "svc/flow.h"
#include "svc/http.h"
#include "svc/metrics.h"
#include "svc/server.h"

enum { ADMIN_MAGIC = 0x41444d49, ANSWER_MOST = 64 * 1024 * 1024 };
#define REFRESH_LEAST (10 * CLOCK_SECOND) /* between two looks at the quotas for /metrics */

/* Owned by the control thread. `fullest` is what the last look at the quotas found, whoever asked for it. */
struct admin {
	unsigned magic;
	struct loop *loop;
	struct server *server;
	struct log *log;
	struct http_listener *listener;
	struct http_server *http;
	void (*drain)(void *arg);
	void *drain_arg;
	struct admin_quotas *refresh; /* under way for /metrics */
	int64_t looked;               /* when the last look ended; clock_now; 0: none has */
	double fullest[LIMITER_SCOPES][LIMIT_COUNT];
};

/* The pools of one upstream, summed over the workers. */
struct pools {
	struct pool_stats calls, streams;
};

/* One question to the admin plane; lives until its visit is over, its quotas are there, and its reader has the answer or has left. */
struct question {
	struct admin *admin;
	const struct row *row;
	struct exchange *exchange; /* NULL: the reader has left */
	int status;
	unsigned awaited; /* the visit, the quotas */
	struct buf answer;
	struct admin_quotas *quotas; /* NULL: not asked for */
	/* What the visit gathers. */
	const struct config *config; /* held */
	struct metrics *metrics;
	struct pools *pools; /* as many as config->upstreams_count */
	unsigned workers, redis_up, requests, connections, leases, unsettled;
	struct limiter_counts limiter;
};

struct row {
	struct slice path, method, type;
	void (*visit)(struct worker *, void *question); /* NULL: nothing to fetch */
	void (*write)(struct question *);
	bool quotas; /* it waits for Redis, redis.timeout at most */
	struct slice help;
};

/* ---- /metrics ------------------------------------------------------------------------------------------------------------ */

static void visit_metrics(struct worker *w, void *question)
{
	struct question *q = question;
	struct http_stats stats;

	worker_gauge(w);
	flow_gauge(w);
	http_server_stats(w->http, &stats);
	metrics_set(w->metrics, METRIC_client_connections, NULL, stats.connections);
	metrics_merge(q->metrics, w->metrics);
}

static void keep_fullest(struct admin *a, const struct admin_quotas *quotas)
{
	admin_quotas_fullest(quotas, a->fullest);
	a->looked = clock_now();
}

static void refreshed(void *arg)
{
	struct admin *a = arg;

	CHECK(a->magic == ADMIN_MAGIC);
	keep_fullest(a, a->refresh);
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

static void write_metrics(struct question *q)
{
	const struct worker_shared *shared = server_shared(q->admin->server);
	struct slice version = SLICE(SLUICE_VERSION);

	metrics_set(q->metrics, METRIC_request_body_bytes, NULL, (double)atomic_load(&shared->body_bytes));
	metrics_add(q->metrics, METRIC_log_dropped_total, NULL, (double)log_dropped(q->admin->log));
	metrics_set(q->metrics, METRIC_ready, NULL, atomic_load(&shared->ready) ? 1 : 0);
	metrics_set(q->metrics, METRIC_build_info, &version, 1);
	set_fullest(q->metrics, q->admin);
	refresh_quotas(q->admin);
	metrics_write(q->metrics, &q->answer);
}

/* ---- /status ------------------------------------------------------------------------------------------------------------- */

static void add_stats(struct pool_stats *sum, const struct pool *pool)
{
	struct pool_stats stats;

	pool_stats(pool, &stats);
	sum->active += stats.active;
	sum->idle += stats.idle;
	sum->waiting += stats.waiting;
	sum->opened += stats.opened;
	sum->reused += stats.reused;
	sum->failed += stats.failed;
}

static void visit_status(struct worker *w, void *question)
{
	struct question *q = question;
	const struct limiter_counts *counts = limiter_counts(w->limiter);
	struct http_stats stats;

	http_server_stats(w->http, &stats);
	q->workers++;
	q->redis_up += redis_is_up(w->redis);
	q->requests += w->requests_count;
	q->connections += stats.connections;
	q->leases += limiter_held(w->limiter);
	q->unsettled += limiter_unsettled(w->limiter);
	q->limiter.admitted += counts->admitted;
	q->limiter.denied += counts->denied;
	q->limiter.unavailable += counts->unavailable;
	/* A reload may be on its way: pools are found by their upstream's name. */
	for (size_t i = 0; i < w->now->config->upstreams_count; i++) {
		const struct config_upstream *u =
			config_find_upstream(q->config, slice_of(w->now->config->upstreams[i].name));
		if (u == NULL)
			continue;
		add_stats(&q->pools[u - q->config->upstreams].calls, w->now->upstreams[i]->calls);
		add_stats(&q->pools[u - q->config->upstreams].streams, w->now->upstreams[i]->streams);
	}
}

static void put_text(struct buf *out, const char *before, const char *text)
{
	buf_append(out, slice_of(before));
	buf_append_json(out, slice_of(text));
}

static void put_pool(struct buf *out, const char *name, const struct pool_stats *s, int64_t limit)
{
	buf_format(out,
		   "\"%s\":{\"limit\":%" PRId64 ",\"active\":%u,\"idle\":%u,\"waiting\":%u,\"opened\":%" PRIu64
		   ",\"reused\":%" PRIu64 ",\"failed\":%" PRIu64 "}",
		   name, limit, s->active, s->idle, s->waiting, s->opened, s->reused, s->failed);
}

static void put_upstreams(const struct question *q, struct buf *out)
{
	buf_append(out, SLICE(",\"upstreams\":{"));
	for (size_t i = 0; i < q->config->upstreams_count; i++) {
		const struct config_upstream *u = &q->config->upstreams[i];
		put_text(out, i > 0 ? "," : "", u->name);
		put_text(out, ":{\"dialect\":", config_dialect_name(u->dialect));
		put_text(out, ",\"origin\":", u->endpoints[0].origin);
		buf_append(out, SLICE(",\"pools\":{"));
		put_pool(out, "calls", &q->pools[i].calls, u->pool.max);
		buf_append_byte(out, ',');
		put_pool(out, "streams", &q->pools[i].streams, u->pool.streams);
		buf_append(out, SLICE("}}"));
	}
	buf_append_byte(out, '}');
}

static void write_status(struct question *q)
{
	const struct worker_shared *shared = server_shared(q->admin->server);
	struct buf *out = &q->answer;

	put_text(out, "{\"version\":", SLUICE_VERSION);
	put_text(out, ",\"instance\":", shared->instance);
	buf_format(out, ",\"uptime_seconds\":%" PRId64 ",\"ready\":%s,\"draining\":%s,\"workers\":%u",
		   (clock_now() - server_born(q->admin->server)) / CLOCK_SECOND,
		   atomic_load(&shared->ready) ? "true" : "false", atomic_load(&shared->draining) ? "true" : "false",
		   q->workers);
	buf_format(out, ",\"redis\":{\"up\":%s,\"on_failure\":\"%s\"}", q->redis_up == q->workers ? "true" : "false",
		   q->config->redis.on_failure == CONFIG_OPEN ? "open" : "closed");
	buf_format(out, ",\"requests\":{\"in_flight\":%u,\"body_bytes\":%" PRId64 "},\"clients\":{\"connections\":%u}",
		   q->requests, atomic_load(&shared->body_bytes), q->connections);
	buf_format(out,
		   ",\"quota\":{\"leases\":%u,\"unsettled\":%u,\"admitted\":%" PRIu64 ",\"denied\":%" PRIu64
		   ",\"unavailable\":%" PRIu64 "}",
		   q->leases, q->unsettled, q->limiter.admitted, q->limiter.denied, q->limiter.unavailable);
	put_upstreams(q, out);
	buf_append(out, SLICE(",\"quotas\":"));
	admin_quotas_write(q->quotas, out);
	buf_append(out, SLICE("}\n"));
	keep_fullest(q->admin, q->quotas);
}

/* ---- the others ---------------------------------------------------------------------------------------------------------- */

static void visit_requests(struct worker *w, void *question)
{
	struct question *q = question;

	if (q->answer.len == 0)
		buf_append(&q->answer, SLICE("{\"requests\":["));
	else if (w->requests_count > 0 && q->answer.data[q->answer.len - 1] != '[')
		buf_append_byte(&q->answer, ',');
	flow_write_requests(w, &q->answer);
}

static void write_requests(struct question *q)
{
	buf_append(&q->answer, SLICE("]}\n"));
}

static void write_config(struct question *q)
{
	config_write_json(q->config, &q->answer);
	buf_append_byte(&q->answer, '\n');
}

static void write_healthz(struct question *q)
{
	buf_append(&q->answer, SLICE("ok\n"));
}

static void write_readyz(struct question *q)
{
	const struct worker_shared *shared = server_shared(q->admin->server);
	bool ready = atomic_load(&shared->ready);

	q->status = ready ? 200 : 503;
	buf_append(&q->answer, ready                            ? SLICE("ok\n")
			       : atomic_load(&shared->draining) ? SLICE("draining\n")
								: SLICE("warming up\n"));
}

static void write_drain(struct question *q)
{
	q->status = 202;
	buf_append(&q->answer, SLICE("{\"draining\":true}\n"));
	q->admin->drain(q->admin->drain_arg);
}

static void write_index(struct question *q);

/* clang-format off */
static const struct row rows[] = {
	{ { "/", 1 },         { "GET", 3 },  { "text/plain", 10 },                NULL,              write_index,    false, { "this list", 9 } },
	{ { "/healthz", 8 },  { "GET", 3 },  { "text/plain", 10 },                NULL,              write_healthz,  false, { "the process lives", 17 } },
	{ { "/readyz", 7 },   { "GET", 3 },  { "text/plain", 10 },                NULL,              write_readyz,   false, { "it is warm, and takes requests", 30 } },
	{ { "/metrics", 8 },  { "GET", 3 },  { "text/plain; version=0.0.4", 25 }, visit_metrics,     write_metrics,  false, { "for Prometheus", 14 } },
	{ { "/status", 7 },   { "GET", 3 },  { "application/json", 16 },          visit_status,      write_status,   true,  { "pools, quotas with what is left, Redis", 38 } },
	{ { "/requests", 9 }, { "GET", 3 },  { "application/json", 16 },          visit_requests,    write_requests, false, { "what is in flight, by stage and age", 35 } },
	{ { "/config", 7 },   { "GET", 3 },  { "application/json", 16 },          NULL,              write_config,   false, { "what it runs with; secrets are left out", 39 } },
	{ { "/drain", 6 },    { "POST", 4 }, { "application/json", 16 },          NULL,              write_drain,    false, { "end in order, as at SIGTERM", 27 } },
};
/* clang-format on */

static void write_index(struct question *q)
{
	buf_append(&q->answer, SLICE("Sluice " SLUICE_VERSION "\n\n"));
	for (size_t i = 0; i < ARRAY_LENGTH(rows); i++)
		buf_format(&q->answer, "%-5.*s%-10.*s %.*s\n", SLICE_ARGS(rows[i].method), SLICE_ARGS(rows[i].path),
			   SLICE_ARGS(rows[i].help));
}

/* ---- questions and answers ------------------------------------------------------------------------------------------------ */

static void question_free(struct question *q)
{
	admin_quotas_free(&q->quotas);
	metrics_free(&q->metrics);
	mem_free(q->pools);
	buf_free(&q->answer);
	config_release(&q->config);
	mem_free(q);
}

/* `more` is one field more, or has no name. */
static void send(struct exchange *e, int status, struct slice type, struct http_field more, struct slice body)
{
	struct http_field fields[] = { { SLICE("Content-Type"), type },
				       { SLICE("Cache-Control"), SLICE("no-store") },
				       { SLICE("X-Content-Type-Options"), SLICE("nosniff") },
				       more };

	http_answer(e, &(struct http_answer){ .status = status,
					      .fields = fields,
					      .fields_count = more.name.len > 0 ? 4 : 3,
					      .content_length = (int64_t)body.len });
	(void)http_write(e, body);
	http_end(e, true);
}

static const struct http_field no_field = { { NULL, 0 }, { NULL, 0 } };

static void refuse(struct exchange *e, int status, struct http_field more, const char *why)
{
	char memory[256];
	struct buf body;

	buf_wrap(&body, memory, sizeof(memory), 0);
	buf_append(&body, SLICE("{\"error\":"));
	buf_append_json(&body, slice_of(why));
	buf_append(&body, SLICE("}\n"));
	send(e, status, SLICE("application/json"), more, buf_slice(&body));
}

/* The visit is over, or the quotas are there; the last of them answers. */
static void answer(void *arg)
{
	struct question *q = arg;

	if (--q->awaited > 0)
		return;
	if (q->exchange != NULL) {
		q->row->write(q);
		if (q->answer.overflowed)
			refuse(q->exchange, 500, no_field, "The answer is larger than 64 MiB.");
		else
			send(q->exchange, q->status, q->row->type, no_field, buf_slice(&q->answer));
	}
	question_free(q);
}

static const struct row *find_row(struct slice path)
{
	for (size_t i = 0; i < ARRAY_LENGTH(rows); i++)
		if (slice_equal(rows[i].path, path))
			return &rows[i];
	return NULL;
}

static bool may_ask(const struct admin *a, const struct http_head *head)
{
	const char *token = server_config(a->server)->admin_token;
	unsigned char wanted[SHA256_DIGEST_LENGTH], given[SHA256_DIGEST_LENGTH];
	struct slice rest, value = http_field_of(head, SLICE("Authorization")), scheme = slice_cut(value, ' ', &rest);

	if (token == NULL)
		return true;
	if (!slice_equal_nocase(scheme, SLICE("Bearer")))
		return false;
	SHA256((const unsigned char *)token, strlen(token), wanted); /* of one length, so that the time tells nothing */
	SHA256((const unsigned char *)rest.data, rest.len, given);
	return CRYPTO_memcmp(wanted, given, sizeof(wanted)) == 0;
}

static struct question *ask(struct admin *a, struct exchange *e, const struct row *row)
{
	struct question *q = mem_new(sizeof(*q));

	q->admin = a;
	q->row = row;
	q->exchange = e;
	q->status = 200;
	q->config = config_hold(server_config(a->server));
	q->metrics = metrics_new();
	q->pools = mem_new_array(q->config->upstreams_count, sizeof(*q->pools));
	buf_init(&q->answer, ANSWER_MOST);
	q->awaited = row->quotas ? 2 : 1;
	if (row->visit == NULL) {
		answer(q);
		return NULL;
	}
	if (row->quotas)
		q->quotas = admin_quotas_ask(a->server, a->loop, q->config, answer, q);
	server_visit(a->server, row->visit, answer, q);
	return q;
}

/* One path takes one method; HEAD is a GET without its body. */
static bool takes(const struct row *row, const struct http_head *head)
{
	return slice_equal(head->method_name, row->method) ||
	       (head->method == HTTP_HEAD && slice_equal(row->method, SLICE("GET")));
}

static void refuse_method(struct exchange *e, const struct row *row)
{
	struct http_field allow = { SLICE("Allow"), row->method };

	if (slice_equal(row->method, SLICE("GET")))
		allow.value = SLICE("GET, HEAD");
	refuse(e, 405, allow, "This path does not take this method.");
}

/* Any page that somebody looks at can make a browser on this machine post here: it says so in Origin, which no other client sends. */
static bool is_a_pages(const struct http_head *head)
{
	return head->method == HTTP_POST && http_field_of(head, SLICE("Origin")).data != NULL;
}

/* A name that somebody lets stand for 127.0.0.1 makes every page here one of his own, which his script may read (DNS rebinding). A token stops that too, and
 * no browser comes over a unix socket. */
static bool is_rebound(const struct admin *a, const struct http_head *head)
{
	const struct config *config = server_config(a->server);

	return config->admin_token == NULL && !slice_starts(slice_of(config->admin), SLICE("unix:")) &&
	       !config_is_admin_host(config, head->host);
}

static void *take_head(struct exchange *e, void *arg)
{
	struct admin *a = arg;
	const struct http_head *head = http_head_of(e);
	struct slice query, path = slice_cut(head->target, '?', &query);
	const struct row *row = find_row(path);
	bool open = slice_equal(path, SLICE("/healthz")) || slice_equal(path, SLICE("/readyz"));

	CHECK(a->magic == ADMIN_MAGIC);
	if (!open && is_rebound(a, head))
		refuse(e, 403, no_field,
		       "Without an admin_token, Host must be an IP address, localhost, or the name in `admin`.");
	else if (!open && !may_ask(a, head))
		refuse(e, 401, (struct http_field){ SLICE("WWW-Authenticate"), SLICE("Bearer realm=\"sluice admin\"") },
		       "Send the admin_token: Authorization: Bearer …");
	else if (row == NULL)
		refuse(e, 404, no_field, "There is nothing at this path; / lists what there is.");
	else if (!takes(row, head))
		refuse_method(e, row);
	else if (is_a_pages(head))
		refuse(e, 403, no_field, "A page in a browser may not ask this.");
	else
		return ask(a, e, row);
	return NULL;
}

static void ignore_body(struct exchange *e, void *owner, struct slice piece)
{
	(void)e, (void)owner, (void)piece;
}

static void ignore(struct exchange *e, void *owner)
{
	(void)e, (void)owner;
}

/* No question has a body that is read, so that none breaks; should one do so all the same, its reader hears it at once, and the visit goes on for nobody. */
static void broken(struct exchange *e, void *owner, enum http_fault fault)
{
	struct question *q = owner;

	if (q != NULL)
		q->exchange = NULL;
	refuse(e, http_fault_status(fault), no_field, http_fault_text(fault));
}

static void reader_gone(struct exchange *e, void *owner, enum http_gone gone)
{
	struct question *q = owner;

	(void)gone;
	if (q != NULL && q->exchange == e)
		q->exchange = NULL;
}

static void malformed(void *arg, enum http_fault fault, struct slice target, struct buf *body, struct slice *type)
{
	(void)arg, (void)target;
	buf_format(body, "%s\n", http_fault_text(fault));
	*type = SLICE("text/plain");
}

static const struct http_handler handler = { take_head, ignore_body, ignore, ignore, broken, reader_gone, malformed };
static const struct http_options options = { .head_timeout = 10 * CLOCK_SECOND,
					     .body_timeout = 10 * CLOCK_SECOND,
					     .idle_timeout = 60 * CLOCK_SECOND,
					     .write_stall = 30 * CLOCK_SECOND,
					     .connections = 256,
					     .server_name = "sluice" };

struct admin *admin_new(struct loop *loop, struct server *server, void (*drain)(void *arg), void *arg, struct log *log,
			char *error, size_t error_size)
{
	struct admin *a = mem_new(sizeof(*a));

	*a = (struct admin){
		.magic = ADMIN_MAGIC, .loop = loop, .server = server, .log = log, .drain = drain, .drain_arg = arg
	};
	for (int s = 0; s < LIMITER_SCOPES; s++)
		for (int k = 0; k < LIMIT_COUNT; k++)
			a->fullest[s][k] = -1;
	a->listener = http_listen(slice_of(server_config(server)->admin), error, error_size);
	if (a->listener == NULL) {
		mem_free(a);
		return NULL;
	}
	a->http = http_server_new(loop, &options, &handler, a, log);
	http_server_accept(a->http, a->listener);
	return a;
}

void admin_free(struct admin **handle)
{
	struct admin *a = *handle;

	*handle = NULL;
	if (a == NULL)
		return;
	http_server_free(&a->http);
	http_listener_free(&a->listener);
	admin_quotas_free(&a->refresh);
	a->magic = 0;
	mem_free(a);
}
