/* How many tokens a call will use, guessed before it is sent, so that they can be reserved; settling corrects it.
 *
 *   input    bytes × the model's tokens per byte. Text and media apart: base64 of an image has a hundred times as many
 *            bytes per token as prose.
 *   output   the caller's maximum; else what this tenant usually gets of this model (mean + twice the mean deviation,
 *            as TCP guesses a round trip: Jacobson and Karels, 1988); else what anyone gets of it; else 1,024.
 *
 * Ratios are learnt from the usage that answers report: exponentially weighted sums of tokens and of bytes, their
 * quotient the ratio, each call weighing 1/16; a long call says more than a short one, and no report can move it out
 * of 1/64 to 1 token per byte. One per worker. Bounded: the least recently used are forgotten.
 * Disadvantage: each worker learns for itself, and starts from a guess. */
#ifndef SLUICE_ESTIMATE_H
#define SLUICE_ESTIMATE_H

#include "lib/base.h"
#include "lib/slice.h"

struct estimate;

struct estimate *estimate_new(size_t most); /* models plus pairs of tenant and model to remember; ≥ 2 */
void estimate_free(struct estimate **);
size_t estimate_count(const struct estimate *);

enum { ESTIMATE_NAME_MOST = 256 }; /* bytes */

struct estimate_call {
	struct slice tenant, model; /* longer than ESTIMATE_NAME_MOST: guessed from the defaults, and not learnt */
	int64_t text_bytes;         /* of the request's body without media */
	int64_t media_bytes;        /* base64 and the like */
};
struct estimate_tokens {
	int64_t input, output;
};

/* max_output: the caller's, -1 when it gave none. burst: the smallest that a token limit of the call can ever grant
 * at once, 0 when there is none; input is cut to it and output to what input leaves, so that neither a guess nor a
 * generous maximum makes a call impossible. False when the text, at 64 bytes a token, surely does not fit: no waiting
 * would help; `input` is then that least. */
bool estimate_tokens(struct estimate *, const struct estimate_call *, int64_t max_output, int64_t burst,
		     struct estimate_tokens *) MUST_CHECK;

/* What the answer reported; counts ≤ 0 (no report) teach nothing. Only answers that ended well belong here: a cut
 * one says too little. */
void estimate_learn(struct estimate *, const struct estimate_call *, const struct estimate_tokens *used);

/* What an answer used of which only `bytes` of text were seen, because it was cut or its provider tells no usage; learnt from answers that say
 * both. */
int64_t estimate_said(struct estimate *, struct slice model, int64_t bytes);
void estimate_learn_said(struct estimate *, struct slice model, int64_t bytes, int64_t tokens);

#endif
