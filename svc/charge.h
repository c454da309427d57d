/* What a request costs in tokens: guessed and reserved before it is sent, known or judged afterwards. */
#ifndef SLUICE_CHARGE_H
#define SLUICE_CHARGE_H

#include "svc/request.h"

/* Sets what is reserved, and whether the upstream must be asked for the usage of its stream. Refuses an input that no token limit can ever hold. */
enum refusal charge_reserve(struct request *) MUST_CHECK;

/* What is charged in the end, all of it. An attempt that the upstream failed costs no tokens; one that the caller gave up is charged from what was seen,
 * and for its input at least; an answer that tells no usage is charged by its length. Reads request->metered. */
int64_t charge_used(const struct request *);

/* Teaches the estimate, when the answer ended well. */
void charge_learn(const struct request *);

#endif
