/* The key may stand in four places; SDKs use one each, and some proxies add another. The same key twice is fine, two different ones are not: which of them
 * would be charged is not ours to guess.
 *
 * Finding a tenant takes one SHA-256 and one look-up by it, whose time tells of digests and not of keys. A refusal tells its sender what he knows: that a
 * key came, and where. Disadvantage: `Authorization: KEY` is refused, because what no scheme says to be a key might be anything. */
#include "svc/caller.h"

#include <arpa/inet.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <pthread.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/text.h"

enum { KEY_MOST = 512, REQUEST_ID_MOST = 128, ADDRESS_MOST = 64, HOPS_MOST = 32 };

static const int64_t longest_deadline = CLOCK_DAY;

/* ---- the key ----------------------------------------------------------------------------------------------------------- */

/* What has been found so far; `text` is the key, NULL-length until one is there. */
struct keys {
	struct slice text;
	const char *place; /* where it stood first */
	bool given, differ;
	bool other_scheme; /* Authorization came with another one than Bearer, or none */
};

static void note_key(struct keys *keys, struct slice key, const char *place)
{
	if (key.len == 0)
		return;
	if (!keys->given)
		keys->place = place;
	keys->differ |= keys->given && !slice_equal(keys->text, key);
	keys->given = true;
	keys->text = key;
}

/* "Bearer KEY" (RFC 6750 section 2.1); the scheme has no case. Any other scheme holds no key of ours. */
static void note_authorization(struct keys *keys, struct slice value)
{
	struct slice rest, scheme = slice_cut(value, ' ', &rest);

	if (slice_equal_nocase(scheme, SLICE("Bearer")))
		note_key(keys, slice_trim(rest), "Authorization");
	else
		keys->other_scheme |= value.len > 0;
}

static void find_key_fields(const struct http_head *head, struct keys *keys, struct caller *caller)
{
	for (size_t i = 0; i < head->fields_count; i++) {
		const struct http_field *field = &head->fields[i];
		if (slice_equal_nocase(field->name, SLICE("authorization"))) {
			note_authorization(keys, field->value);
		} else if (slice_equal_nocase(field->name, SLICE("x-api-key"))) {
			note_key(keys, field->value, "x-api-key");
		} else if (slice_equal_nocase(field->name, SLICE("x-goog-api-key"))) {
			note_key(keys, field->value, "x-goog-api-key");
			caller->google_key = true;
		}
	}
}

/* Also spelled %6Bey: whoever reads the query behind us takes that for the same. */
static bool is_key_name(struct slice name)
{
	char text[3];
	size_t length;

	return text_url_decode(name, text, sizeof(text), &length) &&
	       slice_equal(slice_make(text, length), SLICE("key"));
}

/* False: the arena is full. */
static bool note_key_parameter(struct slice value, struct mem *mem, struct keys *keys)
{
	char *decoded = mem_take(mem, value.len + 1);
	size_t length;

	if (decoded == NULL)
		return false;
	if (text_url_decode(value, decoded, value.len, &length))
		note_key(keys, slice_make(decoded, length), "?key=");
	else
		note_key(keys, value, "?key="); /* no key of anybody */
	return true;
}

/* Takes `key=…` out of the query. False: the arena is full. */
static bool clean_query(struct slice query, struct mem *mem, struct keys *keys, struct caller *caller)
{
	char *kept;
	size_t length = 0;

	caller->query = query;
	if (query.len == 0)
		return true;
	kept = mem_take(mem, query.len);
	if (kept == NULL)
		return false;
	for (struct slice rest = query; rest.len > 0;) {
		struct slice value, part = slice_cut(rest, '&', &rest);
		if (is_key_name(slice_cut(part, '=', &value))) {
			caller->google_key = true;
			if (!note_key_parameter(value, mem, keys))
				return false;
			continue;
		}
		if (length > 0)
			kept[length++] = '&';
		if (part.len > 0)
			memcpy(kept + length, part.data, part.len);
		length += part.len;
	}
	caller->query = slice_make(kept, length);
	return true;
}

/* The algorithm is looked up once: OpenSSL 3 takes longer to find it than to run it. */
static EVP_MD *sha256;
static pthread_once_t sha256_once = PTHREAD_ONCE_INIT;

static void fetch_sha256(void)
{
	sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
}

static void hash_key(struct slice key, unsigned char hash[SHA256_DIGEST_LENGTH])
{
	CHECK(pthread_once(&sha256_once, fetch_sha256) == 0 && sha256 != NULL);
	CHECK(EVP_Digest(key.data, key.len, hash, NULL, sha256, NULL) == 1);
}

static enum refusal refuse_key(const struct keys *keys, struct buf *detail)
{
	if (keys->given)
		buf_format(detail, "The key came in %s and is unknown.", keys->place);
	else if (keys->other_scheme)
		buf_append(detail, SLICE("The scheme of Authorization must be Bearer."));
	else
		buf_append(detail, SLICE("No key came in Authorization: Bearer, x-api-key, x-goog-api-key or ?key=."));
	return REFUSAL_invalid_api_key;
}

