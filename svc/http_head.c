/* Everything that llhttp lets pass, and this gateway does not. A request that two servers in a row may read differently is
 * refused here, whoever of them would be right. */
#include "svc/http_head.h"

#include "lib/text.h"

#include <arpa/inet.h>

struct rules {
	const struct http_parse *parse;
	const char *bytes;
	struct http_field *fields;
	struct http_request_head *request;
	enum http_fault *fault;
};

static bool refuse(const struct rules *r, enum http_fault fault)
{
	*r->fault = fault;
	return false;
}

static bool find_method(struct slice name, enum http_method *method)
{
	/* clang-format off */
	static const struct {
		struct slice name;
		enum http_method method;
	} methods[] = {
		{ { "POST", 4 }, HTTP_POST },
		{ { "GET", 3 }, HTTP_GET },
		{ { "HEAD", 4 }, HTTP_HEAD },
		{ { "PUT", 3 }, HTTP_PUT },
		{ { "PATCH", 5 }, HTTP_PATCH },
		{ { "DELETE", 6 }, HTTP_DELETE },
		{ { "OPTIONS", 7 }, HTTP_OPTIONS },
	};
	/* clang-format on */

	for (size_t i = 0; i < ARRAY_LENGTH(methods); i++) {
		if (slice_equal(name, methods[i].name)) {
			*method = methods[i].method;
			return true;
		}
	}
	return false;
}

/* RFC 3986 section 3.3 and 3.4 name the characters; what browsers send besides is visible ASCII too. A fragment never is. */
static bool target_is_clean(struct slice target)
{
	for (size_t i = 0; i < target.len; i++) {
		unsigned char byte = (unsigned char)target.data[i];
		if (byte <= ' ' || byte >= 0x7f || byte == '#')
			return false;
	}
	return target.len > 0;
}

/* " HTTP/1.1" CRLF, at the end of the request line. */
static bool judge_version(const struct rules *r, struct slice rest)
{
	static const struct slice name = { " HTTP/", 6 };
	if (slice_equal(rest, SLICE("\r\n")))
		return refuse(r, HTTP_FAULT_bad_version); /* HTTP/0.9 */
	if (rest.len != 11 || !slice_starts(rest, name) || rest.data[7] != '.')
		return refuse(r, HTTP_FAULT_malformed);
	if (rest.data[6] != '1' || (rest.data[8] != '0' && rest.data[8] != '1'))
		return refuse(r, HTTP_FAULT_bad_version);
	r->request->head.minor_version = rest.data[8] - '0';
	return true;
}

/* method SP target SP version CRLF: llhttp takes more spaces than one. Leaves in *next where the fields begin. */
static bool judge_request_line(const struct rules *r, size_t *next)
{
	struct http_head *head = &r->request->head;
	struct slice all = slice_make(r->bytes, r->parse->fed), line = slice_skip(all, r->parse->start);
	line = slice_first(line, slice_find(line, '\n') + 1);
	*next = (size_t)(line.data + line.len - r->bytes);
	head->method_name = slice_first(line, slice_find(line, ' '));
	struct slice after = slice_skip(line, head->method_name.len + 1);
	size_t target_len = slice_find(after, ' ');
	head->target = slice_first(after, target_len < after.len ? target_len : after.len - 2); /* no blank: HTTP/0.9 */
	bool same = r->bytes + r->parse->target.at == head->target.data && r->parse->target.len == head->target.len;
	if (!find_method(head->method_name, &head->method))
		return refuse(r, HTTP_FAULT_unknown_method);
	if (head->target.len > HTTP_TARGET_MAX)
		return refuse(r, HTTP_FAULT_target_too_long);
	if (!same || !target_is_clean(head->target))
		return refuse(r, HTTP_FAULT_malformed);
	return judge_version(r, slice_skip(after, head->target.len));
}

