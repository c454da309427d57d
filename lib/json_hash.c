#include "lib/json_hash.h"

#include <openssl/evp.h>
#include <stdlib.h>

#include "lib/buf.h"
#include "lib/json_number.h"
#include "lib/mem.h"

/* A form is a length and so many bytes, or this and a digest. */
enum { DIGESTED = 255 };
_Static_assert((int)JSON_HASH_SHORT < (int)DIGESTED, "a length is one byte");

struct member {
	size_t at, name, whole;    /* in `held`: where its forms begin, how long its name's is, and both together */
	const unsigned char *form; /* the same place, once `held` does not move */
	size_t offset;             /* in the text */
};

/* One open object, or (the first) the whole text. What belongs to it now is a name, or a value, or the whole text: its first bytes stand in `bytes`; when
 * they are too many, all go into the context. Contexts stay for the next object at this depth. */
struct frame {
	EVP_MD_CTX *context;
	bool spilled; /* bytes have gone into the context */
	bool member;  /* one is open: the last of `members` */
	size_t first; /* where its members begin in `members` */
	size_t held;  /* where their forms begin in `held` */
	size_t used;
	unsigned char bytes[JSON_HASH_SHORT];
};

/* Owned by one scan. Between calls: depth frames are open above the first; members of open objects stand in `members`,
 * the innermost object's last, and their forms in `held`; `lost` means that no hash will come and nothing is done any more. */
struct json_hash {
	EVP_MD *sha256;
	struct frame *frames;
	size_t depth, frame_capacity;
	struct member *members;
	size_t count, capacity;
	struct buf held;
	bool lost, finished;
	unsigned char digest[JSON_HASH_SIZE]; /* of the text, once finished */
};

/* libcrypto refuses only for want of memory here, and that ends the process as in lib/mem. */
static void spill(struct json_hash *h, struct frame *frame, const void *bytes, size_t length)
{
	if (!frame->spilled)
		CHECK(EVP_DigestInit_ex(frame->context, h->sha256, NULL) == 1);
	frame->spilled = true;
	CHECK(EVP_DigestUpdate(frame->context, frame->bytes, frame->used) == 1);
	CHECK(EVP_DigestUpdate(frame->context, bytes, length) == 1);
	frame->used = 0;
}

static void put(struct json_hash *h, const void *bytes, size_t length)
{
	struct frame *frame = &h->frames[h->depth];

	if (length > JSON_HASH_SHORT - frame->used) {
		spill(h, frame, bytes, length);
	} else if (length > 0) {
		memcpy(frame->bytes + frame->used, bytes, length);
		frame->used += length;
	}
}

static void put_byte(struct json_hash *h, unsigned char byte)
{
	put(h, &byte, 1);
}

static void end_digest(struct json_hash *h, struct frame *frame, unsigned char digest[JSON_HASH_SIZE])
{
	spill(h, frame, NULL, 0);
	CHECK(EVP_DigestFinal_ex(frame->context, digest, NULL) == 1);
	frame->spilled = false;
}

/* What the frame holds becomes a form behind those that are held. Returns the form's length. */
static size_t hold(struct json_hash *h)
{
	struct frame *frame = &h->frames[h->depth];
	unsigned char form[1 + JSON_HASH_SHORT] = { (unsigned char)frame->used };
	size_t length = 1 + frame->used;

	if (frame->spilled) {
		form[0] = DIGESTED;
		end_digest(h, frame, form + 1);
		length = 1 + JSON_HASH_SIZE;
	} else {
		memcpy(form + 1, frame->bytes, frame->used);
	}
	frame->used = 0;
	CHECK(buf_append(&h->held, slice_make((const char *)form, length)));
	return length;
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
	frame->spilled = frame->member = false;
	frame->first = h->count;
	frame->held = h->held.len;
	frame->used = 0;
}

struct json_hash *json_hash_new(void)
{
	struct json_hash *h = mem_new(sizeof(*h));

	CHECK((h->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL)) != NULL);
	buf_init(&h->held, SIZE_MAX); /* no longer than the text's names and numbers make it */
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
	buf_free(&h->held);
	mem_free(h->frames);
	mem_free(h->members);
	mem_free(h);
	*hash = NULL;
}

void json_hash_reset(struct json_hash *h)
{
	h->count = 0;
	h->lost = h->finished = false;
	buf_clear(&h->held);
	open_frame(h, 0);
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
	if (h->frames[h->depth].member)
		h->members[h->count - 1].whole += hold(h);
	h->frames[h->depth].member = false;
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
	h->members[h->count++] = (struct member){ .at = h->held.len, .offset = offset };
	h->frames[h->depth].member = true;
}

void json_hash_name_end(struct json_hash *h)
{
	if (h->lost)
		return;
	struct member *member = &h->members[h->count - 1];
	member->name = member->whole = hold(h);
}

void json_hash_open(struct json_hash *h, bool array)
{
	if (h->lost)
		return;
	put_byte(h, array ? '[' : '{');
	if (!array)
		open_frame(h, h->depth + 1);
}

/* A form says its own length first: none is the beginning of another. */
static int compare_names(const struct member *a, const struct member *b)
{
	return memcmp(a->form, b->form, a->name < b->name ? a->name : b->name);
}

static int compare_members(const void *left, const void *right)
{
	const struct member *a = left, *b = right;
	int order = compare_names(a, b);

	return order != 0 ? order : (a->offset > b->offset) - (a->offset < b->offset);
}

/* The earliest member, in the order of the text, whose name stood before. */
static bool find_duplicate(const struct member *members, size_t count, size_t *offset)
{
	bool found = false;

	for (size_t i = 1; i < count; i++) {
		if (compare_names(&members[i - 1], &members[i]) != 0 || (found && members[i].offset > *offset))
			continue;
		*offset = members[i].offset;
		found = true;
	}
	return found;
}

static void sort_members(const struct json_hash *h, struct member *members, size_t count)
{
	for (size_t i = 0; i < count; i++)
		members[i].form = (const unsigned char *)h->held.data + members[i].at;
	if (count > 1)
		qsort(members, count, sizeof(*members), compare_members);
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
	const struct frame *frame = &h->frames[h->depth];
	size_t count = h->count - frame->first;
	struct member *members = count == 0 ? NULL : h->members + frame->first;
	sort_members(h, members, count);
	if (find_duplicate(members, count, offset))
		return false;
	h->depth--;
	for (unsigned shift = 0; shift < 32; shift += 8)
		put_byte(h, (unsigned char)(count >> shift));
	for (size_t i = 0; i < count; i++)
		put(h, members[i].form, members[i].whole);
	h->count = frame->first;
	h->held.len = frame->held;
	return true;
}

bool json_hash_finish(struct json_hash *h, unsigned char digest[JSON_HASH_SIZE])
{
	if (h->lost)
		return false;
	if (!h->finished)
		end_digest(h, &h->frames[0], h->digest);
	h->finished = true;
	memcpy(digest, h->digest, sizeof(h->digest));
	return true;
}
