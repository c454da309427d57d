/* How a dialect writes an answer: whole, or as the numbered steps of a stream.
 *
 *   step 0 ───────► … text steps … ───────► marker steps      each writes one event; what a step bills is told apart,
 *   (opening)       (paced by rate)         (finish, usage)   so that an aborted stream is billed to the token
 */
#ifndef SIM_WRITER_H
#define SIM_WRITER_H

#include "ask.h"

struct buf;

struct writer {
	void (*whole)(const struct ask *, struct buf *);
	size_t (*steps)(const struct ask *);                /* all of them; NULL: the verb cannot stream */
	size_t (*markers)(const struct ask *);              /* how many of the last ones are the terminal marker */
	int64_t (*tokens)(const struct ask *, size_t step); /* output tokens that the step bills; 0: it is not paced */
	void (*event)(const struct ask *, size_t step, struct buf *);           /* the step's bytes */
	void (*broken)(const struct ask *, struct slice message, struct buf *); /* an error inside the stream */
	const char *whole_type, *stream_type;                                   /* Content-Type */
};

/* NULL when the dialect does not have the verb. */
const struct writer *writer_of(const struct ask *);

#endif
