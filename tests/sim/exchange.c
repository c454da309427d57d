/* The life of one request.
 *
 *   request ─► judge ─► wait for the latency ─► open (head, and a plain body) ─► pump ⇄ wait (rate, writable) ─► end
 *                                                      │                          │
 *                                                      └── cut at the fault's byte ──► act (RST, FIN, stall …)
 *
 * Bytes of the body are counted as they are queued, after the head and with their chunk framing, so that a fault at byte n is
 * at byte n of what a packet dump shows. */
#include "exchange.h"

#include <stdio.h>

#include "filler.h"
#include "head.h"
#include "judge.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "writer.h"

#define PUMP_BYTES  16384   /* queued before the peer must have read */
#define RESET_DELAY 10000   /* before an RST, so that the peer can read what came before it */
#define TRICKLE     1000000 /* drip= is bytes in this many microseconds */
#define LINE_SIZE   (INT64_C(64) << 20)
#define BOMB_SIZE   (INT64_C(1) << 30)
#define MAGIC       0x51E7C4A9

enum phase { WAITING, SENDING, RESETTING, STALLED };

/* Owned by its wire from exchange_begin to exchange_end. `cut` means that the fault's byte was reached: nothing more is queued. */
struct exchange {
	uint32_t magic;
	struct sim *sim;
	struct wire *wire;
	struct ask ask;
	struct judgement judgement;
	struct ledger_entry entry;
	struct loop_timer timer;
	enum phase phase;
	bool chunked, cut, finished, opened;
	size_t step, steps; /* of a stream */
	struct filler filler;
	int64_t queued, cut_at; /* bytes of body; cut_at -1: no fault by position */
	int64_t billed;         /* output tokens sent so far */
	int64_t due;            /* when the next paced step may go */
};

static void pump(struct exchange *x);

static struct behaviour *behaviour_of(struct exchange *x)
{
	return &x->ask.behaviour;
}

/* ---- the end --------------------------------------------------------------- */

static void settle(struct exchange *x, enum ledger_outcome outcome)
{
	bool served = x->judgement.status < 400 && x->opened;
	int64_t input = served ? x->ask.input : 0, output = served ? x->billed : 0;
	if (x->entry.open && served)
		limits_charge(x->sim->limits, slice_of(x->ask.model), output);
	ledger_end(x->sim->ledger, &x->entry, &x->ask, x->judgement.status, outcome, input, output);
	loop_timer_free(&x->timer);
	judgement_free(&x->judgement);
	ask_free_content(&x->ask);
	x->magic = 0;
	mem_free(x);
}

static void finish(struct exchange *x, bool keep)
{
	struct wire *wire = x->wire;
	enum fault fault = behaviour_of(x)->fault;
	settle(x,
	       fault == FAULT_none || fault == FAULT_early || fault == FAULT_extra ? LEDGER_COMPLETED : LEDGER_BROKEN);
	wire_done(wire, keep);
}

static void reset_now(struct exchange *x)
{
	struct wire *wire = x->wire;
	settle(x, LEDGER_BROKEN);
	wire_reset(wire);
}

/* Everything up to the fault's byte has left. */
static void act(struct exchange *x)
{
	switch (behaviour_of(x)->fault) {
	case FAULT_reset:
		x->phase = RESETTING;
		loop_timer_set(&x->timer, RESET_DELAY);
		return;
	case FAULT_stall:
		x->phase = STALLED;
		return;
	default:
		finish(x, false);
	}
}

/* ---- queueing -------------------------------------------------------------- */

/* Queues bytes that follow the head, up to the fault's byte. */
static void queue(struct exchange *x, struct slice bytes)
{
	if (x->cut_at >= 0 && x->queued + (int64_t)bytes.len >= x->cut_at) {
		bytes = slice_first(bytes, (size_t)(x->cut_at - x->queued));
		x->cut = true;
	}
	x->queued += (int64_t)bytes.len;
	buf_append(wire_out(x->wire), bytes);
}

