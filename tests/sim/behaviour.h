/* How one answer is to behave, in words:  latency=20ms tokens=50 rate=100/s fault=reset@123 status=529 nonce=abc
 *
 * The words come, later ones over earlier ones, from the command line (--set), from the rules of the control endpoint, from
 * the model's name, from the prompt ("[[sim …]]") and from the field `x-sim`.
 *
 *   latency=D      to the first byte (20ms); jitter=D adds a random part of it
 *   tokens=N       output tokens; the request's own maximum still cuts them
 *   rate=N[/s]     output tokens a second in a stream; 0 is as fast as the peer reads
 *   chunk=N        tokens in one event of a stream
 *   size=S         bytes of text in the answer, or of the fault's data (64MiB)
 *   thoughts=N     reasoning tokens, part of the output;  cached=N  input tokens said to be cached
 *   status=N       refuse with this status, in the provider's own words; retry=D is its Retry-After, and retry-after-ms where
 *                  the provider has that or D is less than a second
 *   quota=Q        refuse with 429, because a quota is used up: one of a minute, of a day, or the credit (which Anthropic answers
 *                  with 400); with the fields and details that go with it. retry=D is when it is given anew, too
 *   fault=F[@P]    see enum fault; P counts bytes on the wire after the head, or is `head`; for `event` it counts tokens
 *   drip=N         at most N bytes a second;  slice=N  at most N bytes a write
 *   chance=P%      status and fault happen to this share of the requests
 *   nonce=W        [A-Za-z0-9_-]{1,64}: what the answer echoes in every token
 *   framing=F      of a plain answer: length or chunked;  tools=on|off;  usage=on|off
 *   filter=on      the answer ends as the provider's content filter ends it, behind the tokens asked for
 *   fresh=on       the answer closes its connection;  unique=on  ids differ from call to call (else: same request, same bytes) */
#ifndef SIM_BEHAVIOUR_H
#define SIM_BEHAVIOUR_H

#include "lib/base.h"
#include "lib/slice.h"

#define NONCE_MAX 64

/* clang-format off */
#define FAULTS(F)                                                                                  \
	F(none,     "no fault")                                                                    \
	F(reset,    "RST at the position; without one before the head")                            \
	F(fin,      "FIN at the position; without one before the head")                            \
	F(stall,    "nothing more after the position; without one not even a head")                \
	F(truncate, "the body ends in FIN at the position, or half way")                           \
	F(badchunk, "a chunk size that is none at the first boundary after the position")          \
	F(garbage,  "bytes that are not HTTP, then FIN")                                           \
	F(extra,    "a whole answer, and bytes behind its end")                                    \
	F(longline, "a stream whose first line never ends (size, 64 MiB), then FIN")               \
	F(bomb,     "a gzip body of a megabyte that unpacks to size (1 GiB)")                      \
	F(early,    "103 and 100 before the true head")                                            \
	F(event,    "an error inside the stream after the position's tokens, in the dialect")      \
	F(nomarker, "a stream that ends cleanly, without its terminal marker")
/* clang-format on */

#define FAULT_ENUM(name, help) FAULT_##name,
enum fault { FAULTS(FAULT_ENUM) FAULT_COUNT };
#undef FAULT_ENUM

enum quota { QUOTA_NONE, QUOTA_MINUTE, QUOTA_DAY, QUOTA_CREDIT };

#define FAULT_UNSET INT64_C(-1) /* no position was given */

struct behaviour {
	int64_t latency, jitter; /* microseconds */
	int64_t tokens;          /* -1: the dialect's default */
	double rate;             /* tokens a second, 0 = at once */
	int64_t chunk;
	int64_t size; /* 0: not given */
	int64_t thoughts, cached;
	int status;
	enum quota quota; /* counts when status is 429 */
	int64_t retry;    /* microseconds, -1: not given */
	enum fault fault;
	int64_t position; /* FAULT_UNSET, or ≥ 0; `head` is 0 */
	int64_t drip, slice;
	double chance; /* 0 to 1 */
	char nonce[NONCE_MAX + 1];
	bool chunked, tools, usage, filter, fresh, unique;
};

struct behaviour behaviour_default(void);

/* Applies the words; on false *bad is the first that is not understood, and those before it were applied. */
bool behaviour_apply(struct behaviour *, struct slice words, struct slice *bad) MUST_CHECK;

/* What a model's name asks for: sim-slow, sim-429, sim-reset …, each followed by anything (`sim-slow-2`). */
void behaviour_of_model(struct behaviour *, struct slice model);

/* The content of the last "[[sim …]]" in text, or SLICE_NONE. */
struct slice behaviour_in_text(struct slice text);

#endif
