#include "ledger.h"

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/map.h"
#include "lib/mem.h"

#define ARRIVALS_KEPT 200000
#define ABORTS_KEPT   10000
#define NONCES_KEPT   1000000
#define MODELS_KEPT   1000
#define PATH_KEPT     95
#define ID_KEPT       63

struct ledger_model {
	char name[MODEL_MAX + 1];
	enum dialect dialect;
	unsigned index;
	int64_t received, completed, aborted, broken, refused, in_flight, max_in_flight, input, output;
};

struct arrival {
	int64_t at, wall, ended;
	unsigned model;
	int status; /* 0 while it is answered */
	int64_t input, output;
	char path[PATH_KEPT + 1], id[ID_KEPT + 1], nonce[NONCE_MAX + 1];
};

struct abort_note {
	int64_t arrived, left, output;
	unsigned model;
	char nonce[NONCE_MAX + 1];
};

/* Between calls: the sums of the models' in_flight and received are in_flight and received of the whole. */
struct ledger {
	struct map *by_model, *nonces, *ids;
	struct ledger_model *models[MODELS_KEPT];
	unsigned model_count;
	struct arrival *arrivals; /* a ring: number % ARRIVALS_KEPT */
	uint64_t arrived, arrived_before_reset;
	struct abort_note *aborts;
	uint64_t abort_count;
	int64_t by_status[600];
	int64_t received, completed, aborted, broken, in_flight, max_in_flight, other, input, output;
	int64_t at_once, most_at_once;
	int64_t connections, connections_open, duplicate_nonces, duplicate_ids;
	size_t largest_body;
	char last_duplicate[NONCE_MAX + 1];
	int64_t reset_at;
};

struct ledger *ledger_new(void)
{
	struct ledger *l = mem_new(sizeof(*l));
	l->by_model = map_new();
	l->nonces = map_new();
	l->ids = map_new();
	l->arrivals = mem_new_array(ARRIVALS_KEPT, sizeof(*l->arrivals));
	l->aborts = mem_new_array(ABORTS_KEPT, sizeof(*l->aborts));
	l->reset_at = clock_now();
	return l;
}

void ledger_free(struct ledger **pointer)
{
	struct ledger *l = *pointer;
	if (l == NULL)
		return;
	map_free(&l->by_model, NULL);
	map_free(&l->nonces, NULL);
	map_free(&l->ids, NULL);
	for (unsigned i = 0; i < l->model_count; i++)
		mem_free(l->models[i]);
	mem_free(l->arrivals);
	mem_free(l->aborts);
	mem_free(l);
	*pointer = NULL;
}

void ledger_reset(struct ledger *l)
{
	for (unsigned i = 0; i < l->model_count; i++) {
		struct ledger_model *m = l->models[i];
		m->received = m->max_in_flight = m->in_flight;
		m->completed = m->aborted = m->broken = m->refused = m->input = m->output = 0;
	}
	map_free(&l->nonces, NULL);
	map_free(&l->ids, NULL);
	l->nonces = map_new();
	l->ids = map_new();
	memset(l->by_status, 0, sizeof(l->by_status));
	l->arrived_before_reset = l->arrived;
	l->received = l->max_in_flight = l->in_flight;
	l->most_at_once = l->at_once;
	l->connections = l->connections_open;
	l->completed = l->aborted = l->broken = l->other = l->input = l->output = 0;
	l->duplicate_nonces = l->duplicate_ids = 0;
	l->abort_count = 0;
	l->largest_body = 0;
	l->last_duplicate[0] = '\0';
	l->reset_at = clock_now();
}

void ledger_connection(struct ledger *l, bool opened)
{
	l->connections += opened ? 1 : 0;
	l->connections_open += opened ? 1 : -1;
}

void ledger_body(struct ledger *l, size_t bytes)
{
	if (bytes > l->largest_body)
		l->largest_body = bytes;
}

void ledger_other(struct ledger *l)
{
	l->other++;
}

void ledger_at_once(struct ledger *l, bool begins)
{
	l->at_once += begins ? 1 : -1;
	if (l->at_once > l->most_at_once)
		l->most_at_once = l->at_once;
}

