/* What the checks of svc/config share: where one stands in the file, and how it complains there.
 *
 *   config_check ──► doors, cache, coalesce: here ──► upstreams ──► models ──► tenants
 *
 * A check runs only when all that it looks at was read well: what is made of a mistake would be another one, which nobody made. A mistake is told in the line
 * where it stands, or that of the nearest key above it that the file has. */
#ifndef SLUICE_CONFIG_CHECK_H
#define SLUICE_CONFIG_CHECK_H

#include "svc/config_internal.h"

/* Where the checking stands. */
struct config_check {
	struct config_errors *errors;
	struct config *config;
	const struct config_node *root;
	const char *folder;
	int misread; /* mistakes that were found before the first check */
};

/* The way from the root to a value: keys, and "[0]" for an element. */
struct config_place {
	const char *step[8]; /* NULL-terminated */
};
#define CONFIG_PLACE(...) (&(const struct config_place){ { __VA_ARGS__ } })

/* "[3]", as long as it lives. */
struct config_index {
	char text[24];
};
const char *config_check_index(struct config_index *, size_t);

/* What the file has at a place. */
struct config_spot {
	const struct config_node *node; /* NULL: nothing */
	int line;                       /* of the node, or of the last step that the file has */
	char path[512];                 /* for people */
};
/* Takes time that grows with the number of siblings. */
struct config_spot config_check_find(const struct config_check *, const struct config_place *);
/* Whether one more mistake would be told, and not only counted: nothing that takes long is done for what nobody reads. */
bool config_check_tells(const struct config_check *) MUST_CHECK;
/* A value as an error may quote it: what a ${…} stands for may be a secret, so then as the file has it. */
const char *config_check_as_written(const struct config_check *, const struct config_place *, const char *value);
void config_check_complain(const struct config_check *, const struct config_place *, const char *format, ...)
	PRINTF_LIKE(3, 4);

/* Whether what stands at these keys of the file's top, and below them, was read well. */
#define CONFIG_IS_RIGHT(c, ...) config_check_is_right(c, CONFIG_PLACE(__VA_ARGS__))
bool config_check_is_right(const struct config_check *, const struct config_place *keys) MUST_CHECK;
/* The same of the entry of this name, the index-th of its section. */
bool config_check_entry_is_right(const struct config_check *, const char *section, size_t index,
				 const char *name) MUST_CHECK;

bool config_check_has_token_limit(const struct limits *) MUST_CHECK;

void config_check_upstreams(const struct config_check *);
void config_check_pool(const struct config_check *, struct config_upstream *);
void config_check_pools(const struct config_check *); /* of all upstreams together */
void config_check_models(const struct config_check *);
void config_check_queue(const struct config_check *); /* and gives each model its group */
void config_check_tenants(const struct config_check *);

#endif
