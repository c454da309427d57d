/* What belongs together in a model: the targets that serve it, and the models that are asked instead. */
#include "lib/mem.h"
#include "svc/config_check.h"

/* ---- targets --------------------------------------------------------------------------------------------------------------- */

static void check_target(const struct config_check *c, const struct config_model *m, size_t i)
{
	const struct config_upstream *first = m->targets[0].upstream, *u = m->targets[i].upstream;
	struct config_index index;
	const struct config_place *place =
		CONFIG_PLACE("models", m->name, "targets", config_check_index(&index, i), "upstream");

	if (u->dialect == DIALECT_http)
		config_check_complain(
			c, place,
			"found \"%s\", of dialect http, which has no models; allowed: upstreams of other dialects",
			u->name);
	else if (u->dialect != first->dialect && first->dialect != DIALECT_http)
		config_check_complain(c, place, "found \"%s\", of dialect %s; allowed: %s, as targets[0]", u->name,
				      config_dialect_name(u->dialect), config_dialect_name(first->dialect));
}

static bool says_any(const struct config_price *price)
{
	return price->input >= 0 || price->cached >= 0 || price->output >= 0;
}

static void check_prices(const struct config_check *c, const struct config_model *m)
{
	for (size_t i = 0; i < m->targets_count; i++) {
		const struct config_price *own = &m->targets[i].price, *price = says_any(own) ? own : &m->price;
		struct config_index index;
		if (price->input < 0 || price->output < 0)
			config_check_complain(
				c, CONFIG_PLACE("models", m->name, "targets", config_check_index(&index, i), "price"),
				"strategy cost needs one; allowed: {input, output}, of the target or of the model");
	}
}

static void check_shares(const struct config_check *c, const struct config_model *m)
{
	for (size_t i = 0; i < m->targets_count; i++)
		if (m->targets[i].weight > 0)
			return;
	config_check_complain(c, CONFIG_PLACE("models", m->name, "targets"),
			      "found a weight of 0 for all of them; allowed: 1 or more for one of them");
}

/* A canary never sees a call where nobody thought of the strategy. */
static void warn_of_weights(const struct config_check *c, const struct config_model *m)
{
	if (m->targets_count == 1 || config_check_find(c, CONFIG_PLACE("models", m->name, "strategy")).node != NULL)
		return;
	for (size_t i = 0; i < m->targets_count; i++) {
		struct config_index index;
		struct config_spot spot = config_check_find(c, CONFIG_PLACE("models", m->name, "targets",
									    config_check_index(&index, i), "weight"));
		if (spot.node == NULL)
			continue;
		config_warn(c->errors, spot.line, spot.path,
			    "warning: strategy priority heeds no weights; better: strategy weighted or load");
		return;
	}
}

/* ---- fallbacks ------------------------------------------------------------------------------------------------------------- */

static bool stands_before(const struct config_model *m, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (strcmp(m->fallback[k], m->fallback[i]) == 0)
			return true;
	return false;
}

static void check_fallback(const struct config_check *c, const struct config_model *m, size_t i)
{
	const struct config_model *other = config_find_model(c->config, slice_of(m->fallback[i]));
	enum dialect dialect = m->targets[0].upstream->dialect;
	struct config_index index;
	const struct config_place *place = CONFIG_PLACE("models", m->name, "fallback", config_check_index(&index, i));

	if (other == NULL)
		config_check_complain(c, place, "found \"%s\"; allowed: names of `models`",
				      config_check_as_written(c, place, m->fallback[i]));
	else if (other == m)
		config_check_complain(c, place, "found \"%s\", the model itself; allowed: others", m->name);
	else if (stands_before(m, i))
		config_check_complain(c, place, "found \"%s\" twice; allowed: once", other->name);
	else if (config_check_entry_is_right(c, "models", (size_t)(other - c->config->models), other->name) &&
		 other->targets[0].upstream->dialect != dialect)
		config_check_complain(c, place, "found \"%s\", of dialect %s; allowed: models of dialect %s",
				      other->name, config_dialect_name(other->targets[0].upstream->dialect),
				      config_dialect_name(dialect));
}