/* Beyond MODELS_KEPT names, all others share the last place. */
static struct ledger_model *model_of(struct ledger *l, const struct ask *ask)
{
	struct ledger_model *m = map_get(l->by_model, slice_of(ask->model));
	if (m != NULL)
		return m;
	if (l->model_count == MODELS_KEPT)
		return l->models[MODELS_KEPT - 1];
	m = mem_new(sizeof(*m));
	memcpy(m->name, ask->model, sizeof(m->name));
	m->dialect = ask->dialect;
	m->index = l->model_count;
	l->models[l->model_count++] = m;
	map_put(l->by_model, slice_of(m->name), m);
	return m;
}

/* True when the key was here before; remembers it as long as there is room. */
static bool seen_before(struct map *seen, struct slice key)
{
	if (key.len == 0)
		return false;
	if (map_get(seen, key) != NULL)
		return true;
	if (map_count(seen) < NONCES_KEPT)
		map_put(seen, key, seen);
	return false;
}

static void keep(struct slice text, char *out, size_t most)
{
	text = slice_first(text, most);
	if (text.len > 0)
		memcpy(out, text.data, text.len);
	out[text.len] = '\0';
}

void ledger_arrive(struct ledger *l, struct ledger_entry *entry, const struct ask *ask, struct slice path,
		   struct slice request_id)
{
	struct ledger_model *m = model_of(l, ask);
	*entry = (struct ledger_entry){ m, l->arrived++, clock_now(), true };
	struct arrival *arrival = &l->arrivals[entry->number % ARRIVALS_KEPT];
	arrival->at = entry->arrived;
	arrival->wall = clock_unix();
	arrival->ended = 0;
	arrival->model = m->index;
	arrival->status = 0;
	arrival->input = ask->input;
	arrival->output = 0;
	keep(path, arrival->path, PATH_KEPT);
	keep(request_id, arrival->id, ID_KEPT);
	memcpy(arrival->nonce, ask->nonce, sizeof(arrival->nonce));
	l->received++;
	m->received++;
	l->in_flight++;
	m->in_flight++;
	if (l->in_flight > l->max_in_flight)
		l->max_in_flight = l->in_flight;
	if (m->in_flight > m->max_in_flight)
		m->max_in_flight = m->in_flight;
	if (ask->echoes_nonce && seen_before(l->nonces, slice_of(ask->nonce))) {
		l->duplicate_nonces++;
		memcpy(l->last_duplicate, ask->nonce, sizeof(l->last_duplicate));
	}
	if (seen_before(l->ids, request_id))
		l->duplicate_ids++;
}

static void note_abort(struct ledger *l, const struct ledger_entry *entry, const struct ask *ask, int64_t output)
{
	struct abort_note *note = &l->aborts[l->abort_count++ % ABORTS_KEPT];
	*note = (struct abort_note){
		.arrived = entry->arrived, .left = clock_now(), .output = output, .model = entry->model->index
	};
	memcpy(note->nonce, ask->nonce, sizeof(note->nonce));
}

void ledger_end(struct ledger *l, struct ledger_entry *entry, const struct ask *ask, int status,
		enum ledger_outcome outcome, int64_t input, int64_t output)
{
	struct ledger_model *m = entry->model;
	if (!entry->open)
		return;
	entry->open = false;
	l->in_flight--;
	m->in_flight--;
	l->input += input;
	m->input += input;
	l->output += output;
	m->output += output;
	l->by_status[status]++;
	m->refused += status >= 400;
	if (outcome == LEDGER_COMPLETED) {
		l->completed++;
		m->completed++;
	} else if (outcome == LEDGER_ABORTED) {
		l->aborted++;
		m->aborted++;
		note_abort(l, entry, ask, output);
	} else {
		l->broken++;
		m->broken++;
	}
	if (l->arrived - entry->number <= ARRIVALS_KEPT) {
		struct arrival *a = &l->arrivals[entry->number % ARRIVALS_KEPT];
		a->ended = clock_now();
		a->status = status;
		a->input = input;
		a->output = output;
	}
}

int64_t ledger_in_flight(const struct ledger_entry *entry)
{
	return entry->model->in_flight;
}

static void put_model(const struct ledger_model *m, struct buf *out)
{
	buf_append_json(out, slice_of(m->name));
	buf_format(out,
		   ":{\"dialect\":\"%s\",\"received\":%lld,\"completed\":%lld,\"aborted\":%lld,\"broken\":%lld,"
		   "\"refused\":%lld,"
		   "\"in_flight\":%lld,\"max_in_flight\":%lld,\"input_tokens\":%lld,\"output_tokens\":%lld}",
		   route_dialect_name(m->dialect), (long long)m->received, (long long)m->completed,
		   (long long)m->aborted, (long long)m->broken, (long long)m->refused, (long long)m->in_flight,
		   (long long)m->max_in_flight, (long long)m->input, (long long)m->output);
}

