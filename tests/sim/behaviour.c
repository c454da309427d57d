#include "behaviour.h"

#include "lib/text.h"

struct behaviour behaviour_default(void)
{
	return (struct behaviour){ .tokens = -1,
				   .chunk = 1,
				   .retry = -1,
				   .position = FAULT_UNSET,
				   .chance = 1.0,
				   .tools = true,
				   .usage = true };
}

static bool put_switch(struct slice value, bool *out)
{
	*out = slice_equal(value, SLICE("on"));
	return *out || slice_equal(value, SLICE("off"));
}

static bool put_rate(struct slice value, double *out)
{
	if (slice_ends(value, SLICE("/s")))
		value.len -= 2;
	return text_decimal(value, out);
}

static bool put_nonce(struct slice value, char *out)
{
	if (value.len == 0 || value.len > NONCE_MAX)
		return false;
	for (size_t i = 0; i < value.len; i++) {
		char c = value.data[i];
		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
		      c == '-'))
			return false;
	}
	memcpy(out, value.data, value.len);
	out[value.len] = '\0';
	return true;
}

static bool put_fault(struct slice value, struct behaviour *b)
{
#define FAULT_NAME(name, help) #name,
	static const char *const names[] = { FAULTS(FAULT_NAME) };
#undef FAULT_NAME
	struct slice position;
	struct slice name = slice_cut(value, '@', &position);
	b->position = FAULT_UNSET;
	if (slice_equal(position, SLICE("head")))
		b->position = 0;
	else if (position.len > 0 && !text_int(position, &b->position))
		return false;
	for (int i = 0; i < FAULT_COUNT; i++) {
		if (!slice_equal(name, slice_of(names[i])))
			continue;
		b->fault = (enum fault)i;
		return true;
	}
	return false;
}

static bool put_status(struct slice value, int *out)
{
	int64_t status;
	if (!text_int(value, &status) || (status != 0 && (status < 200 || status > 599)))
		return false;
	*out = (int)status;
	return true;
}

static bool put_quota(struct slice value, struct behaviour *b)
{
	static const char *const names[] = { "", "minute", "day", "credit" };
	for (int i = QUOTA_MINUTE; i <= QUOTA_CREDIT; i++) {
		if (!slice_equal(value, slice_of(names[i])))
			continue;
		b->quota = (enum quota)i;
		b->status = 429;
		return true;
	}
	return false;
}

static bool put_framing(struct slice value, bool *chunked)
{
	*chunked = slice_equal(value, SLICE("chunked"));
	return *chunked || slice_equal(value, SLICE("length"));
}

static bool put_word(struct behaviour *b, struct slice key, struct slice value)
{
#define WORD(name, how)                                                                                                \
	if (slice_equal(key, SLICE(name)))                                                                             \
	return how
	WORD("latency", text_duration(value, &b->latency));
	WORD("jitter", text_duration(value, &b->jitter));
	WORD("tokens", text_count(value, &b->tokens));
	WORD("rate", put_rate(value, &b->rate));
	WORD("chunk", text_count(value, &b->chunk) && b->chunk > 0);
	WORD("size", text_size(value, &b->size));
	WORD("thoughts", text_count(value, &b->thoughts));
	WORD("cached", text_count(value, &b->cached));
	WORD("status", put_status(value, &b->status));
	WORD("quota", put_quota(value, b));
	WORD("retry", text_duration(value, &b->retry));
	WORD("fault", put_fault(value, b));
	WORD("drip", text_count(value, &b->drip));
	WORD("slice", text_count(value, &b->slice));
	WORD("chance", text_percent(value, &b->chance));
	WORD("nonce", put_nonce(value, b->nonce));
	WORD("framing", put_framing(value, &b->chunked));
	WORD("tools", put_switch(value, &b->tools));
	WORD("usage", put_switch(value, &b->usage));
	WORD("filter", put_switch(value, &b->filter));
	WORD("fresh", put_switch(value, &b->fresh));
	WORD("unique", put_switch(value, &b->unique));
#undef WORD
	return false;
}

bool behaviour_apply(struct behaviour *b, struct slice words, struct slice *bad)
{
	words = slice_trim(words);
	while (words.len > 0) {
		struct slice value, word = slice_cut(words, ' ', &words);
		struct slice key = slice_cut(word, '=', &value);
		if (word.len > 0 && !put_word(b, key, value)) {
			*bad = word;
			return false;
		}
	}
	return true;
}

/* clang-format off */
static const struct {
	const char *name, *words;
} model_words[] = {
	{ "slow",      "latency=2s rate=5" },
	{ "429",       "status=429 retry=2s" },
	{ "quota",     "quota=day" },
	{ "credit",    "quota=credit" },
	{ "500",       "status=500" },
	{ "502",       "status=502" },
	{ "503",       "status=503" },
	{ "504",       "status=504" },
	{ "529",       "status=529" },
	{ "reset",     "fault=reset" },
	{ "cut",       "fault=fin@200 tokens=50" },
	{ "stall",     "fault=stall" },
	{ "garbage",   "fault=garbage" },
	{ "nomarker",  "fault=nomarker" },
	{ "long",      "tokens=1000 rate=50" },
};
/* clang-format on */

void behaviour_of_model(struct behaviour *b, struct slice model)
{
	struct slice bad;
	if (!slice_starts(model, SLICE("sim-")))
		return;
	model = slice_skip(model, 4);
	for (size_t i = 0; i < ARRAY_LENGTH(model_words); i++) {
		struct slice name = slice_of(model_words[i].name);
		if (slice_starts(model, name) && (model.len == name.len || model.data[name.len] == '-'))
			CHECK(behaviour_apply(b, slice_of(model_words[i].words), &bad));
	}
}

/* memchr and not memmem, which compares a great deal in long texts of few different characters. */
static bool find(struct slice *text, struct slice wanted)
{
	while (text->len >= wanted.len) {
		*text = slice_skip(*text, slice_find(*text, wanted.data[0]));
		if (slice_starts(*text, wanted))
			return true;
		*text = slice_skip(*text, 1);
	}
	return false;
}

struct slice behaviour_in_text(struct slice text)
{
	struct slice found = SLICE_NONE;
	while (find(&text, SLICE("[[sim "))) {
		struct slice from = slice_skip(text, sizeof("[[sim ") - 1);
		text = from;
		if (find(&text, SLICE("]]")))
			found = slice_first(from, from.len - text.len);
	}
	return found;
}
