/* What the parts of svc/config share: the tree that was read, the table that judges it, the list of what is wrong with it.
 *
 *   file ──► config_yaml (libyaml; lines) ──► config_read (by config_table's rows) ──► config_check (what rows cannot say) ──► struct config */
#ifndef SLUICE_CONFIG_INTERNAL_H
#define SLUICE_CONFIG_INTERNAL_H

#include <stdatomic.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/file.h"
#include "lib/mem.h"
#include "lib/slice.h"
#include "svc/config.h"

/* ---- the tree ----------------------------------------------------------------------------------------------------------- */

enum config_node_kind { CONFIG_SCALAR, CONFIG_MAPPING, CONFIG_SEQUENCE };

/* In an arena that lives as long as the reading. */
struct config_node {
	enum config_node_kind kind;
	int line;          /* of the value */
	struct slice text; /* of a scalar; NUL-terminated */
	bool plain;        /* a scalar without quotes */
	const struct config_node *parent;
	struct slice key; /* of a mapping's entry */
	int key_line;
	struct config_node *first, *next; /* children; siblings */
};

/* What was found: `count` in all, of which the first CONFIG_COMPLAINTS are kept, in the order of finding until they are told. */
enum { CONFIG_COMPLAINTS = 20, CONFIG_STEP = 200 /* bytes of a name that stands in a path, at most */ };
struct config_finding {
	int line;
	char *path, *text; /* owned */
};
struct config_findings {
	int count;
	struct config_finding kept[CONFIG_COMPLAINTS];
};
struct config_errors {
	const char *file;
	struct config_findings mistakes, warnings; /* warnings are told when nothing is wrong */
};
void config_complain(struct config_errors *, int line, const char *path, const char *format, ...) PRINTF_LIKE(4, 5);
/* For what works, but surely not as it was meant. */
void config_warn(struct config_errors *, int line, const char *path, const char *format, ...) PRINTF_LIKE(4, 5);
/* Whether one of the first so many mistakes is at this path or below it, in the lines `from` to `to`. */
bool config_is_wrong(const struct config_errors *, int first, struct slice path, int from, int to) MUST_CHECK;
/* "FILE:LINE: path: …", a line each, in one line whatever was read, in the order of the file's lines. */
void config_errors_tell(struct config_errors *, struct buf *out);
void config_errors_free(struct config_errors *);

/* NULL when it is no YAML that this program takes; the root is a mapping. A key that stands twice is complained about, and no more. */
struct config_node *config_yaml_parse(struct slice text, struct mem *, struct config_errors *);
/* Overwrites the texts: a file may hold secrets. */
void config_yaml_wipe(struct config_node *);
const struct config_node *config_node_find(const struct config_node *mapping, struct slice key); /* NULL: not there */
bool config_node_is_nothing(const struct config_node *);  /* YAML's null: "key:", "key: ~", "key: null" */
const char *config_node_kind(const struct config_node *); /* for people */

/* ---- the table ---------------------------------------------------------------------------------------------------------- */

enum config_type {
	CONFIG_TEXT,     /* char * */
	CONFIG_TEXTS,    /* char **, count; a single text will do */
	CONFIG_INT,      /* int64_t */
	CONFIG_COUNT,    /* int64_t, with k, M, G; `words[0]` stands for 0 */
	CONFIG_SIZE,     /* int64_t, bytes */
	CONFIG_DURATION, /* int64_t, microseconds */
	CONFIG_PERCENT,  /* int64_t, parts of 10,000 */
	CONFIG_DOLLARS,  /* int64_t, millionths; `words[0]` stands for -1 */
	CONFIG_BOOL,     /* bool */
	CONFIG_WORD,     /* enum: the index of one of `words` */
	CONFIG_LIMITS,   /* struct limits; least: strict unless a burst is given */
	CONFIG_KEYS,     /* struct config_key *, count */
	CONFIG_UPSTREAM, /* const struct config_upstream *, by name */
	CONFIG_SECTION,  /* a struct inside this one */
	CONFIG_NAMED,    /* an array of structs, count; a mapping; the name is each struct's first member */
	CONFIG_LIST,     /* an array of structs, count; a sequence */
	CONFIG_LATER,    /* not built in this version; `words[0]`, if any, is what it may say all the same */
};

