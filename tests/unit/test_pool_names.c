/* The pool towards a name whose address changes while it runs: new connections go where it is now, open ones are used on. The resolver is the system's; its
 * /etc/hosts is one of ours, in a mount namespace of this process alone. Where that is not permitted the tests are skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include "lib/base.h"
#include "tests/support/pool_rig.h"
#include "tests/support/port.h"

#define NAME   "moves.example"
#define BEFORE "127.0.0.1"
#define AFTER  "127.0.0.2"

/* ---- a resolver of our own ---------------------------------------------------------------------------------------------------- */

static bool write_file(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);
	bool written = file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text);

	if (file >= 0)
		close(file);
	return written;
}

/* Mounts of this process are its own from here on: as root at once, else as root of a user namespace. */
static bool enter_namespace(void)
{
	char users[64], groups[64];

	snprintf(users, sizeof(users), "0 %u 1", (unsigned)getuid());
	snprintf(groups, sizeof(groups), "0 %u 1", (unsigned)getgid());
	if (unshare(CLONE_NEWNS) != 0 &&
	    (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0 || !write_file("/proc/self/setgroups", "deny") ||
	     !write_file("/proc/self/uid_map", users) || !write_file("/proc/self/gid_map", groups)))
		return false;
	return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

/* *state is then the file that stands at /etc/hosts. NULL: it may not be so, and why has been said. */
static int take_hosts(void **state)
{
	static int hosts;
	char path[] = "/tmp/sluice-hosts-XXXXXX";
	bool mounted;

	hosts = mkostemp(path, O_CLOEXEC);
	assert_true(hosts >= 0);
	mounted = enter_namespace() && mount(path, "/etc/hosts", NULL, MS_BIND, NULL) == 0;
	if (!mounted)
		print_message("skipped: a mount namespace is not permitted here: %s\n", strerror(errno));
	unlink(path);
	if (!mounted)
		close(hosts);
	*state = mounted ? &hosts : NULL;
	return 0;
}

static int give_hosts(void **state)
{
	if (*state != NULL) {
		umount("/etc/hosts");
		close(*(int *)*state);
	}
	return 0;
}

static void point_name_at(void **state, const char *address)
{
	char line[64];
	int length = snprintf(line, sizeof(line), "%s " NAME "\n", address), hosts = *(int *)*state;

	assert_int_equal(pwrite(hosts, line, (size_t)length, 0), length);
	assert_int_equal(ftruncate(hosts, length), 0);
}

/* ---- two servers, one name ---------------------------------------------------------------------------------------------------- */

struct move {
	struct port port;
	struct bad_server *before, *after;
	char origin[64];
	struct rig rig;
};

/* The name stands for the first server; `keep`: a connection may be used again. */
static void open_move(struct move *m, void **state, const struct bad_step *script, int64_t name_age, bool keep)
{
	if (*state == NULL)
		skip();
	m->port = port_claim();
	m->before = bad_server_at(BEFORE, m->port.number, script);
	m->after = bad_server_at(AFTER, m->port.number, script);
	snprintf(m->origin, sizeof(m->origin), "http://" NAME ":%d", m->port.number);
	point_name_at(state, BEFORE);
	rig_options(&m->rig, m->origin);
	m->rig.options.name_age = name_age;
	if (!keep)
		m->rig.options.max_age = 1; /* microsecond */
	rig_open(&m->rig);
}

static void close_move(struct move *m)
{
	rig_close(&m->rig);
	bad_server_free(&m->before);
	bad_server_free(&m->after);
	port_release(&m->port);
}

static void get(struct move *m)
{
	struct rig_call call = { 0 };

	rig_get(&m->rig, &call, "/x");
	if (rig_finish(&call) != POOL_DONE)
		fail_msg("%s: %s", pool_outcome_name(call.result.outcome), call.result.detail);
}

static void expect_requests(struct move *m, unsigned before, unsigned after)
{
	assert_int_equal(bad_server_record(m->before).requests, before);
	assert_int_equal(bad_server_record(m->after).requests, after);
}

static void each_connection_may_look_it_up(void **state)
{
	struct move m;

	open_move(&m, state, bad_server_echo, 0, false);
	get(&m);
	expect_requests(&m, 1, 0);
	point_name_at(state, AFTER);
	get(&m);
	expect_requests(&m, 1, 1);
	point_name_at(state, BEFORE);
	get(&m);
	expect_requests(&m, 2, 1);
	close_move(&m);
}

static void an_address_holds_as_long_as_it_is_said(void **state)
{
	struct move m;

	open_move(&m, state, bad_server_echo, CLOCK_HOUR, false);
	get(&m);
	point_name_at(state, AFTER);
	get(&m);
	expect_requests(&m, 2, 0);
	assert_int_equal(bad_server_record(m.before).connections, 2);
	close_move(&m);
}

static void and_no_longer(void **state)
{
	unsigned before;
	struct move m;

	open_move(&m, state, bad_server_echo, CLOCK_SECOND, false);
	get(&m);
	point_name_at(state, AFTER);
	rig_watch(); /* ends the test when it never comes */
	while (bad_server_record(m.after).requests == 0) {
		struct rig_call call = { 0 };
		rig_get(&m.rig, &call, "/x");
		while (call.dones == 0)
			rig_turn(&m.rig);
		assert_int_equal(call.result.outcome, POOL_DONE);
	}
	before = bad_server_record(m.before).requests;
	get(&m);
	expect_requests(&m, before, 2);
	close_move(&m);
}

/* libcurl knows a connection by its name and not by its address: an open one goes on. A second one goes where the name is now. */
static void open_connections_are_used_on(void **state)
{
	struct rig_call one = { 0 }, two = { 0 };
	struct move m;

	open_move(&m, state, bad_server_echo_at_gate, 0, true);
	bad_server_open_gate(m.before, 1);
	get(&m);
	point_name_at(state, AFTER);
	rig_get(&m.rig, &one, "/one");
	RIG_UNTIL(&m.rig, bad_server_record(m.before).requests == 2);
	rig_get(&m.rig, &two, "/two");
	RIG_UNTIL(&m.rig, bad_server_record(m.after).requests == 1);
	bad_server_open_gate(m.before, 1);
	bad_server_open_gate(m.after, 1);
	assert_int_equal(rig_finish(&one), POOL_DONE);
	assert_int_equal(rig_finish(&two), POOL_DONE);
	assert_true(one.result.reused);
	assert_false(two.result.reused);
	assert_int_equal(bad_server_record(m.before).connections, 1);
	assert_int_equal(bad_server_record(m.after).connections, 1);
	close_move(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_connection_may_look_it_up),
		cmocka_unit_test(an_address_holds_as_long_as_it_is_said),
		cmocka_unit_test(and_no_longer),
		cmocka_unit_test(open_connections_are_used_on),
	};

	return cmocka_run_group_tests(tests, take_hosts, give_hosts);
}
