/* The rows of a model: which upstreams serve it, how one is chosen, what it costs, and its limits. */
#include "svc/config_internal.h"

#define MILLION INT64_C(1000000)

static const char *const strategies[] = { "priority", "weighted", "cost", "latency", "load", NULL };
static const char *const none[] = { "none", NULL };

/* clang-format off */
#define AT(kind, field)   offsetof(struct kind, field)
#define TABLE(rows)       rows, ARRAY_LENGTH(rows)

static const struct config_row price_rows[] = {
	{ "input", CONFIG_DOLLARS, AT(config_price, input), 0, 0, "none", 0, MILLION * MILLION, none, NULL, "USD per million tokens of input" },
	{ "cached", CONFIG_DOLLARS, AT(config_price, cached), 0, 0, "none", 0, MILLION * MILLION, none, NULL, "of input that the provider had in its cache" },
	{ "output", CONFIG_DOLLARS, AT(config_price, output), 0, 0, "none", 0, MILLION * MILLION, none, NULL, "of output" },
};
static const struct config_section price = { sizeof(struct config_price), TABLE(price_rows), NULL, 0, NULL };

static const struct config_row capabilities_rows[] = {
	{ "media", CONFIG_BOOL, AT(config_capabilities, media), 0, 0, "true", 0, 0, NULL, NULL, "images, audio and files; false: requests with some go elsewhere" },
	{ "tools", CONFIG_BOOL, AT(config_capabilities, tools), 0, 0, "true", 0, 0, NULL, NULL, "tool calls; false: requests that offer some go elsewhere" },
	{ "context", CONFIG_COUNT, AT(config_capabilities, context), 0, 0, "0", 0, 1000 * MILLION, NULL, NULL, "tokens of input and output together; 0: not said" },
};
static const struct config_section capabilities = { sizeof(struct config_capabilities), TABLE(capabilities_rows), NULL, 0, NULL };

static const struct config_row target_rows[] = {
	{ "upstream", CONFIG_UPSTREAM, AT(config_target, upstream), 0, CONFIG_REQUIRED, NULL, 0, 0, NULL, NULL, "the name of an upstream" },
	{ "model", CONFIG_TEXT, AT(config_target, model), 0, 0, NULL, 1, LIMITER_NAME_MOST, NULL, NULL, "what that upstream calls it; none: as the client does" },
	{ "weight", CONFIG_INT, AT(config_target, weight), 0, 0, "1", 0, 1000, NULL, NULL,
	  "strategy weighted: its share, 0: only when no other will do; strategy load: how much it carries" },
	{ "price", CONFIG_SECTION, AT(config_target, price), 0, 0, NULL, 0, 0, NULL, &price, "" },
	{ "capabilities", CONFIG_SECTION, AT(config_target, capabilities), 0, 0, NULL, 0, 0, NULL, &capabilities, "" },
};
static const struct config_section target = { sizeof(struct config_target), TABLE(target_rows), NULL, 0, NULL };

static const struct config_row model_rows[] = {
	{ "targets", CONFIG_LIST, AT(config_model, targets), AT(config_model, targets_count), CONFIG_REQUIRED, NULL, 1, CONFIG_TARGETS_MOST, NULL, &target,
	  "which upstreams serve it, as [{upstream: NAME}]" },
	{ "strategy", CONFIG_WORD, AT(config_model, strategy), 0, 0, "priority", 0, 0, strategies, NULL,
	  "which target is asked first: the list's first, one by weight, the cheapest for the request, the soonest first byte of late, the fewest calls in flight for its weight" },
	{ "affinity", CONFIG_BOOL, AT(config_model, affinity), 0, 0, "true", 0, 0, NULL, NULL, "a session stays at its target and endpoint, for the provider's prompt cache" },
	{ "fallback", CONFIG_TEXTS, AT(config_model, fallback), AT(config_model, fallback_count), 0, NULL, 0, 16, NULL, NULL,
	  "names of `models`, of the same dialect, that are asked instead when no target will do, in this order" },
	{ "price", CONFIG_SECTION, AT(config_model, price), 0, 0, NULL, 0, 0, NULL, &price, "" },
	{ "limits", CONFIG_LIMITS, AT(config_model, limits), 0, 0, NULL, 1, 0, NULL, NULL, "over all its upstreams together" },
};
const struct config_section config_table_model = { sizeof(struct config_model), TABLE(model_rows), "printable characters without blanks, quotes or braces", LIMITER_NAME_MOST, NULL };
/* clang-format on */
