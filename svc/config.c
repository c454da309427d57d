/* Loading, the count of who holds one, and finding in it. */
#include "svc/config.h"

#include "lib/buf.h"
#include "lib/map.h"
#include "svc/config_internal.h"

enum { FILE_MOST = 4 * 1024 * 1024, TREE_MOST = 256 * 1024 * 1024 };

static struct config_whole *whole_of(const struct config *config)
{
	return CONTAINER_OF((struct config *)(uintptr_t)config, struct config_whole, config);
}

/* The one buffer that values pass through has its full size from the start: growing would leave pieces of secrets behind. */
static void judge(struct config_reader *r, const struct config_node *root)
{
	buf_init(&r->text, CONFIG_VALUE);
	CHECK(buf_reserve(&r->text, CONFIG_VALUE));
	config_read_section(r, &config_root, root, r->config);
	if (r->errors.mistakes.count <= CONFIG_COMPLAINTS)
		config_check(r, root);
	mem_wipe(r->text.data, r->text.capacity);
	buf_free(&r->text);
}

static const struct config *parse(const char *name, const char *folder, enum file_patience files, struct slice text,
				  struct buf *error)
{
	struct config_whole *whole = mem_new(sizeof(*whole));
	struct config_reader reader = {
		.errors = { .file = name }, .config = &whole->config, .folder = folder, .files = files
	};
	struct mem *mem = mem_arena(TREE_MOST);
	const struct config *config = &whole->config;
	struct config_node *root = config_yaml_parse(text, mem, &reader.errors);

	atomic_init(&whole->references, 1);
	if (root != NULL) {
		judge(&reader, root);
		config_yaml_wipe(root);
	}
	mem_arena_free(&mem);
	config_errors_tell(&reader.errors, error);
	if (reader.errors.mistakes.count > 0)
		config_release(&config);
	config_errors_free(&reader.errors);
	return config;
}

const struct config *config_parse(const char *name, struct slice text, struct buf *error)
{
	return parse(name, NULL, FILE_REGULAR, text, error);
}

static const struct config *load(const char *path, enum file_patience files, struct buf *error)
{
	const struct config *config = NULL;
	const char *slash = strrchr(path, '/'), *reason;
	char *folder = slash != NULL ? mem_text(slice_make(path, slash == path ? 1 : (size_t)(slash - path))) : NULL;
	struct buf text;

	buf_init(&text, FILE_MOST);
	if (file_read(path, files, &text, &reason))
		config = parse(path, folder, files, buf_slice(&text), error);
	else
		buf_format(error, "%s: cannot be read: %s\n", path, reason);
	if (text.data != NULL)
		mem_wipe(text.data, text.capacity);
	buf_free(&text);
	mem_free(folder);
	return config;
}

const struct config *config_load(const char *path, struct buf *error)
{
	return load(path, FILE_ANY, error);
}

const struct config *config_reload(const char *path, struct buf *error)
{
	return load(path, FILE_REGULAR, error);
}

/* ---- death: the table knows what there is to free ------------------------------------------------------------------------ */

static void free_text(char *text, bool secret)
{
	if (text != NULL && secret)
		mem_wipe(text, strlen(text));
	mem_free(text);
}

static void free_texts(char **texts, size_t count)
{
	for (size_t i = 0; i < count; i++)
		mem_free(texts[i]);
	mem_free(texts);
}

static void free_array(const struct config_row *row, char *array, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		char *at = array + i * row->section->size;
		if (row->type == CONFIG_NAMED)
			mem_free(*(char **)(void *)at);
		config_free_section(row->section, at);
	}
	mem_free(array);
}

/* What config_check made of an endpoint's url stands in no row. */
static void free_endpoints(struct config *config)
{
	for (size_t i = 0; i < config->upstreams_count; i++)
		for (size_t e = 0; e < config->upstreams[i].endpoints_count; e++) {
			mem_free(config->upstreams[i].endpoints[e].origin);
			mem_free(config->upstreams[i].endpoints[e].prefix);
		}
}

void config_free_section(const struct config_section *section, void *base)
{
	for (size_t i = 0; i < section->count; i++) {
		const struct config_row *row = &section->rows[i];
		void *at = config_at(base, row->offset);
		size_t count = row->count_offset != 0 ? *(size_t *)config_at(base, row->count_offset) : 0;
		switch (row->type) {
		case CONFIG_TEXT:
			free_text(*(char **)at, (row->flags & CONFIG_SECRET) != 0);
			break;
		case CONFIG_TEXTS:
			free_texts(*(char ***)at, count);
			break;
		case CONFIG_KEYS:
			mem_free(*(void **)at);
			break;
		case CONFIG_SECTION:
			config_free_section(row->section, at);
			break;
		case CONFIG_NAMED:
		case CONFIG_LIST:
			free_array(row, *(char **)at, count);
			break;
		default:
			break;
		}
	}
}

const struct config *config_hold(const struct config *config)
{
	atomic_fetch_add_explicit(&whole_of(config)->references, 1, memory_order_relaxed);
	return config;
}

void config_release(const struct config **held)
{
	struct config_whole *whole = *held == NULL ? NULL : whole_of(*held);

	*held = NULL;
	if (whole == NULL || atomic_fetch_sub_explicit(&whole->references, 1, memory_order_acq_rel) > 1)
		return;
	map_free(&whole->upstreams, NULL);
	map_free(&whole->models, NULL);
	map_free(&whole->keys, NULL);
	free_endpoints(&whole->config);
	config_free_section(&config_root, &whole->config);
	mem_free(whole);
}

/* ---- finding -------------------------------------------------------------------------------------------------------------- */

/* Maps take values that may change; what is found here may not. */
static void put(struct map *map, struct slice key, const void *value)
{
	map_put(map, key, (void *)(uintptr_t)value);
}

void config_index_names(struct config *config)
{
	struct config_whole *whole = whole_of(config);

	whole->upstreams = map_new();
	whole->models = map_new();
	whole->keys = map_new();
	for (size_t i = 0; i < config->upstreams_count; i++)
		put(whole->upstreams, slice_of(config->upstreams[i].name), &config->upstreams[i]);
	for (size_t i = 0; i < config->models_count; i++)
		put(whole->models, slice_of(config->models[i].name), &config->models[i]);
}

const struct config_tenant *config_index_key(struct config *config, const struct config_key *key,
					     const struct config_tenant *tenant)
{
	const struct config_tenant *other = config_find_tenant(config, key->sha256);

	if (other == NULL)
		put(whole_of(config)->keys, slice_make((const char *)key->sha256, sizeof(key->sha256)), tenant);
	return other;
}

const struct config_upstream *config_find_upstream(const struct config *config, struct slice name)
{
	const struct map *index = whole_of(config)->upstreams;

	if (index != NULL)
		return map_get(index, name);
	for (size_t i = 0; i < config->upstreams_count; i++)
		if (slice_equal(slice_of(config->upstreams[i].name), name))
			return &config->upstreams[i];
	return NULL;
}

const struct config_model *config_find_model(const struct config *config, struct slice name)
{
	return map_get(whole_of(config)->models, name);
}

/* The map compares no byte of a key unless the 64 bits of its secret hash are the same. */
const struct config_tenant *config_find_tenant(const struct config *config, const unsigned char sha256[32])
{
	return map_get(whole_of(config)->keys, slice_make((const char *)sha256, 32));
}

const char *config_dialect_name(enum dialect dialect)
{
#define NAME(name) #name,
	static const char *const names[] = { DIALECTS(NAME) };
#undef NAME
	CHECK((unsigned)dialect < DIALECT_COUNT);
	return names[dialect];
}
