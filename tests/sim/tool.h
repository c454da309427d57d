/* Which tool the answer calls, and with what arguments: the first tool offered, all of its properties filled in from their
 * types and the nonce, so that a test can name the call before it is made. */
#ifndef SIM_TOOL_H
#define SIM_TOOL_H

#include "ask.h"

/* `tools` as any of the dialects spells it; leaves ask->tool.name NULL when it offers no function. */
void tool_choose(struct ask *, struct slice tools);

/* Whether the request forbids calls (tool_choice none, mode NONE). */
bool tool_forbidden(struct slice body);

#endif