enum config_flags {
	CONFIG_REQUIRED = 1,
	CONFIG_SECRET = 2,  /* never shown */
	CONFIG_RESTART = 4, /* a reload may not change it */
	CONFIG_UNTOLD = 8,  /* shown, but no error quotes it: a secret is easily put there by mistake */
	CONFIG_RATE = 32,   /* a count for the period in its key's name; a mapping would do too */
};

struct config_row {
	const char *name;
	enum config_type type;
	size_t offset, count_offset;
	unsigned flags;
	const char *standard;     /* as it would be written; NULL: nothing */
	int64_t least, most;      /* of numbers; of lists, how many */
	const char *const *words; /* NULL-terminated */
	const struct config_section *section;
	const char *help;
};

/* What a key is when the file does not say it, and the section's first row, a CONFIG_WORD, says `word`. */
struct config_preset {
	int word;
	const char *key, *standard; /* the key is NULL at the end of a table */
};

struct config_section {
	size_t size;
	const struct config_row *rows;
	size_t count;
	const char *name_rule; /* of a CONFIG_NAMED entry: what a name may be, for people */
	size_t name_most;
	const struct config_preset *presets; /* NULL: none */
};

extern const struct config_section config_root, config_table_upstream, config_table_model;

/* ---- reading ------------------------------------------------------------------------------------------------------------ */

struct map;
/* The counted whole; `config` first, so that a pointer to it is one to the whole. */
struct config_whole {
	struct config config;
	_Atomic unsigned references;
	struct map *upstreams, *models; /* by name; NULL until all rows are read */
	struct map *keys;               /* tenants by their keys' SHA-256 */
};
void config_index_names(struct config *);
/* NULL, or the tenant that has this key already. */
const struct config_tenant *config_index_key(struct config *, const struct config_key *, const struct config_tenant *);

struct config_reader {
	struct config_errors errors;
	struct config *config;
	const char *folder;       /* ${file:…} and ca_file are relative to it; NULL: the working directory */
	enum file_patience files; /* which files ${file:…} may be */
	struct buf text; /* of the value that is being read, its ${…} resolved; never moves, so that it can be wiped */
	char path[512];  /* where the reading stands: upstreams.gemini.pool.min; CONFIG_STEP bytes of a name at most */
};

/* What is being read: where it stands, how it was written. */
struct config_value {
	struct config_reader *reader;
	const struct config_row *row;
	const struct config_node *node;
};
enum { CONFIG_VALUE = 64 * 1024 }; /* bytes of one value, at most */
/* "found …; allowed: …"; without what was found where it could be a secret. */
void config_wrong(const struct config_value *, const char *allowed);
/* One scalar of the row's type into its place; nothing is written when it is wrong. */
void config_read_scalar(struct config_value *, void *into);

/* Fills `into` (zeroed) with the rows' defaults, then with what the node says. */
void config_read_section(struct config_reader *, const struct config_section *, const struct config_node *, void *into);
/* A row's default, as the rows' own reader reads it. */
void config_read_defaults(struct config_reader *, const struct config_section *, void *into);
void config_free_section(const struct config_section *, void *);

/* What no row can say alone: references, sums, what belongs together. Lines come from the tree. Judges only what is made of values that were each read well. */
void config_check(struct config_reader *, const struct config_node *root);

/* ---- addresses ---------------------------------------------------------------------------------------------------------- */

bool config_address_is_valid(struct slice) MUST_CHECK;           /* "host:port", "[v6]:port", "*:port", "unix:path" */
bool config_address_is_loopback(struct slice) MUST_CHECK;        /* of these: on this machine only */
bool config_address_is_network(struct slice) MUST_CHECK;         /* an address, a network (CIDR, RFC 4632), or "unix" */
bool config_address_is_in_clear(struct slice origin) MUST_CHECK; /* http:// to another machine */
/* "http(s)://host[:port][/prefix]" into origin and prefix, which the endpoint then owns. */
bool config_address_split(struct config_endpoint *) MUST_CHECK;
/* The URL of a Redis that this version can talk to, or "embedded" where that may be; else `wrong` says what is allowed, and nothing of the URL. */
bool config_address_is_redis(struct slice url, bool may_embed, struct buf *wrong) MUST_CHECK;

static inline void *config_at(void *base, size_t offset)
{
	return (char *)base + offset;
}

#endif
