/* What one JSON text costs in lib/json_scan, beside jansson on the same text: the fastest of several rounds, because
 * the machine's noise only ever adds. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "lib/buf.h"
#include "lib/json_scan.h"

enum { MEBI = 1 << 20, ROUNDS = 9 };

static const struct json_path paths[] = {
	{ "", 0 },
	{ "model", 256 },
	{ "stream", 0 },
	{ "max_tokens", 0 },
	{ "max_completion_tokens", 0 },
	{ "n", 0 },
	{ "temperature", 0 },
	{ "stream_options", 0 },
	{ "stream_options.include_usage", 0 },
	{ "messages[].content", 0 },
	{ "messages[].content[].text", 0 },
	{ "messages[].content[].image_url.url", 0 },
	{ "usage.prompt_tokens", 0 },
	{ "usage.completion_tokens", 0 },
	{ "choices[].finish_reason", 32 },
	{ "choices[].delta.content", 0 },
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* Microseconds for one pass, 64 KiB at a time. */
static double time_scan(struct json_scan *scan, struct slice text, enum json_scan_state *state)
{
	const size_t piece = 64 * 1024, passes = 1 + 2 * MEBI / (text.len + 1);
	double best = 1e18;

	for (int round = 0; round < ROUNDS; round++) {
		double start = now();
		for (size_t i = 0; i < passes; i++) {
			json_scan_reset(scan);
			for (size_t at = 0; at < text.len; at += piece)
				if (json_scan_feed(scan, slice_first(slice_skip(text, at), piece)) == JSON_SCAN_FAILED)
					break;
			*state = json_scan_finish(scan);
		}
		double spent = (now() - start) / (double)passes;
		best = spent < best ? spent : best;
	}
	return best;
}

static double time_jansson(struct slice text)
{
	size_t passes = 1 + MEBI / 4 / (text.len + 1);
	double best = 1e18;

	for (int round = 0; round < 3; round++) {
		double start = now();
		for (size_t i = 0; i < passes; i++)
			json_decref(json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL));
		double spent = (now() - start) / (double)passes;
		best = spent < best ? spent : best;
	}
	return best;
}

static void report(const char *name, const struct json_plan *plan, struct slice text, bool hash, bool compare)
{
	struct json_scan_options options = { .hash = hash };
	struct json_scan *scan = json_scan_new(plan, &options);
	enum json_scan_state state = JSON_SCAN_MORE;
	double spent = time_scan(scan, text, &state);

	printf("%-24s %9zu bytes %10.2f us %7.0f MB/s", name, text.len, spent, (double)text.len / spent);
	if (state == JSON_SCAN_FAILED) {
		size_t offset;
		enum json_scan_error error = json_scan_error(scan, &offset);
		printf("   %s at byte %zu", json_scan_error_text(error), offset);
	}
	if (compare)
		printf("   jansson %.1f us", time_jansson(text));
	printf("\n");
	json_scan_free(&scan);
}

static void append(struct buf *b, struct slice what)
{
	if (!buf_append(b, what))
		abort();
}

/* before, filling again and again, after: about `size` bytes. */
static struct slice fill(struct buf *b, const char *before, const char *filling, size_t size, const char *after)
{
	buf_clear(b);
	append(b, slice_of(before));
	while (b->len + strlen(filling) + strlen(after) <= size)
		append(b, slice_of(filling));
	append(b, slice_of(after));
	return buf_slice(b);
}

#define HEAD  "{\"model\":\"gpt-4o-mini\",\"temperature\":0.7,\"max_tokens\":512,\"stream\":true,\"messages\":["
#define USER  "{\"role\":\"user\",\"content\":\""
#define SHORT ",{\"role\":\"assistant\",\"content\":\"Good morning, what can I do for you?\"}"
#define EVENT                                                                                                          \
	"{\"id\":\"chatcmpl-123\",\"object\":\"chat.completion.chunk\",\"created\":1694268190,\"model\":\"gpt-4o-"     \
	"mini\","                                                                                                      \
	"\"system_fingerprint\":\"fp_44709d6fcb\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"},"        \
	"\"logprobs\":null,\"finish_reason\":null}]}"
#define ANSWER                                                                                                         \
	"{\"id\":\"chatcmpl-123\",\"object\":\"chat.completion\",\"created\":1694268190,\"model\":\"gpt-4o-mini\","    \
	"\"choices\":[{\"index\":0,\"finish_reason\":\"stop\",\"message\":{\"role\":\"assistant\",\"content\":\""
#define USAGE                                                                                                          \
	"\"}}],\"usage\":{\"prompt_tokens\":487,\"completion_tokens\":55,\"total_tokens\":542,"                        \
	"\"completion_tokens_details\":{\"reasoning_tokens\":0}}}"

int main(void)
{
	struct json_plan *plan = json_plan_new(paths, ARRAY_LENGTH(paths));
	struct buf b;

	buf_init(&b, 64 * MEBI);
	report("chat, one long message", plan, fill(&b, HEAD USER, "What does it do when asked? \\n", 2048, "\"}]}"),
	       false, true);
	report("the same, hashed", plan, buf_slice(&b), true, false);
	report("chat, short messages", plan, fill(&b, HEAD USER "hello\"}", SHORT, 2048, "]}"), false, true);
	report("the same, hashed", plan, buf_slice(&b), true, false);
	report("chat of 1 MiB, hashed", plan, fill(&b, HEAD USER, "What does it do when asked? \\n", MEBI, "\"}]}"),
	       true, false);
	report("short ones, hashed", plan, fill(&b, HEAD USER "hello\"}", SHORT, MEBI, "]}"), true, false);
	report("an image, hashed", plan, fill(&b, HEAD USER, "iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB", MEBI, "\"}]}"), true,
	       false);
	report("token ids, hashed", plan, fill(&b, "{\"input\":[0", ",12345", MEBI, "]}"), true, false);
	report("chat, Chinese", plan, fill(&b, HEAD USER, "\xE4\xBD\xA0\xE5\xA5\xBD", 2048, "\"}]}"), false, true);
	report("one event of a stream", plan, slice_of(EVENT), false, true);
	report("a plain answer", plan, fill(&b, ANSWER, "What it says goes on. ", 1024, USAGE), false, true);
	report("a base64 image", plan, fill(&b, HEAD USER, "iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB", 20 * MEBI, "\"}]}"),
	       false, false);
	report("an embedding", plan, fill(&b, "{\"data\":[0", ",-0.0123456789", 4 * MEBI, "]}"), false, false);
	report("hostile: [],[],[]", plan, fill(&b, "[0", ",[]", 20000000, "]"), false, false);
	report("hostile: [[[[[[", plan, fill(&b, "", "[", 20000000, "]"), false, false);
	report("hostile: escapes only", plan, fill(&b, "\"", "\\u00e9", 20 * MEBI, "\""), false, false);
	buf_free(&b);
	json_plan_free(&plan);
	return 0;
}
