/* The key may stand in four places; SDKs use one each, and some proxies add another. The same key twice is fine, two different ones are not: which of them
 * would be charged is not ours to guess.
 *
 * Finding a tenant takes one SHA-256 and a comparison in constant time per key (svc/config); an unknown key and none are told apart by nobody. */
#include "svc/caller.h"

#include <arpa/inet.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <pthread.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/text.h"

enum { KEY_MOST = 512, REQUEST_ID_MOST = 128, ADDRESS_MOST = 64 };

static const int64_t longest_deadline = CLOCK_DAY;

/* ---- the key ----------------------------------------------------------------------------------------------------------- */

/* What has been found so far; `text` is the key, NULL-length until one is there. */
struct keys {
	struct slice text;
	bool given, differ;
};

static void note_key(struct keys *keys, struct slice key)
{
	if (key.len == 0)
		return;
	keys->differ |= keys->given && !slice_equal(keys->text, key);
	keys->given = true;
	keys->text = key;
}

/* "Bearer KEY" (RFC 6750 section 2.1); the scheme has no case. Any other scheme holds no key of ours. */
static struct slice bearer(struct slice value)
{
	struct slice rest, scheme = slice_cut(value, ' ', &rest);

	return slice_equal_nocase(scheme, SLICE("Bearer")) ? slice_trim(rest) : SLICE_NONE;
}

static void find_key_fields(const struct http_head *head, struct keys *keys, struct caller *caller)
{
	for (size_t i = 0; i < head->fields_count; i++) {
		const struct http_field *field = &head->fields[i];
		if (slice_equal_nocase(field->name, SLICE("authorization"))) {
			note_key(keys, bearer(field->value));
		} else if (slice_equal_nocase(field->name, SLICE("x-api-key"))) {
			note_key(keys, field->value);
		} else if (slice_equal_nocase(field->name, SLICE("x-goog-api-key"))) {
			note_key(keys, field->value);
			caller->google_key = true;
		}
	}
}

/* Takes `key=…` out of the query. False: the arena is full. */
static bool clean_query(struct slice query, struct mem *mem, struct keys *keys, struct caller *caller)
{
	char *kept, *decoded = NULL;
	size_t length = 0, decoded_length;

	caller->query = query;
	if (query.len == 0)
		return true;
	kept = mem_take(mem, query.len);
	if (kept == NULL)
		return false;
	for (struct slice rest = query; rest.len > 0;) {
		struct slice part = slice_cut(rest, '&', &rest);
		if (slice_starts(part, SLICE("key="))) {
			part = slice_skip(part, 4);
			decoded = mem_take(mem, part.len + 1);
			if (decoded == NULL)
				return false;
			caller->google_key = true;
			if (text_url_decode(part, decoded, part.len, &decoded_length))
				note_key(keys, slice_make(decoded, decoded_length));
			else
				note_key(keys, part); /* no key of anybody */
			continue;
		}
		if (length > 0)
			kept[length++] = '&';
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

static enum refusal find_tenant(const struct config *config, const struct keys *keys, struct caller *caller,
				struct buf *detail)
{
	unsigned char hash[SHA256_DIGEST_LENGTH];

	if (keys->differ) {
		buf_append(detail, SLICE("It carries two different API keys; send one."));
		return REFUSAL_invalid_request;
	}
	if (config->tenants_count == 0 || (!keys->given && config->allow_anonymous))
		return REFUSAL_none;
	if (!keys->given || keys->text.len > KEY_MOST)
		return REFUSAL_invalid_api_key;
	hash_key(keys->text, hash);
	caller->tenant = config_find_tenant(config, hash);
	return caller->tenant != NULL ? REFUSAL_none : REFUSAL_invalid_api_key;
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
	if (seconds >= (double)(longest_deadline / CLOCK_SECOND))
		return longest_deadline;
	return (int64_t)(seconds * CLOCK_SECOND);
}

static void note_deadline(struct caller *caller, struct slice value)
{
	int64_t deadline = read_deadline(value);

	if (deadline > 0 && (caller->deadline == 0 || deadline < caller->deadline))
		caller->deadline = deadline;
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
		else if (slice_equal_nocase(field->name, SLICE("x-stainless-timeout")) ||
			 slice_equal_nocase(field->name, SLICE("x-server-timeout")))
			note_deadline(caller, field->value);
	}
}

/* ---- the client's address ---------------------------------------------------------------------------------------------- */

struct address {
	int family;
	unsigned char bytes[16];
};

static bool read_address(struct slice text, struct address *address)
{
	char memory[ADDRESS_MOST];

	if (text.len == 0 || text.len >= sizeof(memory))
		return false;
	memcpy(memory, text.data, text.len);
	memory[text.len] = '\0';
	address->family = memchr(memory, ':', text.len) != NULL ? AF_INET6 : AF_INET;
	return inet_pton(address->family, memory, address->bytes) == 1;
}

static bool same_bits(const unsigned char *a, const unsigned char *b, int64_t bits)
{
	size_t whole = (size_t)(bits / 8);
	unsigned char mask = (unsigned char)(0xFF00 >> (bits % 8));

	return memcmp(a, b, whole) == 0 && (mask == 0 || ((a[whole] ^ b[whole]) & mask) == 0);
}

/* An address, or a network in CIDR (RFC 4632); the configuration has checked its form. */
static bool is_inside(const struct address *address, struct slice network)
{
	struct slice width, text = slice_cut(network, '/', &width);
	struct address base;
	int64_t bits;

	if (!read_address(text, &base) || base.family != address->family)
		return false;
	if (width.len == 0 || !text_int(width, &bits))
		bits = base.family == AF_INET ? 32 : 128;
	return bits >= 0 && bits <= (base.family == AF_INET ? 32 : 128) && same_bits(address->bytes, base.bytes, bits);
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

/* Each proxy appends whom it heard from, to the field or as a field of its own; so they are read from the end, as far as those who wrote are trusted. */
static struct slice client_address(const struct config *config, const struct http_head *head, struct slice peer)
{
	struct slice address = peer;

	for (size_t i = head->fields_count; i-- > 0;) {
		struct slice list = head->fields[i].value;
		if (!slice_equal_nocase(head->fields[i].name, SLICE("x-forwarded-for")))
			continue;
		while (list.len > 0) {
			struct address parsed;
			struct slice last = cut_last(&list);
			if (!is_trusted(config, address) || !read_address(last, &parsed))
				return address;
			address = last;
		}
	}
	return address;
}

enum refusal caller_read(const struct config *config, const struct http_head *head, struct slice peer, struct mem *mem,
			 struct caller *caller, struct buf *detail)
{
	struct keys keys = { .given = false };
	struct slice query;

	*caller = (struct caller){ .address = peer };
	caller->path = slice_cut(head->target, '?', &query);
	read_fields(head, caller);
	find_key_fields(head, &keys, caller);
	if (!clean_query(query, mem, &keys, caller)) {
		caller->query = SLICE_NONE;
		return REFUSAL_internal;
	}
	if (config->trusted_proxies_count > 0)
		caller->address = client_address(config, head, peer);
	return find_tenant(config, &keys, caller, detail);
}
