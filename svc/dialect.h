/* How a provider's API looks: which paths it has, where the model, the maximum and the usage stand.
 *
 *   dialect_route (head) ──► dialect_read (body, as it arrives) ──► dialect_close_body ──► dialect_target + splices ──► upstream
 *   client ◄── bytes, unchanged ◄── meter_write ◄── upstream's answer; beside it the meter reads usage and the end
 *
 * Nothing here waits, and nothing is re-serialised: what must change in a body is a splice. In svc/dialect/: one file per provider with its tables of
 * paths and members; path.c, body.c and models.c, which read and write by them; failure.c, which reads errors; the meter: meter.c, and how streams end:
 * meter_said.c (meter_said_event). */
#ifndef SLUICE_DIALECT_H
#define SLUICE_DIALECT_H

#include "lib/base.h"
#include "lib/mem.h"
#include "lib/slice.h"
#include "svc/kinds.h"
#include "svc/refusal.h"

struct buf;
struct dialect_reader;
struct meter;

enum dialect_framing {
	DIALECT_PLAIN,
	DIALECT_EVENTS,
	DIALECT_ARRAY
}; /* one body; server-sent events; Gemini's JSON array */

/* The head as the dialects need it: the client's key has been taken off already. */
struct dialect_head {
	struct slice method, path, query; /* path without '?'; still percent-encoded */
	bool anthropic_version;           /* that field is there */
	bool google_key;                  /* the key came as x-goog-api-key or ?key= */
	struct slice content_type;
};

/* At most this many changes to one body. */
enum { DIALECT_SPLICES = 4 };
enum { DIALECT_MODEL_MOST = 256 }; /* bytes of a model's name */
struct dialect_splice {
	size_t offset, remove;
	struct slice insert;
};

/* What one request asks for. Filled by dialect_route, completed by dialect_close_body; slices live in the request's arena. */
struct dialect_call {
	enum dialect dialect; /* always set, also when refused: the nearest one */
	enum operation operation;
	/* The same request may be expected to get the same answer: temperature 0 was asked for, in the dialect's own place; embeddings and token counts
	 * always are, dialect http never. */
	bool deterministic;
	struct slice model;           /* as the client names it; empty until known */
	struct slice upstream;        /* dialect http: the first path segment */
	struct slice rest;            /* dialect http: the path behind it, with its query, starts with '/' */
	enum dialect_framing framing; /* of the answer that is asked for */
	bool takes_body;              /* a JSON body is needed (or, for dialect http, may come) */
	bool responses;               /* openai: /v1/responses, whose streams and errors have a shape of their own */
	bool tools;                   /* tools are offered to the model */
	bool media;                   /* images, audio or files are in it, or named by it */
	struct slice
		session; /* what the body itself says to whom it belongs (prompt_cache_key, user, metadata.user_id); empty: nothing */
	bool usage_asked;                /* openai: stream_options.include_usage was the client's own wish */
	int64_t max_output;              /* tokens, all candidates together; -1: not said */
	int64_t candidates;              /* how many answers are asked for */
	int64_t text_bytes, media_bytes; /* of the input, for the estimate */
	size_t model_offset,
		model_length; /* of the model's value in the body, quotes included; 0, 0 when it is in the path */
	struct dialect_splice usage_splice; /* openai: what to insert to be told usage; insert empty: nothing */
	struct slice path, query;           /* as routed */
	size_t path_model,
		path_model_length; /* in `path`: what names the model, its collection included; 0, 0: nothing */
};

/* Refuses unknown paths and wrong methods; `detail` gets what is allowed. */
enum refusal dialect_route(const struct dialect_head *, struct mem *, struct dialect_call *,
			   struct buf *detail) MUST_CHECK;

/* For a path that is nowhere: when it ends as one of a dialect does, the call becomes of that dialect, and `detail`, instead of what it held, says which
 * path was meant and how base URLs end here. dialect_route has done so where it refused; for dialect http this is for who knows the upstreams' names. */
void dialect_suggest(struct dialect_call *, struct buf *detail);

/* Reads the body beside its arrival. The reader does not keep the bytes. */
struct dialect_reader *dialect_reader_new(const struct dialect_call *);
void dialect_reader_free(struct dialect_reader **);
/* A refusal comes as soon as it is sure; `detail` says where and why ("byte 1234: …"). */
enum refusal dialect_read(struct dialect_reader *, struct slice piece, struct buf *detail) MUST_CHECK;
enum refusal dialect_close_body(struct dialect_reader *, struct mem *, struct dialect_call *,
				struct buf *detail) MUST_CHECK;

/* The target at the upstream: prefix + path with the model exchanged (`model` empty: unchanged) + the query that may pass. False: no room. */
bool dialect_target(const struct dialect_call *, struct slice prefix, struct slice model, struct buf *out) MUST_CHECK;
/* The changes to the body, in order of offset: the model exchanged (`model` empty: unchanged), usage asked for. False: no room. */
bool dialect_splices(const struct dialect_call *, struct slice model, bool ask_usage, struct mem *,
		     struct dialect_splice splices[DIALECT_SPLICES], size_t *count) MUST_CHECK;