static enum refusal find_tenant(const struct config *config, const struct keys *keys, struct caller *caller,
				struct buf *detail)
{
	if (keys->differ) {
		buf_append(detail, SLICE("It carries two different API keys; send one."));
		return REFUSAL_invalid_request;
	}
	if (config->tenants_count == 0 || (!keys->given && config->allow_anonymous))
		return REFUSAL_none;
	if (!keys->given || keys->text.len > KEY_MOST)
		return refuse_key(keys, detail);
	hash_key(keys->text, caller->key_sha256);
	caller->tenant = config_find_tenant(config, caller->key_sha256);
	return caller->tenant != NULL ? REFUSAL_none : refuse_key(keys, detail);
}

/* ---- what else the head tells ------------------------------------------------------------------------------------------ */

static bool is_request_id(struct slice id)
{
	if (id.len == 0 || id.len > REQUEST_ID_MOST)
		return false;
	for (size_t i = 0; i < id.len; i++) {
		unsigned char byte = (unsigned char)id.data[i], letter = byte | 32;
		if (!((letter >= 'a' && letter <= 'z') || (byte >= '0' && byte <= '9') || byte == '-' || byte == '.' ||
		      byte == '_'))
			return false;
	}
	return true;
}

/* Seconds, perhaps with a fraction; nonsense is no deadline. */
static int64_t read_deadline(struct slice value)
{
	double seconds;

	if (!text_decimal(value, &seconds) || seconds <= 0)
		return 0;
	seconds *= CLOCK_SECOND;
	return seconds >= (double)longest_deadline ? longest_deadline : (int64_t)seconds;
}

static void note_deadline(struct caller *caller, struct slice value)
{
	int64_t deadline = read_deadline(value);

	if (deadline > 0 && (caller->deadline == 0 || deadline < caller->deadline))
		caller->deadline = deadline;
}

/* Priority (RFC 9218 section 4): a dictionary, of which the last `u` counts; 3 where it is none. */
static void read_priority(struct slice list, struct caller *caller)
{
	static const enum lane lanes[] = { LANE_HIGH,   LANE_HIGH, LANE_HIGH, LANE_MEDIUM,
					   LANE_MEDIUM, LANE_LOW,  LANE_LOW,  LANE_LOW };

	while (list.len > 0) {
		struct slice rest, item = slice_trim(slice_cut(list, ',', &rest));
		if (item.len >= 3 && item.data[0] == 'u' && item.data[1] == '=' &&
		    (item.len == 3 || item.data[3] == ';')) {
			caller->says_lane = item.data[2] >= '0' && item.data[2] <= '7';
			caller->lane = caller->says_lane ? lanes[item.data[2] - '0'] : LANE_MEDIUM;
		}
		list = rest;
	}
}

static void read_fields(const struct http_head *head, struct caller *caller)
{
	for (size_t i = 0; i < head->fields_count; i++) {
		const struct http_field *field = &head->fields[i];
		if (slice_equal_nocase(field->name, SLICE("content-type")))
			caller->content_type = field->value;
		else if (slice_equal_nocase(field->name, SLICE("anthropic-version")))
			caller->anthropic_version = true;
		else if (slice_equal_nocase(field->name, SLICE("x-request-id")) && is_request_id(field->value))
			caller->request_id = field->value;
		else if (slice_equal_nocase(field->name, SLICE("priority")))
			read_priority(field->value, caller);
		else if (slice_equal_nocase(field->name, SLICE("x-stainless-timeout")) ||
			 slice_equal_nocase(field->name, SLICE("x-server-timeout")))
			note_deadline(caller, field->value);
	}
}

/* ---- the client's address ---------------------------------------------------------------------------------------------- */

/* As IPv6; an address of IPv4 as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2), so that both spellings of it are one. */
struct address {
	unsigned char bytes[16];
};

enum { MAPPED_BITS = 96 }; /* what stands before the IPv4 address */
static const struct address mapped = { .bytes = { [10] = 0xFF, [11] = 0xFF } };

static bool read_address(struct slice text, struct address *address)
{
	char memory[ADDRESS_MOST];

	if (text.len == 0 || text.len >= sizeof(memory))
		return false;
	memcpy(memory, text.data, text.len);
	memory[text.len] = '\0';
	if (memchr(memory, ':', text.len) != NULL)
		return inet_pton(AF_INET6, memory, address->bytes) == 1;
	*address = mapped;
	return inet_pton(AF_INET, memory, address->bytes + MAPPED_BITS / 8) == 1;
}

