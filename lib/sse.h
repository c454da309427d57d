/* Reads a stream of server-sent events beside its passing by (WHATWG HTML, section 9.2.6 "Interpreting an event
 * stream").
 *
 *   pieces ──► sse_feed ──► data(piece) data(piece) … event(name, [start, end))
 *
 * Nothing of an event's data is kept: it is given as it comes, so a line of 1 MiB needs no room, and there is no
 * longest line. How the stream is cut changes only how the data is cut.
 *
 * Every byte of the stream belongs to one block: from the end of the block before up to and with the blank line;
 * comments in front of an event are in its block. Who drops a block, bytes [start, end), leaves a well-formed stream. A
 * block ends when its blank line is seen, not one byte later: of CR LF the LF then stands in front of the next block.
 * The last block, without a blank line, is no event.
 * Disadvantage: an event's name may come behind its data; who needs it first must wait for the event's end. */
#ifndef SLUICE_SSE_H
#define SLUICE_SSE_H

#include "lib/base.h"
#include "lib/slice.h"

enum { SSE_NAME = 128 }; /* a longer event name is kept as far as this, and `name_cut` says so */

struct sse_event {
	struct slice name; /* empty: none was given (the standard then says "message"); valid during the callback */
	bool name_cut;
	bool has_data;     /* without a data line a block is no event: comments, blank lines, a bare name */
	size_t start, end; /* the block's bytes in the stream */
};

/* Data of the event that is being read; lines after the first with an LF before them. Never empty; valid during the
 * callback. */
typedef void sse_on_data(void *arg, struct slice piece);
/* A block has ended. */
typedef void sse_on_event(void *arg, const struct sse_event *event);

struct sse;

/* The callbacks run inside sse_feed and must not free or feed the reader. */
struct sse *sse_new(sse_on_data *on_data, sse_on_event *on_event, void *arg);
void sse_free(struct sse **);
void sse_feed(struct sse *, struct slice piece);
size_t sse_block_start(const struct sse *); /* where the block that is not ended begins: all before has been judged */

#endif
