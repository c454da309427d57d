#include "tests/support/http_oracle.h"

#include <llhttp.h>

/* The same sum as http_message_hash. */
static int on_body(llhttp_t *machine, const char *at, size_t len)
{
	struct http_oracle *o = machine->data;
	for (size_t i = 0; i < len; i++)
		o->body_hash = (o->body_hash ^ (unsigned char)at[i]) * UINT64_C(0x100000001b3) + 1;
	o->body_len += len;
	return 0;
}

static int on_url(llhttp_t *machine, const char *at, size_t len)
{
	struct http_oracle *o = machine->data;
	CHECK(o->target_len + len <= sizeof(o->target));
	memcpy(o->target + o->target_len, at, len);
	o->target_len += len;
	return 0;
}

static int on_headers_complete(llhttp_t *machine)
{
	machine->upgrade = 0; /* as here, an upgrade is not taken */
	return 0;
}

static int on_complete(llhttp_t *machine)
{
	struct http_oracle *o = machine->data;
	o->taken = true;
	return HPE_PAUSED;
}

void http_oracle_read(struct http_oracle *o, struct slice bytes)
{
	llhttp_t machine;
	llhttp_settings_t settings;
	memset(o, 0, sizeof(*o));
	llhttp_settings_init(&settings);
	settings.on_url = on_url;
	settings.on_body = on_body;
	settings.on_headers_complete = on_headers_complete;
	settings.on_message_complete = on_complete;
	llhttp_init(&machine, HTTP_REQUEST, &settings);
	machine.data = o;
	llhttp_errno_t error = llhttp_execute(&machine, bytes.data, bytes.len);
	o->taken = o->taken && (error == HPE_PAUSED || error == HPE_OK);
	o->method = llhttp_method_name((llhttp_method_t)machine.method);
}