static bool same_bits(const unsigned char *a, const unsigned char *b, int64_t bits)
{
	size_t whole = (size_t)(bits / 8);
	unsigned char mask = (unsigned char)(0xFF00 >> (bits % 8));

	return memcmp(a, b, whole) == 0 && (mask == 0 || ((a[whole] ^ b[whole]) & mask) == 0);
}

/* An address, or a network in CIDR (RFC 4632); the configuration has checked its form. One of IPv6 that is wide enough to hold the mapped addresses
 * holds none of IPv4 all the same: whoever wrote ::/0 did not mean them. */
static bool is_inside(const struct address *address, struct slice network)
{
	struct slice width, text = slice_cut(network, '/', &width);
	int64_t bits, before = slice_find(text, ':') < text.len ? 0 : MAPPED_BITS;
	struct address base;

	if (!read_address(text, &base))
		return false;
	if (width.len == 0 || !text_int(width, &bits))
		bits = 128 - before;
	bits += before;
	return bits >= before && bits <= 128 && same_bits(address->bytes, base.bytes, bits) &&
	       (bits >= MAPPED_BITS || !same_bits(address->bytes, mapped.bytes, MAPPED_BITS));
}

static bool is_trusted(const struct config *config, struct slice text)
{
	struct address address;

	if (slice_equal(text, SLICE("unix"))) { /* a load balancer on this machine */
		for (size_t i = 0; i < config->trusted_proxies_count; i++)
			if (slice_equal(slice_of(config->trusted_proxies[i]), text))
				return true;
		return false;
	}
	if (!read_address(text, &address))
		return false;
	for (size_t i = 0; i < config->trusted_proxies_count; i++)
		if (is_inside(&address, slice_of(config->trusted_proxies[i])))
			return true;
	return false;
}

/* Some proxies add the port: "a.b.c.d:port", "[v6]:port". */
static struct slice without_port(struct slice text)
{
	struct slice behind, before = slice_cut(text, ':', &behind);

	if (slice_starts(text, SLICE("[")) && slice_find(text, ']') < text.len)
		return slice_first(slice_skip(text, 1), slice_find(text, ']') - 1);
	return slice_find(behind, ':') == behind.len ? before : text;
}

/* Takes the last element off a list; empty when none is left. */
static struct slice cut_last(struct slice *list)
{
	size_t comma = list->len;

	while (comma > 0 && list->data[comma - 1] != ',')
		comma--;
	struct slice last = slice_trim(slice_skip(*list, comma));
	*list = slice_first(*list, comma > 0 ? comma - 1 : 0);
	return last;
}

/* Each proxy appends whom it heard from, to the field or as a field of its own; so they are read from the end, as far as those who wrote are trusted.
 * The hops are capped, because what stands before is whatever the client liked to send. */
static struct slice client_address(const struct config *config, const struct http_head *head, struct slice peer)
{
	struct slice address = peer;
	unsigned hops = 0;

	for (size_t i = head->fields_count; i-- > 0;) {
		struct slice list = head->fields[i].value;
		if (!slice_equal_nocase(head->fields[i].name, SLICE("x-forwarded-for")))
			continue;
		while (list.len > 0) {
			struct address parsed;
			struct slice last = without_port(cut_last(&list));
			if (++hops > HOPS_MOST || !is_trusted(config, address) || !read_address(last, &parsed))
				return address;
			address = last;
		}
	}
	return address;
}

/* A tenant that has a priority cannot go before it: its requests may only say that they can wait. */
static enum lane lane_of(const struct caller *caller)
{
	static const enum lane lanes[] = { [CONFIG_PRIORITY_ANY] = LANE_HIGH,
					   [CONFIG_PRIORITY_HIGH] = LANE_HIGH,
					   [CONFIG_PRIORITY_MEDIUM] = LANE_MEDIUM,
					   [CONFIG_PRIORITY_LOW] = LANE_LOW };
	enum config_priority priority = caller->tenant != NULL ? caller->tenant->priority : CONFIG_PRIORITY_ANY;

	if (caller->says_lane)
		return caller->lane > lanes[priority] ? caller->lane : lanes[priority];
	return priority == CONFIG_PRIORITY_ANY ? LANE_MEDIUM : lanes[priority];
}

enum refusal caller_read(const struct config *config, const struct http_head *head, struct slice peer, struct mem *mem,
			 struct caller *caller, struct buf *detail)
{
	struct keys keys = { .given = false };
	enum refusal refusal;
	struct slice query;

	*caller = (struct caller){ .address = peer, .lane = LANE_MEDIUM };
	caller->path = slice_cut(head->target, '?', &query);
	read_fields(head, caller);
	find_key_fields(head, &keys, caller);
	if (!clean_query(query, mem, &keys, caller)) {
		caller->query = SLICE_NONE;
		return REFUSAL_internal;
	}
	if (config->trusted_proxies_count > 0)
		caller->address = client_address(config, head, peer);
	refusal = find_tenant(config, &keys, caller, detail);
	caller->lane = lane_of(caller);
	return refusal;
}
