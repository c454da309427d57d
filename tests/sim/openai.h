/* OpenAI's chat completions, completions and embeddings, as api.openai.com writes them. */
#ifndef SIM_OPENAI_H
#define SIM_OPENAI_H

#include "writer.h"

extern const struct writer openai_chat, openai_completions, openai_embed;

void openai_broken(const struct ask *, struct slice message,
		   struct buf *); /* the error event of its data-only streams */

#endif
