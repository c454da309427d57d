/* Each path is a row (admin_pages.c): what visits the workers for it, and what writes its answer. An answer is a whole text, made when the visit is over; if its
 * reader has left meanwhile, it is dropped. */
#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "lib/clock.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "svc/admin_internal.h"
#include "svc/metrics.h"

enum { BODY_MOST = 4 * 1024, ANSWER_MOST = 64 * 1024 * 1024 };

static void question_free(struct admin_question *q)
{
	admin_quotas_free(&q->quotas);
	admin_purge_free(&q->purge);
	admin_force_free(&q->force);
	admin_breakers_free(&q->breakers);
	admin_queue_free(&q->queue);
	metrics_free(&q->metrics);
	mem_free(q->pools);
	buf_free(&q->body);
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

void admin_put_error(struct buf *out, struct slice why)
{
	buf_append(out, SLICE("{\"error\":"));
	buf_append_json(out, why);
	buf_append(out, SLICE("}\n"));
}

static void refuse(struct exchange *e, int status, struct http_field more, const char *why)
{
	char memory[256];
	struct buf body;

	buf_wrap(&body, memory, sizeof(memory), 0);
	admin_put_error(&body, slice_of(why));
	send(e, status, SLICE("application/json"), more, buf_slice(&body));
}

void admin_answer(void *question)
{
	struct admin_question *q = question;

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

static struct admin_question *ask(struct admin *a, struct exchange *e, const struct admin_row *row)
{
	struct admin_question *q = mem_new(sizeof(*q));

	q->admin = a;
	q->row = row;
	q->exchange = e;
	q->status = 200;
	q->config = config_hold(server_config(a->server));
	q->metrics = metrics_new();
	q->pools = mem_new_array(q->config->upstreams_count, sizeof(*q->pools));
	q->breakers = admin_breakers_new(q->config);
	q->queue = admin_queue_new();
	buf_init(&q->body, BODY_MOST);
	buf_init(&q->answer, ANSWER_MOST);
	q->awaited = row->quotas ? 2 : 1;
	if (row->take != NULL) {
		q->gathers = true;
		http_take_body(e, BODY_MOST);
		return q;
	}
	if (row->visit == NULL) {
		admin_answer(q);
		return NULL;
	}
	if (row->quotas)
		q->quotas = admin_quotas_ask(a->server, a->loop, q->config, admin_answer, q);
	server_visit(a->server, row->visit, admin_answer, q);
	return q;
}

/* One path takes one method; HEAD is a GET without its body. */
static bool takes(const struct admin_row *row, const struct http_head *head)
{
	return slice_equal(head->method_name, row->method) ||
	       (head->method == HTTP_HEAD && slice_equal(row->method, SLICE("GET")));
}

static void refuse_method(struct exchange *e, const struct admin_row *row)
{
	struct http_field allow = { SLICE("Allow"), row->method };

	if (slice_equal(row->method, SLICE("GET")))
		allow.value = SLICE("GET, HEAD");
	refuse(e, 405, allow, "This path does not take this method. Allow says which; GET / lists all.");
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
	const struct admin_row *row = admin_find_row(path);
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
	else if (row->take != NULL && head->content_length == 0)
		refuse(e, 400, no_field, "This path takes a JSON body; GET / says which.");
	else
		return ask(a, e, row);
	return NULL;
}

static void take_piece(struct exchange *e, void *owner, struct slice piece)
{
	struct admin_question *q = owner;

	CHECK(q->exchange == e && q->gathers);
	buf_append(&q->body, piece);
}

static void take_end(struct exchange *e, void *owner)
{
	struct admin_question *q = owner;

	CHECK(q->exchange == e && q->gathers);
	q->gathers = false;
	q->row->take(q);
	admin_answer(q);
}

static void ignore(struct exchange *e, void *owner)
{
	(void)e, (void)owner;
}

/* Nobody waits any more: what has begun goes on, for nobody. */
static void let_go(struct admin_question *q)
{
	q->exchange = NULL;
	if (q->gathers)
		question_free(q);
}

static void broken(struct exchange *e, void *owner, enum http_fault fault)
{
	let_go(owner);
	refuse(e, http_fault_status(fault), no_field, http_fault_text(fault));
}

static void reader_gone(struct exchange *e, void *owner, enum http_gone gone)
{
	struct admin_question *q = owner;

	(void)gone;
	if (q != NULL && q->exchange == e)
		let_go(q);
}

static void malformed(void *arg, enum http_fault fault, struct slice target, struct buf *body, struct slice *type)
{
	(void)arg, (void)target;
	buf_format(body, "%s\n", http_fault_text(fault));
	*type = SLICE("text/plain");
}

static const struct http_handler handler = { take_head, take_piece, take_end, ignore, broken, reader_gone, malformed };
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
