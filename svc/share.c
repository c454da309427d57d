#include "svc/share.h"

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/text.h"
#include "svc/directives.h"

#define KEY_VERSION "sluice answer 2" /* what changes the meaning of a key below counts this on */
enum { MATERIAL_MOST = 64 * 1024, HEX = 2 * ANSWER_KEY };
_Static_assert((int)ANSWER_KEY == (int)DIALECT_DIGEST, "a key is a digest");

/* ---- whether -------------------------------------------------------------------------------------------------------------- */

static bool admits(enum config_when when, const struct dialect_call *call, const struct directives *wish)
{
	switch (when) {
	case CONFIG_WHEN_DETERMINISTIC:
		return call->deterministic;
	case CONFIG_WHEN_ALWAYS:
		return true;
	case CONFIG_WHEN_ASKED:
		return wish->max_age >= 0 || wish->only_if_cached;
	case CONFIG_WHEN_NEVER:
		break;
	}
	return false;
}

/* What another method does is done once for each request. */
static bool only_asks(const struct dialect_call *call, const struct http_head *head)
{
	return call->dialect != DIALECT_http || head->method == HTTP_GET || head->method == HTTP_POST;
}

static void read_wishes(const struct http_head *head, struct directives *wish)
{
	directives_init(wish);
	for (size_t i = 0; i < head->fields_count; i++)
		if (slice_equal_nocase(head->fields[i].name, SLICE("cache-control")))
			directives_read(wish, head->fields[i].value);
}

/* ---- under which key ------------------------------------------------------------------------------------------------------ */

/* Each part with its length before it, so that no two lists of parts are one text. */
static void put(struct buf *out, struct slice part)
{
	unsigned char length[4] = { (unsigned char)(part.len >> 24), (unsigned char)(part.len >> 16),
				    (unsigned char)(part.len >> 8), (unsigned char)part.len };

	buf_append(out, slice_make((const char *)length, sizeof(length)));
	buf_append(out, part);
}

static void put_scope(struct buf *out, const struct share_input *in)
{
	const struct config_tenant *tenant = in->caller->tenant;

	if (in->config->cache.scope == CONFIG_SCOPE_SHARED) {
		put(out, SLICE("shared"));
		return;
	}
	put(out, tenant != NULL ? SLICE("tenant") : SLICE("anonymous"));
	put(out, tenant != NULL ? slice_of(tenant->name) : SLICE_NONE);
	if (in->config->cache.scope == CONFIG_SCOPE_USER && tenant != NULL)
		put(out, slice_make((const char *)in->caller->key_sha256, sizeof(in->caller->key_sha256)));
}

static char lower(char byte)
{
	return byte >= 'A' && byte <= 'Z' ? (char)(byte - 'A' + 'a') : byte;
}

static void put_field(struct buf *out, const struct http_field *field)
{
	char name[64];
	size_t length = field->name.len < sizeof(name) ? field->name.len : sizeof(name);

	for (size_t i = 0; i < length; i++)
		name[i] = lower(field->name.data[i]);
	put(out, slice_make(name, length));
	put(out, field->value);
}

