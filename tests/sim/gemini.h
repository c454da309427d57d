/* Google's generateContent, streamGenerateContent, countTokens and embeddings, as generativelanguage.googleapis.com and Vertex
 * write them: objects spread over lines when whole, on one line as an event, "\r\n" behind events. */
#ifndef SIM_GEMINI_H
#define SIM_GEMINI_H

#include "writer.h"

extern const struct writer gemini_generate, gemini_count, gemini_embed, gemini_batch_embed;

#endif
