/* OpenAI's Responses API: the response object, and the family of events that builds it up. */
#ifndef SIM_RESPONSES_H
#define SIM_RESPONSES_H

#include "writer.h"

extern const struct writer openai_responses;

#endif
