#include "tests/support/http_rig.h"

#include "lib/clock.h"
#include "lib/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static void answer(struct exchange *e, int status, int64_t length)
{
	const struct http_field type = { SLICE("Content-Type"), SLICE("text/plain") };
	http_answer(e, &(struct http_answer){ status, &type, 1, length });
}

static void answer_text(struct exchange *e, struct slice text)
{
	answer(e, 200, (int64_t)text.len);
	assert_true(http_write(e, text));
	http_end(e, true);
}

/* Writes until the server says "pause"; ends after HTTP_RIG_BIG bytes. */
static void pump(struct http_rig *rig)
{
	static const char block[32768];
	bool go_on = true;
	while (go_on && rig->written < HTTP_RIG_BIG) {
		go_on = http_write(rig->held, slice_make(block, sizeof(block)));
		rig->written += sizeof(block);
	}
	rig->pauses += !go_on;
	if (rig->written < HTTP_RIG_BIG)
		return;
	http_end(rig->held, true);
	rig->held = NULL;
}

static void *on_head(struct exchange *e, void *arg)
{
	struct http_rig *rig = arg;
	const struct http_head *head = http_head_of(e);
	assert_false(rig->inside);
	rig->heads++;
	rig->fields = head->fields_count;
	rig->body_len = 0;
	buf_clear(&rig->body);
	snprintf(rig->method, sizeof(rig->method), "%.*s", SLICE_ARGS(head->method_name));
	snprintf(rig->target, sizeof(rig->target), "%.*s", SLICE_ARGS(head->target));
	rig->inside = true;
	if (slice_equal(head->target, SLICE("/hold"))) {
		rig->held = e;
	} else if (slice_equal(head->target, SLICE("/take"))) {
		rig->held = e;
		http_take_body(e, 1 << 20);
	} else if (slice_equal(head->target, SLICE("/refuse"))) {
		answer_text(e, SLICE("no"));
	} else if (slice_equal(head->target, SLICE("/big"))) {
		rig->held = e;
		answer(e, 200, HTTP_RIG_BIG);
		pump(rig);
	} else if (slice_equal(head->target, SLICE("/cut"))) {
		answer(e, 200, -1);
		http_write(e, SLICE("half"));
		http_end(e, false);
	} else if (slice_equal(head->target, SLICE("/none"))) {
		answer(e, 204, -1);
		http_end(e, true);
	} else if (head->content_length == 0) {
		answer_text(e, SLICE("done"));
	} else {
		http_take_body(e, INT64_C(32) << 20);
	}
	rig->inside = false;
	return rig;
}

static void on_body(struct exchange *e, void *owner, struct slice piece)
{
	struct http_rig *rig = owner;
	(void)e;
	assert_false(rig->inside);
	rig->body_len += piece.len;
	if (rig->body.len < 4096)
		buf_append(&rig->body, slice_first(piece, 4096));
}

static void on_body_end(struct exchange *e, void *owner)
{
	struct http_rig *rig = owner;
	rig->ends++;
	if (e != rig->held)
		answer_text(e, SLICE("done"));
}

static void on_writable(struct exchange *e, void *owner)
{
	struct http_rig *rig = owner;
	assert_ptr_equal(e, rig->held);
	rig->writables++;
	pump(rig);
}

static void on_broken(struct exchange *e, void *owner, enum http_fault fault)
{
	struct http_rig *rig = owner;
	char text[64];
	assert_false(rig->inside);
	if (e == rig->held)
		rig->held = NULL;
	rig->broken++;
	rig->fault = fault;
	snprintf(text, sizeof(text), "fault %s", http_fault_code(fault));
	answer(e, http_fault_status(fault), (int64_t)strlen(text));
	http_write(e, slice_of(text));
	http_end(e, true);
}

static void on_gone(struct exchange *e, void *owner, enum http_gone why)
{
	struct http_rig *rig = owner;
	assert_false(rig->inside);
	if (e == rig->held)
		rig->held = NULL;
	rig->gones++;
	rig->why = why;
}

static void on_malformed(void *arg, enum http_fault fault, struct slice target, struct buf *body,
			 struct slice *content_type)
{
	struct http_rig *rig = arg;
	(void)target;
	rig->malformed++;
	rig->fault = fault;
	buf_format(body, "fault %s", http_fault_code(fault));
	*content_type = SLICE("text/plain");
}

static const struct http_handler handler = { on_head,   on_body, on_body_end, on_writable,
					     on_broken, on_gone, on_malformed };

const struct http_options http_rig_patient = { .head_timeout = 60 * CLOCK_SECOND,
					       .body_timeout = 60 * CLOCK_SECOND,
					       .idle_timeout = 60 * CLOCK_SECOND,
					       .write_stall = 60 * CLOCK_SECOND,
					       .server_name = "test" };

struct http_rig *http_rig_new(const struct http_options *options)
{
	struct http_rig *rig = mem_new(sizeof(*rig));
	char error[256];
	strcpy(rig->folder, "/tmp/sluice-http-XXXXXX");
	assert_non_null(mkdtemp(rig->folder));
	snprintf(rig->address, sizeof(rig->address), "unix:%s/s", rig->folder);
	buf_init(&rig->body, 1 << 20);
	rig->loop = loop_new();
	rig->listener = http_listen(slice_of(rig->address), error, sizeof(error));
	assert_non_null(rig->listener);
	rig->server = http_server_new(rig->loop, options, &handler, rig, NULL);
	http_server_accept(rig->server, rig->listener);
	return rig;
}

void http_rig_free(struct http_rig *rig)
{
	http_server_free(&rig->server);
	loop_free(&rig->loop);
	http_listener_free(&rig->listener);
	assert_int_equal(rmdir(rig->folder), 0); /* the socket's path is gone */
	buf_free(&rig->body);
	mem_free(rig);
}

void http_rig_turn(struct http_rig *rig, int count)
{
	for (int i = 0; i < count; i++)
		loop_turn(rig->loop, false);
}

int http_rig_client(const struct http_rig *rig)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	strcpy(name.sun_path, rig->address + 5);
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(s, (struct sockaddr *)&name, sizeof(name)), 0);
	assert_int_equal(fcntl(s, F_SETFL, O_NONBLOCK), 0);
	return s;
}

void http_rig_say(int s, struct slice bytes)
{
	assert_int_equal(send(s, bytes.data, bytes.len, MSG_NOSIGNAL), (ssize_t)bytes.len);
}

const char *http_rig_hear(struct http_rig *rig, int s, const char *wanted, bool *closed)
{
	static char text[65536];
	size_t len = 0;
	*closed = false;
	for (int i = 0; i < HTTP_RIG_TURNS && !*closed; i++) {
		http_rig_turn(rig, 1);
		ssize_t got = recv(s, text + len, sizeof(text) - 1 - len, 0);
		*closed = got == 0 || (got < 0 && errno != EAGAIN);
		len += got > 0 ? (size_t)got : 0;
		text[len] = '\0';
		if (wanted != NULL && strstr(text, wanted) != NULL)
			break;
		if (got < 0)
			usleep(50); /* gives deadlines the time they measure */
	}
	return text;
}