static void queue_chunk(struct exchange *x, struct slice bytes)
{
	char size[24];
	int len = snprintf(size, sizeof(size), "%zx\r\n", bytes.len);
	queue(x, slice_make(size, (size_t)len));
	if (!x->cut)
		queue(x, bytes);
	if (!x->cut)
		queue(x, SLICE("\r\n"));
	int64_t position = behaviour_of(x)->position;
	if (behaviour_of(x)->fault != FAULT_badchunk || x->cut || x->queued < position)
		return;
	queue(x, SLICE("zz\r\nthis chunk has no size\r\n"));
	x->cut = true;
}

static void queue_body(struct exchange *x, struct slice bytes)
{
	if (!x->chunked)
		queue(x, bytes);
	else if (bytes.len > 0)
		queue_chunk(x, bytes);
}

/* What comes behind the body. */
static void queue_end(struct exchange *x)
{
	x->finished = true;
	if (x->chunked)
		queue(x, SLICE("0\r\n\r\n"));
	if (behaviour_of(x)->fault == FAULT_extra)
		buf_append(wire_out(x->wire),
			   SLICE("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 20\r\n\r\n"
				 "not asked for by you"));
	/* these end in FIN where the body would have ended, if not before */
	enum fault fault = behaviour_of(x)->fault;
	if (fault == FAULT_fin || fault == FAULT_reset || fault == FAULT_stall || fault == FAULT_badchunk)
		x->cut = true;
}

static void bill(struct exchange *x, int64_t tokens)
{
	x->billed += tokens;
}

/* ---- opening --------------------------------------------------------------- */

static void put_head(struct exchange *x, const char *type, int64_t length)
{
	struct behaviour *b = behaviour_of(x);
	struct buf *out = wire_out(x->wire);
	struct head head = { .status = x->judgement.status,
			     .content_type = type,
			     .length = length,
			     .gzip = b->fault == FAULT_bomb,
			     .close = b->fresh || !wire_keeps_alive(x->wire),
			     .more = buf_slice(&x->judgement.fields),
			     .limits = x->judgement.limited ? &x->judgement.limits : NULL };
	if (b->fault == FAULT_early)
		buf_append(out, SLICE("HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\nHTTP/1.1 100 "
				      "Continue\r\n\r\n"));
	x->chunked = length < 0;
	head_put(x->sim, &x->ask, &head, out);
}

/* Where a fault by position strikes a body of this length. */
static void place_fault(struct exchange *x, int64_t length)
{
	struct behaviour *b = behaviour_of(x);
	x->cut_at = -1;
	if (b->fault == FAULT_truncate)
		x->cut_at = b->position >= 0 ? b->position : length / 2;
	else if (b->fault == FAULT_reset || b->fault == FAULT_fin || b->fault == FAULT_stall)
		x->cut_at = b->position;
	if (x->cut_at == 0)
		x->cut = true;
}

static void open_filler(struct exchange *x)
{
	struct behaviour *b = behaviour_of(x);
	bool bomb = b->fault == FAULT_bomb;
	int64_t size = b->size > 0 ? b->size : bomb ? BOMB_SIZE : LINE_SIZE;
	x->filler = filler_of(bomb ? FILLER_BOMB : FILLER_LINE, size);
	put_head(x, bomb ? "application/json" : "text/event-stream", -1);
}

static void open_stream(struct exchange *x)
{
	const struct writer *writer = x->judgement.writer;
	struct behaviour *b = behaviour_of(x);
	x->steps = writer->steps(&x->ask);
	if (b->fault == FAULT_nomarker)
		x->steps -= writer->markers(&x->ask);
	place_fault(x, 200);
	put_head(x, x->ask.array ? writer->whole_type : writer->stream_type, -1);
	x->due = clock_now();
	wire_forget_request(x->wire);
}

