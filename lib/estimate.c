#include "lib/estimate.h"

#include "lib/list.h"
#include "lib/map.h"
#include "lib/mem.h"

#define WEIGHT       (1.0 / 16)
#define RATIO_LEAST  (1.0 / 64)
#define RATIO_MOST   1.0  /* no tokenizer makes more tokens than bytes */
#define TEXT_RATIO   0.25 /* four bytes of English a token */
#define MEDIA_RATIO  0.001
#define OUTPUT_FIRST 1024
#define COUNT_MOST   (INT64_C(1) << 40)

/* Exponentially weighted sums; the ratio is their quotient. Empty until bytes > 0. */
struct ratio {
	double tokens, bytes;
};
struct spread {
	double mean, deviation;
	bool known;
};

/* A model, or a pair of tenant and model (of which only `output` is used). Owner: the estimate; dies when it is the least recently used. */
struct entry {
	struct list node;
	struct ratio text, media, said;
	struct spread output;
	size_t key_len;
	char key[];
};

struct estimate {
	struct map *entries;
	struct list recent; /* front: used last */
	size_t most;
};

struct estimate *estimate_new(size_t most)
{
	CHECK(most >= 2);
	struct estimate *e = mem_new(sizeof *e);
	e->entries = map_new();
	e->most = most;
	list_init(&e->recent);
	return e;
}

void estimate_free(struct estimate **handle)
{
	if (*handle == NULL)
		return;
	map_free(&(*handle)->entries, mem_free);
	mem_free(*handle);
	*handle = NULL;
}

size_t estimate_count(const struct estimate *e)
{
	return map_count(e->entries);
}

/* "model", or "model NUL tenant": no name holds a NUL. Empty when a name is too long to be remembered. */
static struct slice key_of(char room[2 * ESTIMATE_NAME_MOST + 1], struct slice model, struct slice tenant)
{
	if (model.len == 0 || model.len > ESTIMATE_NAME_MOST || tenant.len > ESTIMATE_NAME_MOST)
		return SLICE_NONE;
	memcpy(room, model.data, model.len);
	if (tenant.len == 0)
		return slice_make(room, model.len);
	room[model.len] = '\0';
	memcpy(room + model.len + 1, tenant.data, tenant.len);
	return slice_make(room, model.len + 1 + tenant.len);
}

static struct entry *find(struct estimate *e, struct slice model, struct slice tenant)
{
	char room[2 * ESTIMATE_NAME_MOST + 1];
	struct slice key = key_of(room, model, tenant);
	struct entry *entry = key.len > 0 ? map_get(e->entries, key) : NULL;
	if (entry != NULL) {
		list_remove(&entry->node);
		list_push_front(&e->recent, &entry->node);
	}
	return entry;
}

static void forget_one(struct estimate *e)
{
	struct entry *oldest = CONTAINER_OF(e->recent.prev, struct entry, node);
	list_remove(&oldest->node);
	CHECK(map_remove(e->entries, slice_make(oldest->key, oldest->key_len)) == oldest);
	mem_free(oldest);
}

static struct entry *find_or_add(struct estimate *e, struct slice model, struct slice tenant)
{
	struct entry *entry = find(e, model, tenant);
	char room[2 * ESTIMATE_NAME_MOST + 1];
	struct slice key = key_of(room, model, tenant);
	if (entry != NULL || key.len == 0)
		return entry;
	if (map_count(e->entries) == e->most)
		forget_one(e);
	entry = mem_new(sizeof *entry + key.len);
	entry->key_len = key.len;
	memcpy(entry->key, key.data, key.len);
	list_push_front(&e->recent, &entry->node);
	map_put(e->entries, key, entry);
	return entry;
}

/* ---- guessing --------------------------------------------------------------- */

static double ratio_or(const struct ratio *ratio, double unknown, double least)
{
	if (ratio == NULL || ratio->bytes <= 0)
		return unknown;
	double value = ratio->tokens / ratio->bytes;
	return value < least ? least : value > RATIO_MOST ? RATIO_MOST : value;
}

static double text_ratio(const struct entry *model)
{
	return ratio_or(model == NULL ? NULL : &model->text, TEXT_RATIO, RATIO_LEAST);
}

static double media_ratio(const struct entry *model)
{
	return ratio_or(model == NULL ? NULL : &model->media, MEDIA_RATIO, 0);
}

