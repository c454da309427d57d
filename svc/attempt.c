/* Nothing of the body is copied: slices point into the pieces as they arrived, and splices stand between them. */
#include "svc/attempt.h"

bool attempt_write(struct request *r, struct pool_request *request)
{
	const struct config_upstream *u = r->route.upstream;
	struct dialect_splice wanted[DIALECT_SPLICES];
	struct upload_splice splices[DIALECT_SPLICES];
	struct slice *pieces;
	struct buf target;
	bool streams = r->call.framing != DIALECT_PLAIN;
	size_t count;

	*request = (struct pool_request){ .method = r->method,
					  .wait_timeout = u->pool.connect_timeout,
					  .first_byte_timeout =
						  streams ? u->timeout.first_byte : u->timeout.first_byte_plain,
					  .idle_timeout = u->timeout.idle,
					  .total_timeout = u->timeout.total };
	buf_init(&target, HTTP_TARGET_MAX + 1024);
	if (dialect_target(&r->call, slice_of(u->endpoints[r->route.endpoint].prefix), r->route.upstream_model,
			   &target))
		request->target = mem_copy(r->mem, buf_slice(&target));
	buf_free(&target);
	if (request->target.len == 0 ||
	    !dialect_splices(&r->call, r->route.upstream_model, r->asks_usage, r->mem, wanted, &count))
		return false;
	for (size_t i = 0; i < count; i++)
		splices[i] = (struct upload_splice){ wanted[i].offset, wanted[i].remove, wanted[i].insert };
	if (!upload_slices(&r->upload, splices, count, r->mem, &pieces, &request->body_count))
		return false;
	request->body = pieces;
	request->fields = fields_to_upstream(r->head, u, r->mem, &request->fields_count);
	return request->fields != NULL;
}

enum refusal attempt_refusal(enum pool_outcome outcome)
{
	switch (outcome) {
	case POOL_DONE:
		return REFUSAL_none;
	case POOL_NO_SLOT:
		return REFUSAL_upstream_busy;
	case POOL_CONNECT_FAILED:
	case POOL_TLS_FAILED:
		return REFUSAL_upstream_unreachable;
	case POOL_RESET_UNSENT:
	case POOL_RESET:
	case POOL_TRUNCATED:
		return REFUSAL_upstream_broken;
	case POOL_GARBAGE:
		return REFUSAL_upstream_invalid;
	case POOL_FIRST_BYTE_TIMEOUT:
	case POOL_IDLE_TIMEOUT:
	case POOL_TOTAL_TIMEOUT:
		break;
	}
	return REFUSAL_upstream_timeout;
}
