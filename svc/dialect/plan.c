/* The tables of members, compiled into plans once for the process and shared by all threads: a plan per request would
 * cost more than reading the request. */
#include <pthread.h>

#include "svc/dialect/dialect_internal.h"

static const struct dialect_table *const tables[] = {
	&dialect_gemini_body,    &dialect_gemini_answer,  &dialect_gemini_array,     &dialect_gemini_failure,
	&dialect_openai_body,    &dialect_openai_chat,    &dialect_openai_responses, &dialect_openai_embeddings,
	&dialect_openai_failure, &dialect_anthropic_body, &dialect_anthropic_answer, &dialect_anthropic_failure,
};

/* Written once, below `once`; afterwards as constant as the tables. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct json_path paths[ARRAY_LENGTH(tables)][DIALECT_PATHS];
static const struct json_plan *plans[ARRAY_LENGTH(tables)];

static void compile(void)
{
	for (size_t t = 0; t < ARRAY_LENGTH(tables); t++) {
		CHECK(tables[t]->count <= DIALECT_PATHS);
		for (size_t i = 0; i < tables[t]->count; i++)
			paths[t][i] = (struct json_path){ tables[t]->paths[i].path, tables[t]->paths[i].keep };
		plans[t] = json_plan_new(paths[t], tables[t]->count);
	}
}

const struct json_plan *dialect_plan(const struct dialect_table *table)
{
	size_t t = 0;

	CHECK(pthread_once(&once, compile) == 0);
	while (t < ARRAY_LENGTH(tables) && tables[t] != table)
		t++;
	CHECK(t < ARRAY_LENGTH(tables));
	return plans[t];
}