/* Each line is name ":" value CRLF, with nothing between the lines, and llhttp saw the same. */
static bool judge_fields(const struct rules *r, size_t next)
{
	const struct http_parse *p = r->parse;
	for (unsigned i = 0; i < p->fields_count; i++) {
		struct slice line = slice_skip(slice_make(r->bytes, p->fed), next);
		line = slice_first(line, slice_find(line, '\n') + 1);
		struct slice name = slice_first(line, p->names[i].len), value = slice_skip(line, name.len + 1);
		struct slice seen = slice_trim(slice_make(r->bytes + p->values[i].at, p->values[i].len));
		if (p->names[i].at != next || line.len < name.len + 3 || line.data[name.len] != ':' ||
		    !text_is_token(name))
			return refuse(r, HTTP_FAULT_malformed);
		value = slice_trim(slice_first(value, value.len - 2));
		if (!slice_equal(value, seen))
			return refuse(r, HTTP_FAULT_malformed);
		if (value.len == 0)
			value = slice_make(line.data + name.len + 1, 0);
		r->fields[i] = (struct http_field){ name, value };
		next += line.len;
	}
	r->request->head.fields = r->fields;
	r->request->head.fields_count = p->fields_count;
	return next + 2 == p->fed || refuse(r, HTTP_FAULT_malformed);
}

/* RFC 3986 section 3.2.2, without the comma: it is what two Host fields look like that somebody joined. */
static bool is_host_byte(unsigned char byte)
{
	static const char others[] = "-._~!$&'()*+;=";
	bool letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
	return letter || (byte >= '0' && byte <= '9') || (byte != '\0' && strchr(others, byte) != NULL);
}

static bool is_hex(struct slice s, size_t at)
{
	unsigned char byte = at < s.len ? (unsigned char)s.data[at] : 0;
	return (byte >= '0' && byte <= '9') || ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'f');
}

static bool name_is_valid(struct slice name)
{
	for (size_t i = 0; i < name.len; i++) {
		bool escape = name.data[i] == '%' && is_hex(name, i + 1) && is_hex(name, i + 2);
		if (!escape && !is_host_byte((unsigned char)name.data[i]))
			return false;
	}
	return name.len > 0 && name.len <= 255;
}

static bool literal_is_valid(struct slice literal)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr address;
	if (literal.len == 0 || literal.len >= sizeof(text))
		return false;
	memcpy(text, literal.data, literal.len);
	text[literal.len] = '\0';
	return inet_pton(AF_INET6, text, &address) == 1;
}

static bool port_is_valid(struct slice port)
{
	unsigned value = 0;
	for (size_t i = 0; i < port.len; i++) {
		if (port.data[i] < '0' || port.data[i] > '9')
			return false;
		value = value * 10 + (unsigned)(port.data[i] - '0');
	}
	return port.len <= 5 && value <= 65535; /* an empty port is the default one */
}

bool http_host_is_valid(struct slice host)
{
	if (host.len > 0 && host.data[0] == '[') {
		size_t close = slice_find(host, ']');
		struct slice port = slice_skip(host, close + 1);
		bool tail = port.len == 0 || (port.data[0] == ':' && port_is_valid(slice_skip(port, 1)));
		return close < host.len && tail && literal_is_valid(slice_first(slice_skip(host, 1), close - 1));
	}
	struct slice port, name = slice_cut(host, ':', &port);
	return name_is_valid(name) && port_is_valid(port);
}

/* How many fields have that name; *value is the first one's. */
static unsigned count_of(const struct rules *r, struct slice name, struct slice *value)
{
	unsigned count = 0;
	for (size_t i = 0; i < r->parse->fields_count; i++) {
		if (slice_equal_nocase(r->fields[i].name, name) && count++ == 0)
			*value = r->fields[i].value;
	}
	return count;
}

static bool judge_host(const struct rules *r)
{
	struct http_head *head = &r->request->head;
	if (count_of(r, SLICE("host"), &head->host) != 1 || !http_host_is_valid(head->host))
		return refuse(r, HTTP_FAULT_bad_host);
	return true;
}

