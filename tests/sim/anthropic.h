/* Anthropic's messages and count_tokens, as api.anthropic.com writes them. */
#ifndef SIM_ANTHROPIC_H
#define SIM_ANTHROPIC_H

#include "writer.h"

extern const struct writer anthropic_messages, anthropic_count;

#endif
