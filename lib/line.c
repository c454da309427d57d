#include "lib/line.h"

#include "lib/buf.h"

static void put(struct buf *out, int64_t number)
{
	buf_append_byte(out, ' ');
	buf_append_int(out, number);
}

void line_write_rule(const struct line_rule *rule, struct slice channel, struct buf *out)
{
	CHECK(rule->depth > 0 && rule->groups > 0 && rule->groups <= LINE_GROUPS);
	CHECK(channel.len > 0 && channel.len <= LINE_CHANNEL_MOST);
	buf_append(out, channel);
	put(out, rule->depth);
	for (int lane = 0; lane < LANES; lane++)
		put(out, rule->weight[lane]);
	for (size_t i = 0; i < rule->groups; i++)
		put(out, rule->share[i]);
	CHECK(!out->overflowed);
}