/* Tarjan's depth-first search (1972), its recursion kept by hand: a file may have ten thousand models in one chain. */
struct walk {
	const struct config_check *c;
	struct visit {
		size_t next; /* of its fallbacks, to be followed */
		enum { VISIT_NEW, VISIT_OPEN, VISIT_DONE } state;
	} * visits;
	size_t *way, depth; /* the open ones, each a fallback of the one before */
};

/* The way leads back to its start-th. Told as it begins at the cycle's first model in the file, as far as a line holds it. */
static void tell_cycle(const struct walk *w, size_t start)
{
	const struct config_model *models = w->c->config->models;
	size_t first = start, at;
	char memory[320];
	struct buf told;

	for (size_t i = start; i < w->depth; i++)
		first = w->way[i] < w->way[first] ? i : first;
	buf_wrap(&told, memory, sizeof(memory), 0);
	at = first;
	for (size_t i = start; i <= w->depth; i++) { /* round once, and its first again */
		const char *name = models[w->way[at]].name;
		if (told.len + strlen(name) + strlen(" → …") + strlen(" → ") > sizeof(memory)) {
			buf_append(&told, SLICE(" → …"));
			break;
		}
		buf_format(&told, "%s%s", i > start ? " → " : "", name);
		at = at + 1 < w->depth ? at + 1 : start;
	}
	config_check_complain(w->c, CONFIG_PLACE("models", models[w->way[first]].name, "fallback"),
			      "it leads back to the model: %.*s; allowed: no such way", SLICE_ARGS(buf_slice(&told)));
}

static void arrive(struct walk *w, size_t model)
{
	size_t start = 0;

	if (w->visits[model].state == VISIT_NEW) {
		w->visits[model].state = VISIT_OPEN;
		w->way[w->depth++] = model;
	} else if (w->visits[model].state == VISIT_OPEN && config_check_tells(w->c)) {
		while (w->way[start] != model)
			start++;
		tell_cycle(w, start);
	}
}

static void follow(struct walk *w, size_t from)
{
	const struct config *config = w->c->config;

	arrive(w, from);
	while (w->depth > 0) {
		size_t at = w->way[w->depth - 1];
		const struct config_model *m = &config->models[at], *other;
		if (w->visits[at].next == m->fallback_count) {
			w->visits[at].state = VISIT_DONE;
			w->depth--;
			continue;
		}
		other = config_find_model(config, slice_of(m->fallback[w->visits[at].next++]));
		if (other != NULL && other != m)
			arrive(w, (size_t)(other - config->models));
	}
}

static void check_cycles(const struct config_check *c)
{
	size_t count = c->config->models_count;
	struct walk w = { .c = c,
			  .visits = mem_new_array(count, sizeof(*w.visits)),
			  .way = mem_new_array(count, sizeof(*w.way)) };

	for (size_t i = 0; i < count; i++)
		follow(&w, i);
	mem_free(w.visits);
	mem_free(w.way);
}

/* ---- the whole of it ------------------------------------------------------------------------------------------------------- */

static void check_model(const struct config_check *c, const struct config_model *m)
{
	for (size_t i = 0; i < m->targets_count; i++)
		check_target(c, m, i);
	if (m->strategy == CONFIG_STRATEGY_COST)
		check_prices(c, m);
	if (m->strategy == CONFIG_STRATEGY_WEIGHTED || m->strategy == CONFIG_STRATEGY_LOAD)
		check_shares(c, m);
	else
		warn_of_weights(c, m);
	for (size_t i = 0; i < m->fallback_count; i++)
		check_fallback(c, m, i);
}

void config_check_models(const struct config_check *c)
{
	if (!CONFIG_IS_RIGHT(c, "upstreams"))
		return;
	for (size_t i = 0; i < c->config->models_count; i++)
		if (config_check_entry_is_right(c, "models", i, c->config->models[i].name))
			check_model(c, &c->config->models[i]);
	if (CONFIG_IS_RIGHT(c, "models"))
		check_cycles(c);
}