void ledger_stats(const struct ledger *l, struct buf *out)
{
	buf_format(out,
		   "{\"now_us\":%lld,\"reset_at_us\":%lld,\"received\":%lld,\"completed\":%lld,\"aborted\":%lld,"
		   "\"broken\":%lld,"
		   "\"in_flight\":%lld,\"max_in_flight\":%lld,\"other\":%lld,\"input_tokens\":%lld,\"output_tokens\":%"
		   "lld,\"at_once\":%lld,\"most_at_once\":%lld,",
		   (long long)clock_now(), (long long)l->reset_at, (long long)l->received, (long long)l->completed,
		   (long long)l->aborted, (long long)l->broken, (long long)l->in_flight, (long long)l->max_in_flight,
		   (long long)l->other, (long long)l->input, (long long)l->output, (long long)l->at_once,
		   (long long)l->most_at_once);
	int64_t requests = l->received + l->other;
	buf_format(
		out,
		"\"connections\":%lld,\"connections_open\":%lld,\"requests_per_connection\":%.3f,\"largest_body\":%zu,"
		"\"duplicate_nonces\":%lld,\"duplicate_ids\":%lld,\"last_duplicate\":\"%s\",\"by_status\":{",
		(long long)l->connections, (long long)l->connections_open,
		l->connections > 0 ? (double)requests / (double)l->connections : 0.0, l->largest_body,
		(long long)l->duplicate_nonces, (long long)l->duplicate_ids, l->last_duplicate);
	bool first = true;
	for (size_t i = 0; i < ARRAY_LENGTH(l->by_status); i++) {
		if (l->by_status[i] == 0)
			continue;
		buf_format(out, "%s\"%zu\":%lld", first ? "" : ",", i, (long long)l->by_status[i]);
		first = false;
	}
	buf_append(out, SLICE("},\"models\":{"));
	for (unsigned i = 0; i < l->model_count; i++) {
		if (i > 0)
			buf_append_byte(out, ',');
		put_model(l->models[i], out);
	}
	buf_append(out, SLICE("}}\n"));
}

static void put_model_names(const struct ledger *l, struct buf *out)
{
	buf_append(out, SLICE("{\"models\":["));
	for (unsigned i = 0; i < l->model_count; i++) {
		if (i > 0)
			buf_append_byte(out, ',');
		buf_append_json(out, slice_of(l->models[i]->name));
	}
	buf_append(out, SLICE("],"));
}

void ledger_arrivals(const struct ledger *l, struct buf *out)
{
	uint64_t from = l->arrived_before_reset;
	if (l->arrived - from > ARRIVALS_KEPT)
		from = l->arrived - ARRIVALS_KEPT;
	put_model_names(l, out);
	buf_format(out, "\"first\":%llu,\"arrivals\":[", (unsigned long long)(from - l->arrived_before_reset));
	for (uint64_t i = from; i < l->arrived; i++) {
		const struct arrival *a = &l->arrivals[i % ARRIVALS_KEPT];
		buf_format(out, "%s[%lld,%u,%lld,%lld,%d,%lld,%lld,", i == from ? "" : ",\n", (long long)a->at,
			   a->model, (long long)a->input, (long long)a->output, a->status, (long long)a->wall,
			   (long long)a->ended);
		buf_append_json(out, slice_of(a->path));
		buf_append_byte(out, ',');
		buf_append_json(out, slice_of(a->id));
		buf_format(out, ",\"%s\"]", a->nonce);
	}
	buf_append(out, SLICE("]}\n"));
}

void ledger_aborts(const struct ledger *l, struct buf *out)
{
	uint64_t from = l->abort_count > ABORTS_KEPT ? l->abort_count - ABORTS_KEPT : 0;
	put_model_names(l, out);
	buf_append(out, SLICE("\"aborts\":["));
	for (uint64_t i = from; i < l->abort_count; i++) {
		const struct abort_note *a = &l->aborts[i % ABORTS_KEPT];
		buf_format(
			out,
			"%s{\"nonce\":\"%s\",\"model\":%u,\"arrived_us\":%lld,\"left_us\":%lld,\"output_tokens\":%lld}",
			i == from ? "" : ",\n", a->nonce, a->model, (long long)a->arrived, (long long)a->left,
			(long long)a->output);
	}
	buf_append(out, SLICE("]}\n"));
}
