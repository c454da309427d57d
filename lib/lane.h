/* Who goes first where there is not enough for all. A lane is a share of what there is, not a rank: the lowest goes on too. */
#ifndef SLUICE_LANE_H
#define SLUICE_LANE_H

/* RFC 9218, section 4.1: urgencies 0 to 2, 3 and 4, 5 to 7. */
enum lane { LANE_HIGH, LANE_MEDIUM, LANE_LOW, LANES };

const char *lane_name(enum lane); /* "high", … */

#endif
