/* The few words that tables, wire and flow share: which API is spoken, what is asked of it. */
#ifndef SLUICE_KINDS_H
#define SLUICE_KINDS_H

/* X(name) */
#define DIALECTS(X)        X(gemini) X(openai) X(anthropic) X(http)
#define DIALECT_ENUM(name) DIALECT_##name,
enum dialect { DIALECTS(DIALECT_ENUM) DIALECT_COUNT };
#undef DIALECT_ENUM

/* X(name) */
#define OPERATIONS(X)        X(generate) X(embed) X(count_tokens) X(list_models) X(get_model) X(pass)
#define OPERATION_ENUM(name) OPERATION_##name,
enum operation { OPERATIONS(OPERATION_ENUM) OPERATION_COUNT };
#undef OPERATION_ENUM

#endif
