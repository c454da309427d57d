/* The stand-in for svc/http: one client. Its head dies with its exchange, as it does there, so that whoever still looks at it is caught. */
#include "tests/flow/world/world_internal.h"

enum { FIELDS = 5, TEXT = 2048 };

struct world_head {
	struct http_head head;
	struct http_field fields[FIELDS];
	char text[TEXT], *end;
};

static struct slice put(struct world_head *h, const char *text)
{
	struct slice copy = slice_make(h->end, strlen(text));

	assert_true(h->end + copy.len <= h->text + TEXT);
	memcpy(h->end, text, copy.len);
	h->end += copy.len;
	return copy;
}

static void put_field(struct world_head *h, const char *name, const char *value)
{
	assert_true(h->head.fields_count < FIELDS);
	h->fields[h->head.fields_count++] = (struct http_field){ put(h, name), put(h, value) };
}

void world_http_open(struct exchange *e, const char *key)
{
	const struct world_scenario *s = world_now()->scenario;
	struct world_head *h = mem_new(sizeof(*h));
	char bearer[64];

	snprintf(bearer, sizeof(bearer), "Bearer %s", key);
	h->end = h->text;
	h->head = (struct http_head){ .method = s->method == NULL ? HTTP_POST : HTTP_GET,
				      .method_name = put(h, s->method == NULL ? "POST" : s->method),
				      .target = put(h, s->target),
				      .host = put(h, "gateway"),
				      .fields = h->fields,
				      .content_length = s->body == NULL ? 0 : (int64_t)strlen(s->body),
				      .minor_version = 1 };
	put_field(h, "Host", "gateway");
	put_field(h, "Authorization", bearer);
	put_field(h, "Content-Type", "application/json");
	put_field(h, "x-stainless-timeout", "600");
	if (s->cache_control != NULL)
		put_field(h, "Cache-Control", s->cache_control);
	*e = (struct exchange){ .head = h };
	buf_init(&e->body, WORLD_ANSWER);
	e->owner = flow_head(e, world_now()->worker);
}

static void drop_head(struct exchange *e)
{
	memset(e->head, 0x5a, sizeof(*e->head));
	mem_free(e->head);
	e->head = NULL;
}

void world_http_close(struct exchange *e)
{
	buf_free(&e->body);
}

void world_http_gone(struct exchange *e, enum http_gone how)
{
	drop_head(e);
	e->gone = true;
	flow_gone(e, e->owner, how);
}

static bool is_open(const struct exchange *e)
{
	return !e->ended && !e->gone;
}

/* A piece is the client's for as long as it is handed over. */
static void upload(struct exchange *e, const char *from, size_t length)
{
	char *piece = mem_text(slice_make(from, length));

	flow_body(e, e->owner, slice_make(piece, length));
	mem_free(piece);
}

bool world_http_upload(void)
{
	struct exchange *e = &world_now()->exchange;
	const char *body = world_now()->scenario->body;
	size_t length = body == NULL ? 0 : strlen(body), half = length / 2;

	if (!is_open(e) || !e->takes_body || e->body_piece >= 3)
		return false;
	e->body_piece++;
	if (e->body_piece == 1)
		upload(e, body, half);
	else if (e->body_piece == 2)
		upload(e, body + half, length - half);
	else
		flow_body_end(e, e->owner);
	return true;
}

/* What has come of its answer is not kept from a client that takes it. */
static void check_given(const struct world *w)
{
	for (int i = 0; i < w->seats_count; i++) {
		const struct flight_seat *s = &w->seats[i];
		if (!s->left && s->arg == w->client && (s->leads || s->took))
			assert_int_equal(flight_unread(s).len, 0);
	}
}

bool world_http_writable(void)
{
	struct exchange *e = &world_now()->exchange;

	if (!is_open(e) || !e->paused)
		return false;
	e->paused = false;
	flow_writable(e, e->owner);
	if (is_open(e) && !e->paused)
		check_given(world_now());
	return true;
}

bool world_http_broken(void)
{
	struct exchange *e = &world_now()->exchange;

	if (!is_open(e) || !e->takes_body || e->body_piece >= 3)
		return false;
	e->takes_body = false;
	flow_broken(e, e->owner, HTTP_FAULT_bad_body);
	return true;
}

/* ---- what the flow calls ------------------------------------------------------------------------------------------------- */

const struct http_head *http_head_of(const struct exchange *e)
{
	assert_true(is_open(e));
	return &e->head->head;
}

struct slice http_peer_address(const struct exchange *e)
{
	assert_true(is_open(e));
	return put(e->head, "192.0.2.1");
}

struct slice http_field_of(const struct http_head *head, struct slice name)
{
	for (size_t i = 0; i < head->fields_count; i++)
		if (slice_equal_nocase(head->fields[i].name, name))
			return head->fields[i].value;
	return SLICE_NONE;
}

void http_take_body(struct exchange *e, int64_t ceiling)
{
	assert_true(ceiling > 0);
	e->takes_body = true;
}

static void note_cache(struct exchange *e, struct slice value)
{
	size_t key = slice_find(value, '"');

	if (key < value.len) /* "…; key=" */
		value = slice_first(value, key - strlen("; key="));
	snprintf(e->cache, sizeof(e->cache), "%.*s", SLICE_ARGS(value));
}

/* The last seat that the client's request has taken, or that it gave away to be refetched. */
static const struct flight_seat *source_of(const struct world *w)
{
	const struct flight_seat *source = NULL;

	for (int i = 0; i < w->seats_count; i++)
		if (w->seats[i].first == w->client)
			source = &w->seats[i];
	return source;
}

void http_answer(struct exchange *e, const struct http_answer *answer)
{
	assert_true(is_open(e) && !e->answered);
	e->answered = true;
	e->status = answer->status;
	e->promised = answer->content_length;
	e->source = source_of(world_now());
	for (size_t i = 0; i < answer->fields_count; i++) {
		if (slice_equal(answer->fields[i].name, SLICE("Cache-Status")))
			note_cache(e, answer->fields[i].value);
		e->tells_limits |= slice_equal(answer->fields[i].name, SLICE("RateLimit"));
	}
}

bool http_write(struct exchange *e, struct slice bytes)
{
	assert_true(is_open(e) && e->answered);
	assert_true(buf_append(&e->body, bytes));
	assert_true(e->promised < 0 || e->body.len <= (size_t)e->promised);
	e->paused = world_now()->scenario->slow;
	return !e->paused;
}

void http_end(struct exchange *e, bool clean)
{
	assert_true(is_open(e) && e->answered);
	drop_head(e);
	e->ended = true;
	e->clean = clean;
}

/* clang-format off */
#define FAULT_ROW(name, status, text) { #name, status, text },
static const struct { const char *code; int status; const char *text; } faults[] = { HTTP_FAULTS(FAULT_ROW) };
/* clang-format on */
const char *http_fault_code(enum http_fault fault)
{
	return faults[fault].code;
}

int http_fault_status(enum http_fault fault)
{
	return faults[fault].status;
}

const char *http_fault_text(enum http_fault fault)
{
	return faults[fault].text;
}