static void open_plain(struct exchange *x)
{
	struct behaviour *b = behaviour_of(x);
	struct slice body = buf_slice(&x->judgement.body);
	bool chunked = b->chunked || b->fault == FAULT_badchunk;
	place_fault(x, (int64_t)body.len);
	put_head(x, x->judgement.type, chunked ? -1 : (int64_t)body.len);
	if (x->judgement.writer != NULL)
		bill(x, ask_output_in_all(&x->ask));
	if (x->cut || x->judgement.head_only) {
		x->finished = true;
		return;
	}
	if (chunked && body.len > 1) {
		queue_body(x, slice_first(body, body.len / 2));
		body = slice_skip(body, body.len / 2);
	}
	if (!x->cut)
		queue_body(x, body);
	if (!x->cut)
		queue_end(x);
}

/* Faults that leave no valid head. True when the exchange is over or waits for its peer. */
static bool broken_before_head(struct exchange *x)
{
	struct behaviour *b = behaviour_of(x);
	if (b->fault == FAULT_garbage) {
		buf_append(wire_out(x->wire), SLICE("\x16\x03\x01 this is not HTTP at all \xff\xfe\r\n\r\n\r\n"));
		x->cut = true;
		pump(x);
		return true;
	}
	if (b->position >= 0 || (b->fault != FAULT_reset && b->fault != FAULT_fin && b->fault != FAULT_stall))
		return false;
	act(x);
	return true;
}

static void open_answer(struct exchange *x)
{
	x->phase = SENDING;
	if (broken_before_head(x))
		return;
	x->opened = true;
	if (x->judgement.status < 400 &&
	    (behaviour_of(x)->fault == FAULT_bomb || behaviour_of(x)->fault == FAULT_longline))
		open_filler(x);
	else if (x->judgement.streams)
		open_stream(x);
	else
		open_plain(x);
	pump(x);
}

/* ---- sending --------------------------------------------------------------- */

static void queue_filler(struct exchange *x)
{
	struct buf piece;
	buf_init(&piece, 4 * PUMP_BYTES);
	if (filler_next(&x->filler, &piece))
		queue_body(x, buf_slice(&piece));
	else if (behaviour_of(x)->fault == FAULT_bomb)
		queue_end(x);
	else
		x->cut = true; /* the line never ends: FIN without the last chunk */
	buf_free(&piece);
}

/* Microseconds until the step may go; 0: now. */
static int64_t wait_of_step(struct exchange *x, int64_t tokens)
{
	double rate = behaviour_of(x)->rate;
	if (rate <= 0 || tokens == 0)
		return 0;
	int64_t wait = x->due - clock_now();
	if (wait > 0)
		return wait;
	x->due += (int64_t)((double)tokens * 1e6 / rate);
	return 0;
}

/* Queues the next event, or the end. False when it must wait for its time; the timer is set then. */
static bool queue_step(struct exchange *x)
{
	const struct writer *writer = x->judgement.writer;
	struct behaviour *b = behaviour_of(x);
	if (x->step == x->steps) {
		queue_end(x);
		return true;
	}
	int64_t tokens = writer->tokens(&x->ask, x->step), wait = wait_of_step(x, tokens);
	if (wait > 0) {
		loop_timer_set(&x->timer, wait);
		return false;
	}
	struct buf event;
	buf_init(&event, INT64_C(64) << 20);
	if (b->fault == FAULT_event && x->billed >= b->position && tokens > 0) {
		writer->broken(&x->ask, SLICE("The model is overloaded. Please try again later."), &event);
		x->steps = x->step;
	} else {
		writer->event(&x->ask, x->step++, &event);
		bill(x, tokens);
	}
	queue_body(x, buf_slice(&event));
	buf_free(&event);
	return true;
}

/* Sends what is queued, at most as much as drip= and slice= allow. True when all of it has left. */
static bool send_queued(struct exchange *x)
{
	struct behaviour *b = behaviour_of(x);
	if (wire_unsent(x->wire) == 0)
		return true;
	if (b->drip == 0 && b->slice == 0) {
		wire_flush(x->wire, SIZE_MAX);
		return wire_unsent(x->wire) == 0;
	}
	int64_t most = b->slice > 0 ? b->slice : 1 + b->drip / 1000;
	wire_flush(x->wire, (size_t)most);
	if (wire_unsent(x->wire) == 0 && b->drip == 0)
		return true;
	loop_timer_set(&x->timer, b->drip > 0 ? most * TRICKLE / b->drip : CLOCK_MILLISECOND);
	return false;
}

