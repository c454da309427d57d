/* The groups of models that have a part of each line: who is in which, and what is left for the others. */
#include "svc/config_check.h"

enum { WHOLE = 10000, PARTS = 100 };

/* Its model's place in `models`; NULL: there is none. The configuration is being made: it may still be written to. */
static struct config_model *model_of(const struct config_check *c, const char *name)
{
	const struct config_model *found = config_find_model(c->config, slice_of(name));

	return found == NULL ? NULL : &c->config->models[found - c->config->models];
}

static void check_member(const struct config_check *c, size_t group, size_t i)
{
	const struct config_group *g = &c->config->queue.groups[group];
	struct config_model *m = model_of(c, g->models[i]);
	struct config_index index;
	const struct config_place *place =
		CONFIG_PLACE("queue", "groups", g->name, "models", config_check_index(&index, i));

	if (m == NULL)
		config_check_complain(c, place, "found \"%s\"; allowed: names of `models`",
				      config_check_as_written(c, place, g->models[i]));
	else if (m->group != 0)
		config_check_complain(c, place,
				      "found \"%s\", which is in \"%s\" already; allowed: a model in one group",
				      m->name, c->config->queue.groups[m->group - 1].name);
	else
		m->group = group + 1;
}

static void warn_of_nobody(const struct config_check *c, const struct config_group *g)
{
	struct config_spot spot = config_check_find(c, CONFIG_PLACE("queue", "groups", g->name, "models"));

	config_warn(c->errors, spot.line, spot.path,
		    "warning: found none, so its share is for no model; better: names of `models`, or no such group");
}

/* Whole percents, of which each group and the rest have one at least. */
static void share_out(const struct config_check *c)
{
	struct line_rule *rule = &c->config->queue.rule;
	int64_t left = WHOLE;

	for (size_t i = 0; i < c->config->queue.groups_count; i++) {
		const struct config_group *g = &c->config->queue.groups[i];
		left -= g->share;
		if (left < PARTS) {
			config_check_complain(
				c, CONFIG_PLACE("queue", "groups", g->name, "share"),
				"with the groups before it, %g%%; allowed: 99%%, for 1%% or more is left for the "
				"models in none",
				(double)(WHOLE - left) / PARTS);
			return;
		}
		rule->share[i + 1] = g->share / PARTS > 0 ? g->share / PARTS : 1;
	}
	rule->share[0] = left / PARTS;
	rule->groups = c->config->queue.groups_count + 1;
}

void config_check_queue(const struct config_check *c)
{
	struct line_rule *rule = &c->config->queue.rule;

	rule->groups = 1;
	rule->share[0] = 1;
	if (!CONFIG_IS_RIGHT(c, "queue", "models"))
		return;
	for (size_t i = 0; i < c->config->queue.groups_count; i++) {
		if (c->config->queue.groups[i].models_count == 0)
			warn_of_nobody(c, &c->config->queue.groups[i]);
		for (size_t k = 0; k < c->config->queue.groups[i].models_count; k++)
			check_member(c, i, k);
	}
	share_out(c);
}
