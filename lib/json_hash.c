#include "lib/json_hash.h"

#include <openssl/evp.h>
#include <stdlib.h>

#include "lib/json_number.h"
#include "lib/mem.h"

struct member {
	unsigned char name[JSON_HASH_SIZE], digest[JSON_HASH_SIZE];
	size_t offset;
};

/* One open object, or (the first) the whole text. Its context takes what belongs to it: the member that is open, or the
 * text's value. Contexts stay for the next object at this depth. */
struct frame {
	EVP_MD_CTX *context;
	size_t first; /* where its members begin in `members` */
	bool member;  /* one is open: the last of `members` */
};

/* Owned by one scan. Between calls: depth frames are open above the first; members of open objects stand in `members`,
 * the innermost object's last; `lost` means that no hash will come and nothing is done any more. */
struct json_hash {
	EVP_MD *sha256;
	struct frame *frames;
	size_t depth, frame_capacity;
	struct member *members;
	size_t count, capacity;
	bool lost, finished;
	unsigned char digest[JSON_HASH_SIZE]; /* of the text, once finished */
};

/* libcrypto refuses only for want of memory here, and that ends the process as in lib/mem. */
static void put(struct json_hash *h, const void *bytes, size_t length)
{
	CHECK(EVP_DigestUpdate(h->frames[h->depth].context, bytes, length) == 1);
}

static void put_byte(struct json_hash *h, unsigned char byte)
{
	put(h, &byte, 1);
}

static void start_digest(struct json_hash *h)
{
	CHECK(EVP_DigestInit_ex(h->frames[h->depth].context, h->sha256, NULL) == 1);
}

static void end_digest(struct json_hash *h, unsigned char digest[JSON_HASH_SIZE])
{
	CHECK(EVP_DigestFinal_ex(h->frames[h->depth].context, digest, NULL) == 1);
}

static void open_frame(struct json_hash *h, size_t depth)
{
	if (depth == h->frame_capacity) {
		size_t capacity = depth * 2 + 4;
		h->frames = mem_resize(h->frames, capacity * sizeof(*h->frames));
		for (size_t i = depth; i < capacity; i++)
			h->frames[i].context = NULL;
		h->frame_capacity = capacity;
	}
	h->depth = depth;
	struct frame *frame = &h->frames[depth];
	if (frame->context == NULL)
		CHECK((frame->context = EVP_MD_CTX_new()) != NULL);
	frame->first = h->count;
	frame->member = false;
}

struct json_hash *json_hash_new(void)
{
	struct json_hash *h = mem_new(sizeof(*h));

	CHECK((h->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL)) != NULL);
	json_hash_reset(h);
	return h;
}

void json_hash_free(struct json_hash **hash)
{
	struct json_hash *h = *hash;

	if (h == NULL)
		return;
	for (size_t i = 0; i < h->frame_capacity; i++)
		EVP_MD_CTX_free(h->frames[i].context);
	EVP_MD_free(h->sha256);
	mem_free(h->frames);
	mem_free(h->members);
	mem_free(h);
	*hash = NULL;
}

void json_hash_reset(struct json_hash *h)
{
	h->count = 0;
	h->lost = h->finished = false;
	open_frame(h, 0);
	start_digest(h);
}

void json_hash_word(struct json_hash *h, char first)
{
	if (!h->lost)
		put_byte(h, first == 'n' ? 'z' : (unsigned char)first);
}

void json_hash_number(struct json_hash *h, const struct json_number *number)
{
	char text[JSON_NUMBER_TEXT];
	unsigned length = json_number_canonical(number, text);

	if (length == 0)
		h->lost = true;
	if (h->lost)
		return;
	put_byte(h, 'n');
	put(h, text, length);
	put_byte(h, 0xFF);
}

void json_hash_string_start(struct json_hash *h)
{
	if (!h->lost)
		put_byte(h, 's');
}

void json_hash_bytes(struct json_hash *h, struct slice run)
{
	if (!h->lost)
		put(h, run.data, run.len);
}

void json_hash_string_end(struct json_hash *h)
{
	if (!h->lost)
		put_byte(h, 0xFF);
}

static void end_member(struct json_hash *h)
{
	struct frame *frame = &h->frames[h->depth];

	if (frame->member)
		end_digest(h, h->members[h->count - 1].digest);
	frame->member = false;
}

void json_hash_name_start(struct json_hash *h, size_t offset)
{
	if (h->lost)
		return;
	end_member(h);
	if (h->count == JSON_HASH_MEMBERS) {
		h->lost = true;
		return;
	}
	if (h->count == h->capacity) {
		h->capacity = h->capacity * 2 + 16;
		h->members = mem_resize(h->members, h->capacity * sizeof(*h->members));
	}
	h->members[h->count++].offset = offset;
	h->frames[h->depth].member = true;
	start_digest(h);
}

void json_hash_name_end(struct json_hash *h)
{
	if (h->lost)
		return;
	struct member *member = &h->members[h->count - 1];
	end_digest(h, member->name);
	start_digest(h);
	put(h, member->name, sizeof(member->name));
}

void json_hash_open(struct json_hash *h, bool array)
{
	if (h->lost)
		return;
	put_byte(h, array ? '[' : '{');
	if (!array)
		open_frame(h, h->depth + 1);
}

static int compare_members(const void *left, const void *right)
{
	const struct member *a = left, *b = right;
	int order = memcmp(a->name, b->name, sizeof(a->name));

	return order != 0 ? order : (a->offset > b->offset) - (a->offset < b->offset);
}

/* The earliest member, in the order of the text, whose name stood before. */
static bool find_duplicate(const struct member *members, size_t count, size_t *offset)
{
	bool found = false;

	for (size_t i = 1; i < count; i++) {
		if (memcmp(members[i - 1].name, members[i].name, JSON_HASH_SIZE) != 0 ||
		    (found && members[i].offset > *offset))
			continue;
		*offset = members[i].offset;
		found = true;
	}
	return found;
}

bool json_hash_close(struct json_hash *h, bool array, size_t *offset)
{
	if (h->lost)
		return true;
	if (array) {
		put_byte(h, ']');
		return true;
	}
	end_member(h);
	size_t first = h->frames[h->depth].first, count = h->count - first;
	struct member *members = count == 0 ? NULL : h->members + first;
	h->depth--;
	h->count = first;
	if (count > 0)
		qsort(members, count, sizeof(*members), compare_members);
	if (find_duplicate(members, count, offset))
		return false;
	for (unsigned shift = 0; shift < 32; shift += 8)
		put_byte(h, (unsigned char)(count >> shift));
	for (size_t i = 0; i < count; i++)
		put(h, members[i].digest, sizeof(members[i].digest));
	return true;
}

bool json_hash_finish(struct json_hash *h, unsigned char digest[JSON_HASH_SIZE])
{
	if (h->lost)
		return false;
	if (!h->finished)
		end_digest(h, h->digest);
	h->finished = true;
	memcpy(digest, h->digest, sizeof(h->digest));
	return true;
}
