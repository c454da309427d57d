/* What one API request asks for, drawn from its body, and the behaviour that its answer is to have. It holds copies of the
 * few things that the answer needs, so that an open stream keeps neither its request's head nor its body.
 *
 * How tokens are counted (the simulator's only price list, and `usage` is true to it):
 *   input  = ⌈text bytes / 4⌉ + 258 per image or file, at least 1. Text is every decoded string of the prompt that stands under
 *            text, content, input, prompt, system, instructions, arguments, output or thinking, or in an array under one of
 *            these; a prompt given as token numbers counts them. Tools and settings cost nothing.
 *   output = the tokens sent, one per word of the answer ("nonce.i "), times the number of choices; a tool call costs as many
 *            tokens as its arguments have bytes / 4, rounded up; `thoughts` is added to them. */
#ifndef SIM_ASK_H
#define SIM_ASK_H

#include "behaviour.h"
#include "route.h"

#define MODEL_MAX    128
#define IMAGE_TOKENS 258

struct tool_call {
	char *name;      /* NULL: the answer is text */
	char *arguments; /* JSON; deterministic from the tool's schema and the nonce */
};

/* Owned by its exchange, dies with it. After ask_read: model and nonce are set, input ≥ 1, output ≤ the request's maximum. */
struct ask {
	enum dialect dialect;
	enum verb verb;
	bool stream, array, vertex, include_usage, base64; /* array: Gemini's stream as JSON array */
	bool cut;                                          /* output was cut by the request's maximum */
	bool echoes_nonce;                                 /* the nonce was given, not made from the body */
	char model[MODEL_MAX + 1];
	char nonce[NONCE_MAX + 1];
	struct behaviour behaviour;
	struct tool_call tool;
	int64_t input;       /* tokens */
	int64_t output;      /* tokens of text per choice, thoughts not counted */
	int64_t pad;         /* bytes of filler in every token, from size= */
	unsigned choices;    /* n */
	unsigned items;      /* inputs of an embedding call */
	unsigned dimensions; /* of an embedding; 0: the model's own */
	uint64_t seed;
	int64_t created; /* seconds; from the seed too, so that the same request gets the same bytes */
};

/* Why a body is refused; the dialect's words for it are in refusal.c. */
enum ask_fault {
	ASK_FINE,
	ASK_NOT_JSON,
	ASK_NO_MODEL,
	ASK_NO_MESSAGES, /* contents, messages, input, prompt: what the verb needs */
	ASK_NO_MAXIMUM,  /* Anthropic's max_tokens */
	ASK_MODEL_TOO_LONG,
};

/* Fills in what the body says. ask->dialect, verb, behaviour (defaults), and the path's model are set before. */
struct rules;
enum ask_fault ask_read(struct ask *, struct slice body, struct slice x_sim, struct rules *) MUST_CHECK;
void ask_free_content(struct ask *);

/* All that is billed when everything was sent. */
int64_t ask_output_in_all(const struct ask *);

#endif
