/* Who is called in the lines of the limiter's rig: a subscriber to the workers' channels, and what it heard. */
#ifndef SLUICE_TESTS_LINE_RIG_H
#define SLUICE_TESTS_LINE_RIG_H

#include "lib/base.h"

enum { LINE_RIG_TEXT = 96, LINE_RIG_WORKERS = 3 };

extern const char *const line_rig_workers[LINE_RIG_WORKERS + 1]; /* their channels; NULL ends the list */

/* For cmocka, instead of the limiter's rig's own. */
int line_rig_begin(void **state); /* all workers live */
int line_rig_end(void **state);
int line_rig_clean(void **state); /* nobody is called; the first worker asks */

void line_rig_listen(const char *const *channels); /* the workers of these channels live */
void line_rig_deaf(const char *channel);           /* that one is dead: nobody hears its channel any more */

/* The next call that was published and not told of yet, by order of publishing; all that the scripts have published so far counts. */
bool line_rig_called(char channel[LINE_RIG_TEXT], char id[LINE_RIG_TEXT]) MUST_CHECK;

#endif
