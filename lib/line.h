/* The rule of the lines in which a fleet's requests wait, as its scripts are given it (lua/part/line.lua says what it means). Every instance has the same. */
#ifndef SLUICE_LINE_H
#define SLUICE_LINE_H

#include "lib/base.h"
#include "lib/lane.h"
#include "lib/slice.h"

struct buf;

enum { LINE_GROUPS = 8, LINE_CHANNEL_MOST = 80, LINE_RULE_MOST = 256 };

struct line_rule {
	int64_t depth;              /* so many may wait in one line, 1 to 10^6 */
	int64_t weight[LANES];      /* 1 to 1000 each */
	int64_t share[LINE_GROUPS]; /* of each group of models, 1 to 100; the first is that of the models in no group */
	size_t groups;              /* 1 to LINE_GROUPS */
};

/* "channel depth high medium low shares…"; the channel, of 1 to LINE_CHANNEL_MOST bytes without blanks, is where the caller is told whose turn it is. Writes
 * at most LINE_RULE_MOST bytes. */
void line_write_rule(const struct line_rule *, struct slice channel, struct buf *);

#endif