/* What a body means, for telling whether two requests ask the same. Blanks, escapes, the order of members and the spelling of numbers do not count in JSON;
 * in dialect http every byte does. False: it cannot be told (a name that stands twice anywhere, more than 32 Ki values, a number past all bounds). 2 KiB of
 * chat take 3 to 7 µs; one MiB of text 1.3 ms, of base64 0.7 ms, of any other body 0.6 ms; the worst 4 MiB 17 ms. Owned by one thread. */
enum { DIALECT_DIGEST = 32 };
struct dialect_digest;
struct dialect_digest *dialect_digest_new(void);
void dialect_digest_free(struct dialect_digest **);
bool dialect_digest_body(struct dialect_digest *, enum dialect, const struct slice *pieces, size_t count,
			 unsigned char digest[DIALECT_DIGEST]) MUST_CHECK;
/* SHA-256 of the pieces in a row, with what is at hand for it. */
void dialect_digest_bytes(struct dialect_digest *, const struct slice *pieces, size_t count,
			  unsigned char digest[DIALECT_DIGEST]);

/* Why a provider answered an error that another try might mend: read from its head and the beginning of its body. */
enum dialect_failure {
	DIALECT_FAILURE_OTHER,     /* nothing more than the status says */
	DIALECT_FAILURE_LIMITED,   /* a rate limit: it passes in seconds or minutes */
	DIALECT_FAILURE_EXHAUSTED, /* a quota of a day, or a credit, is used up */
	DIALECT_FAILURE_POLICY,    /* the content policy: it would refuse again */
};
struct dialect_failed {
	enum dialect_failure why;
	int64_t retry_after; /* microseconds, as told: Retry-After (seconds or a date), retry-after-ms, Google's RetryInfo, reset fields; -1: nothing */
};
/* `fields` as the upstream sent them; `body` may be cut. `now` is Unix time in microseconds. A day's quota without a time of its own ends as that provider's
 * days do: Google's at midnight in Los Angeles; others' in an hour, to be looked at again. */
struct pool_field;
void dialect_read_failure(enum dialect, int status, const struct pool_field *fields, size_t fields_count,
			  struct slice body, int64_t now, struct dialect_failed *);

/* The list that `GET …/models` answers, or one model's page, in the call's shape. */
void dialect_write_models(const struct dialect_call *, const struct slice *names, size_t count, struct buf *out);
void dialect_write_model(const struct dialect_call *, struct slice name, struct buf *out);

/* The meter reads an answer while it passes: usage, how much was said, whether it ended as its dialect ends.
 *
 * What counts as whole:
 * - A stream has ended when it says so ([DONE], message_stop, response.completed, a reason for each candidate, the array's `]` behind such), however its
 *   connection ends; without that it is cut, however well the transfer ended.
 * - A plain answer is whole when its transfer and its JSON are. JSON that is not finished is a cut answer, and never looks whole: of a promised length the
 *   last byte is held back.
 * - What the scanner dislikes otherwise (a name twice, bad UTF-8, a byte order mark, too deep, no JSON at all) may well be whole. It passes byte for byte; its
 *   usage is not known, so that the estimate is charged, and the log says why (`unmetered`). The same holds for the last event of a stream whose end would be
 *   told in JSON. */
struct meter_usage {
	/* Known: the provider's last word. Not known: what it had said when the stream was cut, a lower bound; 0: nothing. */
	bool input_known, output_known;
	int64_t input, cached, output; /* tokens; output counts reasoning too, as it is billed */
};
struct meter_result {
	struct meter_usage usage;
	int64_t output_bytes; /* of text, tool arguments and the like, decoded: what was seen, when usage never came */
	bool ended;           /* the terminal marker of a stream was seen; for a plain body: it was whole, valid JSON */
	const char *unread; /* why it, or what would have been its end, could not be read; NULL: nothing of the kind */
	bool error_in_band; /* the upstream itself reported an error inside the answer */
	/* The provider's content policy stopped or withheld the answer; or Gemini ended it for any reason but STOP and MAX_TOKENS: an accident, or one
	 * that we do not know. */
	bool filtered;
};
typedef void meter_out(void *arg, struct slice bytes);

/* `hide_usage`: the usage chunk was our wish, not the client's: it is taken out again (OpenAI), byte-exactly. A status of 300 or more is passed and not read. */
struct meter *meter_new(const struct dialect_call *, int status, struct slice content_type, bool hide_usage);
void meter_free(struct meter **);
/* The length of the answer that may be promised to the client, of the one that the upstream promised; -1: none, because a stream may end early, with or
 * without an error behind it. Before the first byte. */
int64_t meter_promise(struct meter *, int64_t length);
/* Hands on what may go to the client, unchanged but for what is taken out or held back. A memory ceiling holds: what cannot be read beside (a line without
 * end) is passed all the same. */
void meter_write(struct meter *, struct slice bytes, meter_out *out, void *arg);
/* The upstream's body is over, and `whole` says that its transfer was: hands on what was held back, unless it is the end of an answer that is cut. */
void meter_finish(struct meter *, bool whole, meter_out *out, void *arg);
void meter_result(const struct meter *, struct meter_result *);
/* What has been handed on ends between two events: an event may be appended. Never for a JSON array. */
bool meter_between_events(const struct meter *) MUST_CHECK;

#endif
