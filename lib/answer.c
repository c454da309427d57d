#include "lib/answer.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <zstd.h>

#include "lib/buf.h"
#include "lib/mem.h"

#define VERSION "answer 1" /* of the packed form */

enum { LEVEL = 1, VERSION_LEN = sizeof(VERSION) - 1, LENGTH_LEN = 8 };

struct answer {
	size_t holders; /* ≥ 1 */
	size_t head, body;
	char bytes[]; /* the head's, then the body's */
};

/* Not zeroed, which would cost as much as filling it: nobody outside sees one that is not full. */
static struct answer *make_room(size_t head, size_t body)
{
	size_t size;

	CHECK(!__builtin_add_overflow(head, body, &size) &&
	      !__builtin_add_overflow(size, sizeof(struct answer), &size));
	struct answer *answer = mem_resize(NULL, size);
	answer->holders = 1;
	answer->head = head;
	answer->body = body;
	return answer;
}

static void fill(char *room, struct slice from)
{
	if (from.len > 0)
		memcpy(room, from.data, from.len);
}

struct answer *answer_new(struct slice head, struct slice body)
{
	struct answer *answer = make_room(head.len, body.len);

	fill(answer->bytes, head);
	fill(answer->bytes + head.len, body);
	return answer;
}

struct answer *answer_hold(struct answer *answer)
{
	answer->holders++;
	return answer;
}

void answer_release(struct answer **handle)
{
	struct answer *answer = *handle;

	*handle = NULL;
	if (answer == NULL)
		return;
	CHECK(answer->holders > 0);
	if (--answer->holders == 0)
		mem_free(answer);
}

struct slice answer_head(const struct answer *answer)
{
	return slice_make(answer->bytes, answer->head);
}

struct slice answer_body(const struct answer *answer)
{
	return slice_make(answer->bytes + answer->head, answer->body);
}

size_t answer_size(const struct answer *answer)
{
	return sizeof(*answer) + answer->head + answer->body;
}

/* ---- packed ------------------------------------------------------------------------------------------------------------ */

static unsigned char *put(unsigned char *at, const void *bytes, size_t count)
{
	memcpy(at, bytes, count);
	return at + count;
}

static unsigned char *put_length(unsigned char *at, uint64_t length)
{
	for (int i = 0; i < LENGTH_LEN; i++)
		*at++ = (unsigned char)(length >> (8 * i));
	return at;
}

/* The lengths stand before what they measure, at places of their own, so that no two entries make the same bytes. EVP_sha256 looks the digest up anew:
 * 0.2 µs, and nothing of it to keep. */
static void sum_of(const unsigned char key[ANSWER_KEY], const struct answer_packed *packed,
		   unsigned char sum[ANSWER_SUM])
{
	unsigned char front[VERSION_LEN + ANSWER_KEY + 3 * LENGTH_LEN], digest[SHA256_DIGEST_LENGTH];
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	unsigned char *at = put(front, VERSION, VERSION_LEN);

	at = put(at, key, ANSWER_KEY);
	at = put_length(at, packed->head.len);
	at = put_length(at, packed->body.len);
	at = put_length(at, (uint64_t)packed->raw);
	CHECK(at == front + sizeof(front));
	CHECK(context != NULL && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1);
	CHECK(EVP_DigestUpdate(context, front, sizeof(front)) == 1);
	CHECK(EVP_DigestUpdate(context, packed->head.data, packed->head.len) == 1);
	CHECK(EVP_DigestUpdate(context, packed->body.data, packed->body.len) == 1);
	CHECK(EVP_DigestFinal_ex(context, digest, NULL) == 1);
	EVP_MD_CTX_free(context);
	memcpy(sum, digest, ANSWER_SUM);
}

/* The body as one frame in `memory`. False: it does not fit into seven eighths, of which zstd is given no more. */
static bool compress(struct slice body, struct buf *memory)
{
	size_t most = body.len / 8 * 7;

	if (body.len < ANSWER_PACK_LEAST || !buf_reserve(memory, most))
		return false;
	size_t made = ZSTD_compress(memory->data, most, body.data, body.len, LEVEL);
	if (ZSTD_isError(made))
		return false;
	memory->len = made;
	return true;
}

void answer_pack(const unsigned char key[ANSWER_KEY], struct slice head, struct slice body, struct buf *memory,
		 struct answer_packed *packed)
{
	buf_clear(memory);
	*packed = (struct answer_packed){ .head = head, .raw = (int64_t)body.len };
	packed->body = compress(body, memory) ? buf_slice(memory) : body;
	sum_of(key, packed, packed->sum);
}

static bool is_within(const struct answer_packed *packed, size_t ceiling)
{
	return packed->raw >= 0 && packed->head.len <= ceiling && (uint64_t)packed->raw <= ceiling - packed->head.len &&
	       packed->body.len <= (uint64_t)packed->raw;
}

static bool is_its_sum(const unsigned char key[ANSWER_KEY], const struct answer_packed *packed)
{
	unsigned char sum[ANSWER_SUM];

	sum_of(key, packed, sum);
	return memcmp(sum, packed->sum, ANSWER_SUM) == 0;
}

/* Decompressed at once, into the answer itself, for which zstd needs no window, whatever size of one the frame asks for. Its errors are numbers that are
 * larger than any length. */
static struct answer *decompress(const struct answer_packed *packed)
{
	size_t raw = (size_t)packed->raw;
	struct answer *answer = make_room(packed->head.len, raw);

	fill(answer->bytes, packed->head);
	if (ZSTD_decompress(answer->bytes + packed->head.len, raw, packed->body.data, packed->body.len) != raw)
		answer_release(&answer);
	return answer;
}

struct answer *answer_unpack(const unsigned char key[ANSWER_KEY], const struct answer_packed *packed, size_t ceiling)
{
	if (!is_within(packed, ceiling) || !is_its_sum(key, packed))
		return NULL;
	if ((uint64_t)packed->raw == packed->body.len)
		return answer_new(packed->head, packed->body);
	return decompress(packed);
}