/* RFC 9112 section 3.2: origin form, or an absolute form of the same authority. Asterisk and authority forms are refused. */
static bool judge_target(const struct rules *r)
{
	struct http_head *head = &r->request->head;
	struct slice target = head->target, authority, path;
	if (target.data[0] == '/')
		return true;
	size_t scheme = 0;
	if (slice_equal_nocase(slice_first(target, 7), SLICE("http://")))
		scheme = 7;
	else if (slice_equal_nocase(slice_first(target, 8), SLICE("https://")))
		scheme = 8;
	else
		return refuse(r, HTTP_FAULT_malformed);
	authority = slice_skip(target, scheme);
	path = slice_skip(authority, slice_find(authority, '/'));
	authority = slice_first(authority, authority.len - path.len);
	if (slice_find(authority, '?') < authority.len) /* a query without a path has no slice to be reduced to */
		return refuse(r, HTTP_FAULT_malformed);
	if (!slice_equal_nocase(authority, head->host))
		return refuse(r, HTTP_FAULT_bad_host);
	head->target = path.len > 0 ? path : SLICE("/");
	return true;
}

static bool judge_length(const struct rules *r, struct slice text)
{
	int64_t value = 0;
	if (text.len == 0 || text.len > 18) /* 18 digits never overflow, and bound the leading zeros */
		return refuse(r, HTTP_FAULT_bad_framing);
	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] < '0' || text.data[i] > '9')
			return refuse(r, HTTP_FAULT_bad_framing);
		value = value * 10 + (text.data[i] - '0');
	}
	r->request->head.content_length = value;
	return true;
}

static bool judge_framing(const struct rules *r)
{
	struct slice length = SLICE_NONE, coding = SLICE_NONE;
	unsigned lengths = count_of(r, SLICE("content-length"), &length);
	unsigned codings = count_of(r, SLICE("transfer-encoding"), &coding);
	if (lengths > 1 || codings > 1 || (lengths > 0 && codings > 0))
		return refuse(r, HTTP_FAULT_bad_framing);
	if (lengths > 0)
		return judge_length(r, length);
	if (codings == 0)
		return true;
	if (r->request->head.minor_version == 0 || coding.len == 0) /* RFC 9112 section 6.1: not in HTTP/1.0 */
		return refuse(r, HTTP_FAULT_bad_framing);
	if (!slice_equal_nocase(coding, SLICE("chunked")))
		return refuse(r, HTTP_FAULT_unknown_coding);
	r->request->head.content_length = -1;
	return true;
}

static void judge_connection(const struct rules *r)
{
	bool close = false, keep = false;
	for (size_t i = 0; i < r->parse->fields_count; i++) {
		struct slice rest = r->fields[i].value;
		if (!slice_equal_nocase(r->fields[i].name, SLICE("connection")))
			continue;
		while (rest.len > 0) {
			struct slice option = slice_trim(slice_cut(rest, ',', &rest));
			close = close || slice_equal_nocase(option, SLICE("close"));
			keep = keep || slice_equal_nocase(option, SLICE("keep-alive"));
		}
	}
	r->request->keep_alive = !close && (keep || r->request->head.minor_version == 1);
}

static bool judge_expectation(const struct rules *r)
{
	struct slice value = SLICE_NONE;
	unsigned count = count_of(r, SLICE("expect"), &value);
	if (count == 0 || r->request->head.minor_version == 0) /* RFC 9110 section 10.1.1: ignored in HTTP/1.0 */
		return true;
	if (count > 1 || !slice_equal_nocase(value, SLICE("100-continue")))
		return refuse(r, HTTP_FAULT_expectation_failed);
	r->request->expects_continue = r->request->head.content_length != 0;
	return true;
}

bool http_head_judge(const struct http_parse *p, const char *bytes, struct http_field *fields,
		     struct http_request_head *request, enum http_fault *fault)
{
	const struct rules r = { p, bytes, fields, request, fault };
	size_t next = 0;
	*request = (struct http_request_head){ .keep_alive = false };
	if (!judge_request_line(&r, &next) || !judge_fields(&r, next))
		return false;
	judge_connection(&r);
	return judge_host(&r) && judge_target(&r) && judge_framing(&r) && judge_expectation(&r);
}
