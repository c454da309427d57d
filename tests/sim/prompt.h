/* One walk over the part of a body that is prompt: how much text, how many images, and the last directive in it. */
#ifndef SIM_PROMPT_H
#define SIM_PROMPT_H

#include "lib/base.h"
#include "lib/slice.h"

struct prompt {
	size_t text_bytes;
	int64_t images;
	int64_t numbers;        /* tokens given as numbers */
	struct slice directive; /* what stands in the last "[[sim …]]" */
};

/* Adds a value that stands under `key`. See ask.h for the rule. */
void prompt_add(struct prompt *, struct slice key, struct slice value);
int64_t prompt_tokens(const struct prompt *);

/* Whether the conversation's last turn brings a tool's result, in any dialect. */
bool prompt_ends_in_tool_result(struct slice turns);

#endif
