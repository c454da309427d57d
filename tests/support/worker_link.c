#include "tests/support/worker_link.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "lib/clock.h"
#include "lib/redis.h"

#define PING          (20 * CLOCK_MILLISECOND)
#define SILENCE       (20 * CLOCK_SECOND) /* no slow machine is taken for a silent one */
#define RECONNECT_CAP (50 * CLOCK_MILLISECOND)

static struct redis_options options_of(const char *url)
{
	struct redis_options options;
	const char *reason;

	assert_true(redis_options_parse(slice_of(url), &options, &reason));
	options.reconnect_cap = RECONNECT_CAP;
	return options;
}

void worker_link_open(struct loop *loop, const struct redis_server *server, struct subscriber_options hears,
		      struct redis **redis, struct subscriber **listener, struct fault_proxy **proxy)
{
	struct redis_options direct = options_of(redis_server_url(server)), spoilt;
	char target[200], url[64];

	hears.ping = PING;
	hears.silence = SILENCE;
	if (proxy == NULL) {
		*redis = redis_new(loop, &direct, NULL);
	} else {
		snprintf(target, sizeof(target), "unix:%s", redis_server_path(server));
		*proxy = fault_proxy_start("tcp:127.0.0.1:0", target);
		fault_proxy_tell(*proxy, "skip 2"); /* the greeting */
		snprintf(url, sizeof(url), "redis://127.0.0.1:%d", fault_proxy_port(*proxy));
		spoilt = options_of(url);
		*redis = redis_new(loop, &spoilt, NULL);
		redis_options_free(&spoilt);
	}
	*listener = subscriber_new(loop, &direct, &hears, NULL);
	redis_options_free(&direct);
	subscriber_track(*listener, *redis);
}
