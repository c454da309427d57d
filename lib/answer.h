/* One whole answer that may be given again: its head and its body, opaque bytes to this module; and its packed form for a store that others write to as well.
 *
 *   head, body ──► answer_pack ──► { head, body or a zstd frame of it, raw, sum } ──► the store
 *                                                                                      │
 *   struct answer ◄── answer_unpack ◄──────────────────────────────────────────────────┘
 *
 * The sum binds what was packed to its key, so that an entry that was copied to another key, was cut, or is put together of two is a miss and never
 * somebody's answer. It is no signature: who may write to the store may also make sums. It is looked at before anything is unpacked, so that zstd reads
 * only what it wrote itself, but for the work of such a forger. It is the first half of
 *
 *     SHA-256("answer 1" ‖ key ‖ length of head ‖ length of body ‖ raw ‖ head ‖ body)       (lengths of 8 bytes, the least first; body as it is stored)
 *
 * and who changes what is packed, or how, counts that name on: the entries of another version are misses while a fleet is being replaced.
 *
 * The loop stands still meanwhile. A MiB of text takes about 3 ms to pack and 0.9 ms to unpack, 8 KiB 40 µs and 25 µs, 1 KiB 1 µs each; a MiB that does
 * not compress 0.7 ms and 0.6 ms, but three times that on a processor without instructions for SHA-256. Each call makes a context of zstd for itself:
 * nobody has to own one, and nothing is kept. Disadvantage: zstd asks CPUID whenever it makes one, which a hypervisor traps: 15 µs of each number but the
 * 1 KiB's. */
#ifndef SLUICE_ANSWER_H
#define SLUICE_ANSWER_H

#include "lib/base.h"
#include "lib/slice.h"

struct buf;

/* Counted; read-only from its birth on; dies with its last holder. For one thread. */
struct answer;

/* Copies both, whose sizes are the caller's to bound; held once. */
struct answer *answer_new(struct slice head, struct slice body);
struct answer *answer_hold(struct answer *);     /* the same one */
void answer_release(struct answer **);           /* NULL inside is fine; nulls it */
struct slice answer_head(const struct answer *); /* good as long as the answer is held */
struct slice answer_body(const struct answer *);
size_t answer_size(const struct answer *); /* bytes of memory that it takes */

/* Of clock_now. The last three say until when, that very microsecond not included; one that does not apply is 0. */
struct answer_times {
	int64_t born;  /* when the answer was made */
	int64_t fresh; /* it may be given */
	int64_t stale; /* it may be given while somebody refreshes it */
	int64_t error; /* it may be given when the upstream fails */
};

enum {
	ANSWER_KEY = 32,          /* bytes: a SHA-256 */
	ANSWER_SUM = 16,          /* bytes */
	ANSWER_PACK_LEAST = 4096, /* bytes: a smaller body is stored as it is */
};

/* What a store keeps of an answer. Borrows all of it. */
struct answer_packed {
	struct slice head, body;
	int64_t raw; /* length of the unpacked body: body.len where body is stored as it is; larger where body is a zstd frame */
	unsigned char sum[ANSWER_SUM];
};

/* Packs for the store. A body of ANSWER_PACK_LEAST bytes or more is compressed (zstd, level 1) where that saves at least an eighth and `memory` has room.
 * `memory` is overwritten and holds what was made: nothing of head and body may lie in it, and the packed form is good as long as all three are. */
void answer_pack(const unsigned char key[ANSWER_KEY], struct slice head, struct slice body, struct buf *memory,
		 struct answer_packed *);

/* What was packed under this key, held once; or NULL: it is something else, or larger than `ceiling` bytes of head and body unpacked. Whatever the packed
 * form claims, no more than the ceiling is allocated. */
struct answer *answer_unpack(const unsigned char key[ANSWER_KEY], const struct answer_packed *,
			     size_t ceiling) MUST_CHECK;

#endif