/* Rounded up; a count that no provider ever reported is cut rather than overflow. */
static int64_t count_of(double tokens)
{
	if (!(tokens < (double)COUNT_MOST))
		return COUNT_MOST;
	int64_t whole = (int64_t)tokens;
	return whole + (tokens > (double)whole);
}

static int64_t usual_output(struct estimate *e, const struct estimate_call *call, const struct entry *model)
{
	const struct entry *pair = call->tenant.len > 0 ? find(e, call->model, call->tenant) : NULL;
	const struct entry *from = pair != NULL && pair->output.known ? pair : model;
	if (from == NULL || !from->output.known)
		return OUTPUT_FIRST;
	return count_of(from->output.mean + 2 * from->output.deviation);
}

bool estimate_tokens(struct estimate *e, const struct estimate_call *call, int64_t max_output, int64_t burst,
		     struct estimate_tokens *out)
{
	const struct entry *model = find(e, call->model, SLICE_NONE);
	out->input =
		count_of((double)call->text_bytes * text_ratio(model) + (double)call->media_bytes * media_ratio(model));
	out->output = max_output >= 0 ? max_output : usual_output(e, call, model);
	if (out->output > COUNT_MOST)
		out->output = COUNT_MOST;
	if (burst <= 0)
		return true;
	int64_t least = count_of((double)call->text_bytes * RATIO_LEAST);
	if (least > burst) {
		out->input = least;
		return false;
	}
	if (out->input > burst)
		out->input = burst;
	if (out->output > burst - out->input)
		out->output = burst - out->input;
	return true;
}

/* ---- learning --------------------------------------------------------------- */

static void learn_ratio(struct ratio *ratio, double tokens, double bytes)
{
	double weight = ratio->bytes > 0 ? WEIGHT : 1;
	ratio->tokens += (tokens - ratio->tokens) * weight;
	ratio->bytes += (bytes - ratio->bytes) * weight;
}

static void learn_spread(struct spread *spread, double value)
{
	if (!spread->known) {
		*spread = (struct spread){ .mean = value, .deviation = value / 2, .known = true };
		return;
	}
	double off = value - spread->mean;
	spread->mean += off * WEIGHT;
	spread->deviation += ((off < 0 ? -off : off) - spread->deviation) * WEIGHT * 2;
}

/* More tokens than bytes come from elsewhere: an image at an address, a conversation that the provider keeps. They say nothing of bytes. */
static void learn_input(struct entry *model, const struct estimate_call *call, int64_t tokens)
{
	if (tokens > call->text_bytes + call->media_bytes)
		return;
	if (call->media_bytes == 0) {
		if (call->text_bytes > 0)
			learn_ratio(&model->text, (double)tokens, (double)call->text_bytes);
		return;
	}
	double rest =
		(double)tokens - (double)call->text_bytes * text_ratio(model); /* what the text does not explain */
	learn_ratio(&model->media, rest > 0 ? rest : 0, (double)call->media_bytes);
}

void estimate_learn(struct estimate *e, const struct estimate_call *call, const struct estimate_tokens *used)
{
	struct entry *model = find_or_add(e, call->model, SLICE_NONE);
	if (model == NULL)
		return;
	if (used->input > 0 && used->input <= COUNT_MOST)
		learn_input(model, call, used->input);
	if (used->output <= 0 || used->output > COUNT_MOST)
		return;
	learn_spread(&model->output, (double)used->output);
	struct entry *pair = call->tenant.len > 0 ? find_or_add(e, call->model, call->tenant) : NULL;
	if (pair != NULL)
		learn_spread(&pair->output, (double)used->output);
}

int64_t estimate_said(struct estimate *e, struct slice model, int64_t bytes)
{
	const struct entry *entry = find(e, model, SLICE_NONE);
	return count_of((double)bytes * ratio_or(entry == NULL ? NULL : &entry->said, TEXT_RATIO, RATIO_LEAST));
}

void estimate_learn_said(struct estimate *e, struct slice model, int64_t bytes, int64_t tokens)
{
	struct entry *entry =
		bytes > 0 && tokens > 0 && tokens <= COUNT_MOST ? find_or_add(e, model, SLICE_NONE) : NULL;
	if (entry != NULL)
		learn_ratio(&entry->said, (double)tokens, (double)bytes);
}
