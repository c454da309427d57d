#include "svc/session.h"

#include "lib/siphash.h"

/* Known to all, because all instances must hash alike: a client that picks its session's name may pick its target too. Its own target only, which it could get
 * by sending no session and trying again. */
static const struct siphash_key public_key = { UINT64_C(0x736c756963652073), UINT64_C(0x657373696f6e2031) };

static struct slice name_of(const struct http_head *head, const struct dialect_call *call)
{
	struct slice name = http_field_of(head, SLICE("x-sluice-session"));

	return name.len > 0 && name.len <= SESSION_MOST ? name : call->session;
}

uint64_t session_of(struct slice tenant, const struct http_head *head, const struct dialect_call *call)
{
	struct slice name = name_of(head, call);
	uint64_t hash;

	if (name.len == 0)
		return 0;
	hash = siphash_of((struct siphash_key){ siphash_of(public_key, tenant), public_key.high }, name);
	return hash != 0 ? hash : 1; /* 0 is none */
}