static bool has_more(const struct exchange *x)
{
	return !x->cut && !x->finished;
}

/* Queues and sends until it must wait for the peer or for time, or is at the end. */
static void pump(struct exchange *x)
{
	for (;;) {
		bool timed = false;
		while (has_more(x) && !timed && wire_unsent(x->wire) < PUMP_BYTES) {
			if (x->filler.kind != FILLER_NONE)
				queue_filler(x);
			else
				timed = !queue_step(x);
		}
		if (!send_queued(x) || timed)
			return;
		if (has_more(x))
			continue;
		if (x->cut)
			act(x);
		else
			finish(x, !behaviour_of(x)->fresh);
		return;
	}
}

/* ---- events ---------------------------------------------------------------- */

static void on_timer(void *arg)
{
	struct exchange *x = arg;
	CHECK(x->magic == MAGIC);
	if (x->phase == WAITING)
		open_answer(x);
	else if (x->phase == RESETTING)
		reset_now(x);
	else if (x->phase == SENDING)
		pump(x);
}

static void on_drained(void *arg)
{
	struct exchange *x = arg;
	CHECK(x->magic == MAGIC);
	if (x->phase == SENDING)
		pump(x);
}

static void on_gone(void *arg)
{
	struct exchange *x = arg;
	CHECK(x->magic == MAGIC);
	settle(x, x->sim->down == SIM_REFUSE ? LEDGER_BROKEN : LEDGER_ABORTED);
}

static int64_t latency_of(struct exchange *x)
{
	struct behaviour *b = behaviour_of(x);
	return b->latency + (b->jitter > 0 ? (int64_t)(x->ask.seed % (uint64_t)(b->jitter + 1)) : 0);
}

static void *begin(struct sim *sim, struct wire *wire, const struct wire_request *request, bool garbage)
{
	struct exchange *x = mem_new(sizeof(*x));
	x->magic = MAGIC;
	x->sim = sim;
	x->wire = wire;
	x->cut_at = -1;
	loop_timer_init(&x->timer, sim->loop, on_timer, x);
	judge(sim, request, &x->ask, &x->entry, &x->judgement);
	if (garbage)
		behaviour_of(x)->fault = FAULT_garbage;
	int64_t latency = latency_of(x);
	if (latency > 0) {
		loop_timer_set(&x->timer, latency);
		return x;
	}
	open_answer(x); /* may end it at once; the wire does not keep the pointer then */
	return x;
}

static void *on_request(void *context, struct wire *wire, const struct wire_request *request)
{
	struct sim *sim = context;
	return begin(sim, wire, request, sim->down == SIM_GARBAGE);
}

static void *on_control_request(void *context, struct wire *wire, const struct wire_request *request)
{
	return begin(context, wire, request, false);
}

/* Calls of an API and echoes are counted while they are here; lists, health checks and our own pages are not. */
static bool on_head(void *context, const struct wire_request *request)
{
	struct sim *sim = context;
	struct route route = route_of(request->path, DIALECT_OPENAI);
	if (route.get || route.verb == VERB_NONE || route.verb == VERB_CONTROL)
		return false;
	ledger_at_once(sim->ledger, true);
	return true;
}

static void on_over(void *context)
{
	struct sim *sim = context;
	ledger_at_once(sim->ledger, false);
}

static bool on_control_head(void *context, const struct wire_request *request)
{
	(void)context;
	(void)request;
	return false;
}

static void on_control_connection(void *context, bool opened)
{
	(void)context;
	(void)opened;
}

static void on_connection(void *context, bool opened)
{
	struct sim *sim = context;
	ledger_connection(sim->ledger, opened);
}

const struct wire_handler exchange_handler = { on_connection, on_head, on_over, on_request, on_drained, on_gone };
const struct wire_handler exchange_control_handler = { on_control_connection, on_control_head, on_over,
						       on_control_request,    on_drained,      on_gone };
