/* What the workers of a queue_rig may suffer of Redis, by chance: one fault at a time, each kind once before any comes again. */
#ifndef SLUICE_TESTS_QUEUE_FAULTS_H
#define SLUICE_TESTS_QUEUE_FAULTS_H

#include "tests/support/queue_rig.h"

enum queue_faults_severity {
	QUEUE_FAULTS_NONE,
	QUEUE_FAULTS_HARMLESS, /* Redis forgets nothing but scripts */
	QUEUE_FAULTS_ALL,
};
enum { QUEUE_FAULTS_MOST = 24 };

/* Owner: the test, which sets the first three. */
struct queue_faults {
	struct queue_rig *rig;
	uint64_t *chance; /* tests/support/random.h */
	enum queue_faults_severity severity;
	unsigned reloads; /* for the test to heed: so often has the configuration changed */
	size_t order[QUEUE_FAULTS_MOST], drawn;
	bool on;
	int64_t next, lasts; /* when it begins, or ends, clock_now; microseconds */
};

/* For each turn of the loop: begins a fault (and prints its name) if there are to be more, or ends it, when it is time. */
void queue_faults_turn(struct queue_faults *, bool more);

#endif
