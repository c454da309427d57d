/* Where Redis is, from one URL. What would end a part of it is written percent-encoded there: %2F for a / in a password, %26 for an & in that of the
 * Sentinels. What is not understood is refused rather than guessed at, for a typo in a URL is otherwise found out at three in the morning. */
#include "lib/clock.h"
#include "lib/mem.h"
#include "lib/redis.h"
#include "lib/text.h"

#include <arpa/inet.h>
#include <sys/un.h>

#define MOST_TEXT     512 /* bytes of one decoded part */
#define SENTINEL_PORT 26379
#define OF_SENTINEL   "the one parameter is sentinel=user:password or sentinel=:password, with %26 for an & in it"
#define PATIENCE                                                                                                       \
	(85 * CLOCK_MILLISECOND) /* a timer may be late, and what holds without Redis is to hold within 100 ms */

static void fill_defaults(struct redis_options *o)
{
	*o = (struct redis_options){ .port = 6379,
				     .connect_timeout = CLOCK_SECOND / 2,
				     .reconnect_base = 10 * CLOCK_MILLISECOND,
				     .reconnect_cap = CLOCK_SECOND / 4,
				     .patience = PATIENCE };
}

/* A decoded copy in *text; false when an escape is wrong or it is too long. */
static bool decode(struct slice part, char **text)
{
	char decoded[MOST_TEXT];
	size_t len;
	bool ok = text_url_decode(part, decoded, sizeof(decoded), &len);
	if (ok)
		*text = mem_text(slice_make(decoded, len));
	mem_wipe(decoded, sizeof(decoded));
	return ok;
}

/* user:password, :password; the user alone is refused: it is more likely a forgotten password than meant. */
static const char *parse_credentials(struct slice part, char **to_user, char **to_password)
{
	struct slice password, user = slice_cut(part, ':', &password);
	if (password.len == 0)
		return "a password must follow the user, as in user:password";
	if (user.len > 0 && !decode(user, to_user))
		return "the user has a wrong percent-escape or is too long";
	if (!decode(password, to_password))
		return "the password has a wrong percent-escape or is too long";
	return NULL;
}

static const char *parse_database(struct slice part, struct redis_options *o)
{
	int64_t number;
	if (!text_int(part, &number) || number < 0 || number > INT16_MAX)
		return "the database is a number from 0 to 32767";
	o->database = (int)number;
	return NULL;
}

static bool has_white_space(struct slice text)
{
	for (size_t i = 0; i < text.len; i++)
		if (text.data[i] == ' ' || (text.data[i] >= '\t' && text.data[i] <= '\r'))
			return true;
	return false;
}

static const char *parse_port(struct slice part, int *port)
{
	int64_t number;
	if (!text_int(part, &number) || number < 1 || number > UINT16_MAX)
		return "the port is a number from 1 to 65535";
	*port = (int)number;
	return NULL;
}

/* What a resolver takes: a name that hides a parameter, or two, is found here. */
static const char *judge_name(const char *host)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
	return host[strspn(host, allowed)] == '\0' ? NULL : "a host has letters, digits, '.', '-' and '_'";
}

/* With or without a zone, as in fe80::1%eth0. */
static const char *judge_number(const char *host)
{
	struct in6_addr unused;
	char number[INET6_ADDRSTRLEN] = "";
	size_t len = strcspn(host, "%");
	if (len < sizeof(number))
		memcpy(number, host, len);
	return inet_pton(AF_INET6, number, &unused) == 1 ? NULL : "an address in [ ] is one of IPv6, as in [::1]";
}

/* host, host:port, [v6], [v6]:port; the port stays as it is where none is given. */
static const char *parse_place(struct slice part, char **to, int *port)
{
	struct slice host, rest;
	bool bracketed = slice_starts(part, SLICE("["));
	if (bracketed) {
		if (slice_find(part, ']') == part.len)
			return "the address has no closing ]";
		host = slice_cut(slice_skip(part, 1), ']', &rest);
	} else {
		host = slice_first(part, slice_find(part, ':'));
		rest = slice_skip(part, host.len);
	}
	if (host.len == 0)
		return "the host is missing";
	if (!decode(host, to))
		return "the host has a wrong percent-escape or is too long";
	const char *wrong = bracketed ? judge_number(*to) : judge_name(*to);
	if (wrong != NULL || rest.len == 0)
		return wrong;
	return rest.data[0] == ':' ? parse_port(slice_skip(rest, 1), port) : "a : must stand between address and port";
}

/* Takes what stands before the @ of the authority off. There is one (RFC 3986, 3.2.1): which of several ends the password would be a guess. */
static const char *take_credentials(struct slice *authority, struct redis_options *o)
{
	size_t at = slice_find(*authority, '@');
	if (at == authority->len)
		return NULL;
	struct slice part = slice_first(*authority, at);
	*authority = slice_skip(*authority, at + 1);
	if (slice_find(*authority, '@') < authority->len)
		return "one @ ends user and password, and one within them is written %40";
	return parse_credentials(part, &o->user, &o->password);
}

