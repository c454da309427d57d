#include "tests/support/pool_front.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/base.h"
#include "tests/support/descriptors.h"
#include "tests/support/tls_files.h"

static struct tls_files files;
static int base_descriptors;

int front_setup(void **state)
{
	(void)state;
	tls_files_make(&files);
	base_descriptors = descriptors_open();
	return 0;
}

int front_teardown(void **state)
{
	(void)state;
	tls_files_free(&files);
	return 0;
}

void front_start_with(struct front *f, struct bad_server *server, enum pool_http http, const char *option)
{
	*f = (struct front){ .server = server };
	f->proxy = proxy_new_with(files.leaf, files.leaf_key, bad_server_port(f->server), option);
	if (f->proxy == NULL) {
		bad_server_free(&f->server);
		skip();
	}
	rig_options(&f->rig, proxy_origin(f->proxy));
	f->rig.options.ca_file = files.ca;
	f->rig.options.http = http;
	f->rig.options.connections = 2;
}

void front_start(struct front *f, struct bad_server *server, enum pool_http http)
{
	front_start_with(f, server, http, NULL);
}

void front_open(struct front *f, struct bad_server *server, enum pool_http http)
{
	front_start(f, server, http);
	rig_open(&f->rig);
}

void front_close(struct front *f)
{
	pool_free(&f->rig.pool);
	rig_turn(&f->rig);
	loop_free(&f->rig.loop);
	if (f->proxy != NULL)
		proxy_free(&f->proxy);
	bad_server_free(&f->server);
	descriptors_await(base_descriptors);
}
