/* What the client is answered: the gateway's own errors and lists, the upstream's head with our fields beside it, and the error inside a stream that broke. */
#ifndef SLUICE_REPLY_H
#define SLUICE_REPLY_H

#include "svc/request.h"

/* The most fields that the gateway adds to an answer: the room that svc/fields is asked to leave. */
enum { REPLY_FIELDS = 16 };

/* Each needs an exchange that has not been answered. */
void reply_refusal(struct request *); /* the whole answer for request->refusal, in the caller's dialect */
void reply_models(struct request *);  /* the models that the caller may use, or one of them; or a refusal */
void reply_head(struct request *,
		int64_t length); /* request->answer and request->status; `length` is promised, -1: none */

/* The answer has begun: passes bytes on; false: pause. */
bool reply_write(struct request *, struct slice bytes);
/* Ends the exchange. With a refusal set, the answer does not look complete: an in-band error first, where the stream's shape and the place where it stopped
 * allow one. */
void reply_end(struct request *);

/* The body of the error for a request that was not HTTP, in the dialect that its target tells of; returns the media type. */
struct slice reply_malformed(enum http_fault, struct slice target, struct buf *body);

/* Where another model answers than the one that was asked for, the answer's fields say which; so those who read along hear it too. Before the head goes out. */
void reply_note_model(struct request *);

#endif