static const char *parse_tcp(struct slice rest, struct redis_options *o)
{
	struct slice database, authority = slice_cut(rest, '/', &database);
	const char *wrong = take_credentials(&authority, o);
	if (wrong == NULL && (slice_find(authority, '?') < authority.len || slice_find(database, '?') < database.len))
		wrong = "redis:// takes no parameter: the database follows the host, as in redis://host:6379/1";
	if (wrong == NULL)
		wrong = parse_place(authority, &o->host, &o->port);
	if (wrong == NULL && database.len > 0)
		wrong = parse_database(database, o);
	return wrong;
}

/* Its word would count twice among those of whom more than half decide. */
static bool is_named_before(const struct redis_options *o, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (o->sentinels[k].port == o->sentinels[i].port &&
		    slice_equal_nocase(slice_of(o->sentinels[k].host), slice_of(o->sentinels[i].host)))
			return true;
	return false;
}

static const char *parse_sentinels(struct slice list, struct redis_options *o)
{
	if (list.len > 0 && list.data[list.len - 1] == ',')
		return "nothing follows the last comma";
	while (list.len > 0) {
		struct slice one = slice_cut(list, ',', &list);
		if (o->sentinels_count == REDIS_SENTINELS)
			return "at most 8 Sentinels can be named";
		size_t i = o->sentinels_count++;
		o->sentinels[i].port = SENTINEL_PORT;
		const char *wrong = parse_place(one, &o->sentinels[i].host, &o->sentinels[i].port);
		if (wrong == NULL && is_named_before(o, i))
			wrong = "each Sentinel is named once";
		if (wrong != NULL)
			return wrong;
	}
	return o->sentinels_count > 0 ? NULL : "the Sentinels are missing, as in sentinel://host:26379,host:26379/name";
}

/* An & would begin another. */
static const char *parse_parameter(struct slice query, struct redis_options *o)
{
	if (!slice_starts(query, SLICE("sentinel=")) || slice_find(query, '&') < query.len)
		return OF_SENTINEL;
	return parse_credentials(slice_skip(query, 9), &o->sentinel_user, &o->sentinel_password);
}

static const char *parse_sentinel(struct slice rest, struct redis_options *o)
{
	struct slice path, database, query, authority = slice_cut(rest, '/', &path);
	bool has_query = slice_find(path, '?') < path.len;
	path = slice_cut(path, '?', &query);
	struct slice name = slice_cut(path, '/', &database);
	const char *wrong = take_credentials(&authority, o);
	if (wrong == NULL)
		wrong = parse_sentinels(authority, o);
	if (wrong == NULL && name.len == 0)
		wrong = "the master's name is missing, as in sentinel://host:26379,host:26379/name";
	if (wrong == NULL &&
	    slice_find(name, '&') < name.len) /* it is logged: a password that was to follow a ? must not be in it */
		wrong = OF_SENTINEL;
	if (wrong == NULL && !decode(name, &o->master))
		wrong = "the master's name has a wrong percent-escape or is too long";
	if (wrong == NULL && database.len > 0)
		wrong = parse_database(database, o);
	if (wrong == NULL && has_query)
		wrong = parse_parameter(query, o);
	return wrong;
}

static const char *parse_unix(struct slice rest, struct redis_options *o)
{
	struct slice query, path, authority = slice_first(rest, slice_find(rest, '/'));
	struct sockaddr_un address;
	rest = slice_skip(rest, authority.len);
	path = slice_cut(rest, '?', &query);
	bool has_query = path.len < rest.len;
	const char *wrong = take_credentials(&authority, o);
	if (wrong != NULL)
		return wrong;
	if (authority.len > 0 || path.len < 2)
		return "the socket's path is absolute, as in unix:///run/redis.sock";
	if (!decode(path, &o->path))
		return "the path has a wrong percent-escape or is too long";
	if (strlen(o->path) >= sizeof(address.sun_path))
		return "a socket's path has at most 107 bytes";
	if (!has_query)
		return NULL;
	if (!slice_starts(query, SLICE("db=")) || slice_find(query, '&') < query.len)
		return "the one parameter is db=N";
	return parse_database(slice_skip(query, 3), o);
}

bool redis_options_parse(struct slice url, struct redis_options *o, const char **reason)
{
	fill_defaults(o);
	if (has_white_space(url))
		*reason = "white space is written percent-encoded, as in %20";
	else if (slice_starts(url, SLICE("redis://")))
		*reason = parse_tcp(slice_skip(url, 8), o);
	else if (slice_starts(url, SLICE("unix://")))
		*reason = parse_unix(slice_skip(url, 7), o);
	else if (slice_starts(url, SLICE("sentinel://")))
		*reason = parse_sentinel(slice_skip(url, 11), o);
	else
		*reason = "it begins with redis://, unix:// or sentinel://";
	if (*reason == NULL)
		return true;
	redis_options_free(o);
	return false;
}

static void wipe(char **text)
{
	if (*text != NULL)
		mem_wipe(*text, strlen(*text));
	mem_free(*text);
	*text = NULL;
}

void redis_options_free(struct redis_options *o)
{
	mem_free(o->host);
	mem_free(o->path);
	mem_free(o->master);
	o->host = o->path = o->master = NULL;
	for (size_t i = 0; i < o->sentinels_count; i++)
		mem_free(o->sentinels[i].host);
	o->sentinels_count = 0;
	wipe(&o->sentinel_user);
	wipe(&o->sentinel_password);
	wipe(&o->user);
	wipe(&o->password);
}
