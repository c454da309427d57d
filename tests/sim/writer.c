#include "writer.h"

#include "anthropic.h"
#include "gemini.h"
#include "openai.h"
#include "responses.h"

static const struct writer *of_gemini(enum verb verb)
{
	switch (verb) {
	case VERB_GENERATE:
		return &gemini_generate;
	case VERB_COUNT_TOKENS:
		return &gemini_count;
	case VERB_EMBED:
		return &gemini_embed;
	case VERB_BATCH_EMBED:
		return &gemini_batch_embed;
	default:
		return NULL;
	}
}

static const struct writer *of_openai(enum verb verb)
{
	switch (verb) {
	case VERB_CHAT:
		return &openai_chat;
	case VERB_RESPONSES:
		return &openai_responses;
	case VERB_COMPLETIONS:
		return &openai_completions;
	case VERB_EMBED:
		return &openai_embed;
	default:
		return NULL;
	}
}

const struct writer *writer_of(const struct ask *ask)
{
	if (ask->dialect == DIALECT_GEMINI)
		return of_gemini(ask->verb);
	if (ask->dialect == DIALECT_OPENAI)
		return of_openai(ask->verb);
	if (ask->dialect == DIALECT_ANTHROPIC && ask->verb == VERB_GENERATE)
		return &anthropic_messages;
	return ask->dialect == DIALECT_ANTHROPIC && ask->verb == VERB_COUNT_TOKENS ? &anthropic_count : NULL;
}
