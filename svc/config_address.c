/* Where things are: the addresses that the gateway listens on, the proxies it believes, the URLs of upstreams and of Redis. No name is
 * looked up here: what a name stands for may change, so only what is certain counts as this machine (127.0.0.0/8, ::1, localhost). */
#include <arpa/inet.h>
#include <sys/un.h>

#include "lib/redis.h"
#include "lib/text.h"
#include "svc/config_internal.h"

enum { HOST_MOST = 253 }; /* RFC 1035 section 2.3.4, as text */

struct host {
	struct slice name; /* without brackets */
	bool bracketed;
	struct slice port; /* behind the colon; data is NULL when there is none */
};

static bool is_ip(int family, struct slice text, unsigned char bytes[16])
{
	char copy[INET6_ADDRSTRLEN];

	if (text.len == 0 || text.len >= sizeof(copy))
		return false;
	memcpy(copy, text.data, text.len);
	copy[text.len] = '\0';
	return strlen(copy) == text.len && inet_pton(family, copy, bytes) == 1;
}

/* Letters, digits, '.', '-' and '_': what a resolver takes, so that nothing hides in a name. */
static bool is_host_name(struct slice text)
{
	for (size_t i = 0; i < text.len; i++) {
		unsigned char byte = (unsigned char)text.data[i], letter = byte | 32;
		if (!(letter >= 'a' && letter <= 'z') && !(byte >= '0' && byte <= '9') && strchr("._-", byte) == NULL)
			return false;
	}
	return text.len > 0 && text.len <= HOST_MOST;
}

/* "host", "host:port", "[v6]", "[v6]:port". */
static bool split(struct slice text, struct host *host)
{
	unsigned char bytes[16];
	struct slice rest;
	size_t at;

	host->bracketed = slice_starts(text, SLICE("["));
	if (host->bracketed)
		text = slice_skip(text, 1);
	at = slice_find(text, host->bracketed ? ']' : ':');
	if (host->bracketed && at == text.len)
		return false;
	host->name = slice_first(text, at);
	rest = slice_skip(text, at + (host->bracketed ? 1 : 0));
	host->port = rest.len == 0 ? SLICE_NONE : slice_make(rest.data + 1, rest.len - 1);
	if (rest.len > 0 && rest.data[0] != ':')
		return false;
	return host->bracketed ? is_ip(AF_INET6, host->name, bytes) : host->name.len > 0;
}

static bool is_port(struct slice text, int64_t least)
{
	int64_t port;

	return text_int(text, &port) && port >= least && port <= 65535;
}

static bool is_loopback(const struct host *host)
{
	static const unsigned char one[16] = { [15] = 1 };
	unsigned char bytes[16];

	if (host->bracketed)
		return is_ip(AF_INET6, host->name, bytes) && memcmp(bytes, one, sizeof(one)) == 0;
	return slice_equal_nocase(host->name, SLICE("localhost")) ||
	       (is_ip(AF_INET, host->name, bytes) && bytes[0] == 127);
}

bool config_address_is_valid(struct slice text)
{
	struct sockaddr_un socket;
	struct host host;

	if (slice_starts(text, SLICE("unix:")))
		return text.len > 5 && text.len - 5 < sizeof(socket.sun_path);
	return split(text, &host) && host.port.data != NULL && is_port(host.port, 0) &&
	       (host.bracketed || is_host_name(host.name) || slice_equal(host.name, SLICE("*")));
}

bool config_address_is_loopback(struct slice text)
{
	struct host host;

	return slice_starts(text, SLICE("unix:")) || (split(text, &host) && is_loopback(&host));
}

bool config_is_admin_host(const struct config *config, struct slice text)
{
	unsigned char bytes[16];
	struct host asked, own;

	if (!split(text, &asked))
		return false;
	return asked.bracketed || is_ip(AF_INET, asked.name, bytes) || is_loopback(&asked) ||
	       (config->admin != NULL && split(slice_of(config->admin), &own) &&
		slice_equal_nocase(asked.name, own.name));
}

bool config_address_is_network(struct slice text)
{
	struct slice width, base = slice_cut(text, '/', &width);
	bool six = slice_find(base, ':') < base.len;
	unsigned char bytes[16];
	int64_t bits;

	if (slice_equal(text, SLICE("unix")))
		return true;
	return is_ip(six ? AF_INET6 : AF_INET, base, bytes) &&
	       (base.len == text.len || (text_int(width, &bits) && bits >= 0 && bits <= (six ? 128 : 32)));
}

static size_t scheme_length(struct slice url)
{
	return slice_starts(url, SLICE("https://")) ? 8 : slice_starts(url, SLICE("http://")) ? 7 : 0;
}

bool config_address_is_in_clear(struct slice origin)
{
	struct host host;

	return scheme_length(origin) == 7 && !(split(slice_skip(origin, 7), &host) && is_loopback(&host));
}

bool config_address_split(struct config_endpoint *e)
{
	struct slice url = slice_of(e->url), authority, prefix;
	size_t scheme = scheme_length(url);
	struct host host;

	for (size_t i = 0; i < url.len; i++)
		if (url.data[i] <= ' ' || url.data[i] > 0x7E || strchr("?#@\\\"<>^`{|}", url.data[i]) != NULL)
			return false;
	authority = slice_skip(url, scheme);
	authority = slice_first(authority, slice_find(authority, '/'));
	prefix = slice_skip(url, scheme + authority.len);
	if (scheme == 0 || !split(authority, &host) || !(host.bracketed || is_host_name(host.name)) ||
	    (host.port.data != NULL && !is_port(host.port, 1)))
		return false;
	while (slice_ends(prefix, SLICE("/")))
		prefix.len--;
	e->origin = mem_text(slice_make(e->url, scheme + authority.len));
	e->prefix = mem_text(prefix);
	return true;
}

bool config_address_is_redis(struct slice url, bool may_embed, struct buf *wrong)
{
	static const char *const later[] = { "rediss://", "cluster://" };
	struct redis_options options;
	const char *reason = "";

	if (may_embed && slice_equal(url, SLICE("embedded")))
		return true;
	for (size_t i = 0; i < ARRAY_LENGTH(later); i++)
		if (slice_starts(url, slice_of(later[i]))) {
			buf_format(wrong, "%s comes in a later version; allowed: %sredis://, unix:// and sentinel://",
				   later[i], may_embed ? "embedded, " : "");
			return false;
		}
	if (redis_options_parse(url, &options, &reason)) {
		redis_options_free(&options);
		return true;
	}
	buf_format(wrong, "the value is not valid; allowed: %sa URL: %s", may_embed ? "embedded, or " : "", reason);
	return false;
}