/* By name, without case; those of one name stay in their order, which means something. */
static int compare_names(struct slice a, struct slice b)
{
	int order = strncasecmp(a.data, b.data, a.len < b.len ? a.len : b.len);

	return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static size_t targets_count(const struct route *route)
{
	return route->configured != NULL ? route->configured->targets_count : 1;
}

static const struct config_upstream *upstream_of(const struct route *route, size_t target)
{
	return route->configured != NULL ? route->configured->targets[target].upstream : route->upstream;
}

/* Also when it would not go to the target that is chosen: another request of the same key may go to another one. */
static bool counts_anywhere(const struct share_input *in, const struct http_field *field)
{
	for (size_t i = 0; i < targets_count(in->route); i++)
		if (fields_change_meaning(in->head, upstream_of(in->route, i), field))
			return true;
	return false;
}

/* False: no room, or a name too long to be told from another. */
static bool put_fields(struct buf *out, const struct share_input *in)
{
	const struct http_head *head = in->head;
	const struct http_field **sorted = mem_take(in->mem, (head->fields_count + 1) * sizeof(struct http_field *));
	size_t count = 0;

	if (sorted == NULL)
		return false;
	for (size_t i = 0; i < head->fields_count; i++) {
		const struct http_field *field = &head->fields[i];
		size_t at = count;
		if (!counts_anywhere(in, field))
			continue;
		if (field->name.len > 64)
			return false;
		for (; at > 0 && compare_names(sorted[at - 1]->name, field->name) > 0; at--)
			sorted[at] = sorted[at - 1];
		sorted[at] = field;
		count++;
	}
	for (size_t i = 0; i < count; i++)
		put_field(out, sorted[i]);
	return true;
}

static bool put_body(struct buf *out, const struct share_input *in)
{
	unsigned char digest[DIALECT_DIGEST];
	struct slice *pieces;
	size_t count;

	if (in->body->length == 0) {
		put(out, SLICE_NONE);
		return true;
	}
	if (in->body->length > SHARE_BODY_MOST || !upload_slices(in->body, NULL, 0, in->mem, &pieces, &count) ||
	    !dialect_digest_body(in->digest, in->call->dialect, pieces, count, digest))
		return false;
	put(out, slice_make((const char *)digest, sizeof(digest)));
	return true;
}

/* All targets that the model has, and not the chosen one: to who asks it is one model, whichever answers. */
static void put_targets(struct buf *out, const struct route *route)
{
	char count = (char)targets_count(route);

	_Static_assert((int)CONFIG_TARGETS_MOST <= INT8_MAX, "a count is a byte");
	put(out, route->model);
	put(out, slice_make(&count, sizeof(count)));
	for (size_t i = 0; i < targets_count(route); i++) {
		put(out, slice_of(upstream_of(route, i)->name));
		put(out, slice_of(upstream_of(route, i)->endpoints[0].url));
		put(out, route->configured != NULL ? slice_of(route->configured->targets[i].model) : SLICE_NONE);
	}
}

static bool put_material(struct buf *out, const struct share_input *in)
{
	put(out, SLICE(KEY_VERSION));
	put_scope(out, in);
	put(out, slice_of(config_dialect_name(in->call->dialect)));
	put(out, in->head->method_name);
	put(out, in->call->dialect == DIALECT_http ? in->call->rest : in->call->path);
	put(out, in->call->query);
	put_targets(out, in->route);
	return put_fields(out, in) && put_body(out, in) && !out->overflowed;
}

static bool make_key(const struct share_input *in, unsigned char key[ANSWER_KEY])
{
	struct buf material;
	struct slice text;
	bool made;

	buf_init(&material, MATERIAL_MOST);
	made = put_material(&material, in);
	text = buf_slice(&material);
	if (made)
		dialect_digest_bytes(in->digest, &text, 1, key);
	buf_free(&material);
	return made;
}

/* ---- by what it can be purged --------------------------------------------------------------------------------------------- */

struct slice share_purge_name(struct slice tenant, struct slice model, struct slice key, struct mem *mem)
{
	if (key.len > 0)
		return mem_format(mem, "k:%.*s", SLICE_ARGS(key));
	if (tenant.len > 0 && model.len > 0) /* no tenant's name has a blank in it */
		return mem_format(mem, "b:%.*s %.*s", SLICE_ARGS(tenant), SLICE_ARGS(model));
	if (tenant.len > 0)
		return mem_format(mem, "t:%.*s", SLICE_ARGS(tenant));
	return model.len > 0 ? mem_format(mem, "m:%.*s", SLICE_ARGS(model)) : SLICE("*");
}

static bool name_purges(const struct share_input *in, struct flight_ask *ask)
{
	struct slice tenant = in->caller->tenant != NULL ? slice_of(in->caller->tenant->name) : SLICE_NONE;
	struct slice model = in->route->model;
	char hex[HEX];
	bool named = true;

	CHECK(text_hex(hex, ask->key, ANSWER_KEY) == HEX);
	ask->purges[ask->purges_count++] = share_purge_name(SLICE_NONE, SLICE_NONE, slice_make(hex, HEX), in->mem);
	ask->purges[ask->purges_count++] = share_purge_name(SLICE_NONE, model, SLICE_NONE, in->mem);
	if (tenant.len > 0) {
		ask->purges[ask->purges_count++] = share_purge_name(tenant, SLICE_NONE, SLICE_NONE, in->mem);
		ask->purges[ask->purges_count++] = share_purge_name(tenant, model, SLICE_NONE, in->mem);
	}
	for (size_t i = 0; i < ask->purges_count; i++)
		named &= ask->purges[i].len > 0;
	return named;
}

/* ---- with what wishes ------------------------------------------------------------------------------------------------------ */

/* Beyond fresh: less than nothing where it must be fresh for some time to come. */
static int64_t slack_of(const struct directives *wish)
{
	if (wish->min_fresh >= 0)
		return -wish->min_fresh;
	return wish->max_stale >= 0 ? wish->max_stale : 0;
}

void share_judge(struct share *s, const struct share_input *in)
{
	const struct config *config = in->config;
	struct directives wish;
	bool keeps, joins;

	read_wishes(in->head, &wish);
	keeps = admits(config->cache.when, in->call, &wish);
	joins = admits(config->coalesce.when, in->call, &wish) &&
		(config->coalesce.streams || in->call->framing == DIALECT_PLAIN);
	*s = (struct share){ .store = keeps,
			     .no_cache = wish.no_cache || wish.max_age == 0,
			     .only_stored = wish.only_if_cached };
	s->ask = (struct flight_ask){ .may_read = keeps && !s->no_cache,
				      .may_be_late = joins && !s->no_cache,
				      .may_follow = joins,
				      .may_lead = !s->only_stored,
				      .oldest = wish.max_age,
				      .slack = slack_of(&wish),
				      .group = (uint64_t)(uintptr_t)in->caller->tenant };
	s->wanted = (keeps || joins) && !wish.no_store && only_asks(in->call, in->head) && make_key(in, s->ask.key) &&
		    name_purges(in, &s->ask);
}

/* ---- whether an answer may be kept ------------------------------------------------------------------------------------------ */

/* What an answer says of itself. */
struct said {
	struct directives control;
	bool varies;   /* by what no key knows */
	int64_t fresh; /* from now on; -1: it does not say */
};

static bool varies_by_unknown(struct slice names)
{
	bool varies = false;

	while (names.len > 0) {
		struct slice name = slice_trim(slice_cut(names, ',', &names));
		varies |= slice_equal(name, SLICE("*")) || fields_never_count(name);
	}
	return varies;
}

/* The first that is there of s-maxage, max-age and Expires (RFC 9111 section 4.2.1); an Expires that is no date is past. */
static int64_t freshness(const struct directives *control, int64_t age, struct slice expires)
{
	int64_t lifetime = control->shared_max_age >= 0 ? control->shared_max_age : control->max_age;

	if (lifetime >= 0)
		return age < lifetime ? lifetime - age : 0;
	if (expires.data == NULL)
		return -1;
	lifetime = fields_until(expires);
	return lifetime > 0 ? lifetime : 0;
}

static void read_answer(const struct fields_answer *answer, struct said *said)
{
	struct slice expires = SLICE_NONE;
	int64_t age = 0;

	*said = (struct said){ .varies = false };
	directives_init(&said->control);
	for (size_t i = 0; i < answer->count; i++) {
		const struct http_field *field = &answer->fields[i];
		if (slice_equal_nocase(field->name, SLICE("cache-control")))
			directives_read(&said->control, field->value);
		else if (slice_equal_nocase(field->name, SLICE("vary")))
			said->varies |= varies_by_unknown(field->value);
		else if (slice_equal_nocase(field->name, SLICE("age")))
			age = fields_age(field->value);
		else if (slice_equal_nocase(field->name, SLICE("expires")))
			expires = field->value;
	}
	said->fresh = freshness(&said->control, age, expires);
}

/* For the one alone that it was made for: stale at once, and not to be given stale, is as good as no-cache. */
static bool is_for_one(const struct said *said)
{
	const struct directives *control = &said->control;

	return control->no_store || control->is_private || control->no_cache || said->varies ||
	       (control->must_revalidate && said->fresh == 0);
}

bool share_is_private(const struct dialect_call *call, const struct fields_answer *answer)
{
	struct said said;

	if (call->dialect != DIALECT_http)
		return false;
	read_answer(answer, &said);
	return is_for_one(&said);
}

static bool is_kept_by_nobody(const struct said *said)
{
	return is_for_one(said) || said->fresh == 0;
}

bool share_may_keep(const struct dialect_call *call, int status, const struct fields_answer *answer)
{
	struct said said = { .fresh = -1 };

	if (call->dialect == DIALECT_http)
		read_answer(answer, &said);
	return status == 200 && !is_kept_by_nobody(&said);
}

/* A provider of models says "private" of all that it answers, and means the way to its client; that is for the operator to know. What any other API says of
 * its answers holds: no longer than it says, and not at all where it forbids it. */
bool share_keep(const struct config *config, const struct dialect_call *call, int status,
		const struct fields_answer *answer, const struct meter_result *metered, struct flight_end *times)
{
	struct said said = { .fresh = -1 };
	int64_t fresh = config->cache.ttl;

	if (status != 200 || !metered->ended || metered->error_in_band || metered->filtered || metered->unread != NULL)
		return false;
	if (call->dialect == DIALECT_http)
		read_answer(answer, &said);
	if (is_kept_by_nobody(&said))
		return false;
	if (said.fresh > 0 && said.fresh < fresh)
		fresh = said.fresh;
	times->fresh = fresh;
	times->stale = fresh + (said.control.must_revalidate ? 0 : config->cache.stale_while_revalidate);
	times->error = fresh + (said.control.must_revalidate ? 0 : config->cache.stale_if_error);
	return true;
}
