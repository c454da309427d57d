/* Any HTTP API under its upstream's name: /{upstream}/rest?query. The path passes as it came; a segment that could lead
 * out of the upstream's prefix is refused. */
#include "lib/buf.h"
#include "svc/dialect/dialect_internal.h"

static bool method_passes(struct slice method)
{
	static const char *const methods[] = { "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE" };

	for (size_t i = 0; i < ARRAY_LENGTH(methods); i++)
		if (slice_equal(method, slice_of(methods[i])))
			return true;
	return false;
}

enum refusal dialect_route_http(const struct dialect_head *head, struct mem *mem, struct dialect_call *call,
				struct buf *detail)
{
	struct slice behind, name = slice_cut(slice_skip(call->path, 1), '/', &behind);

	call->dialect = DIALECT_http;
	call->operation = OPERATION_pass;
	call->max_output = 0;
	if (name.len == 0 || slice_find(name, '%') < name.len)
		return REFUSAL_unknown_path;
	if (!dialect_path_safe(call->path)) {
		buf_append(detail, SLICE("The path has a wrong escape, a dot segment or a control byte."));
		return REFUSAL_invalid_request;
	}
	if (!method_passes(head->method)) {
		buf_append(detail, SLICE("Allowed: GET, HEAD, POST, PUT, PATCH, DELETE."));
		return REFUSAL_method_not_allowed;
	}
	call->upstream = name;
	call->takes_body = !slice_equal(head->method, SLICE("HEAD")); /* some search APIs ask by a GET with a body */
	call->rest = mem_format(mem, "/%.*s%s%.*s", SLICE_ARGS(behind), call->query.len > 0 ? "?" : "",
				SLICE_ARGS(call->query));
	return call->rest.len > 0 ? REFUSAL_none : REFUSAL_internal;
}
