/* Where Redis is, from one URL. A password with an @ or a / in it is written percent-escaped; what is not understood is refused
 * rather than guessed at, for a typo in a URL is otherwise found out at three in the morning. */
#include "lib/clock.h"
#include "lib/mem.h"
#include "lib/redis.h"
#include "lib/text.h"

#include <sys/un.h>

#define MOST_TEXT 512 /* bytes of one decoded part */

static void fill_defaults(struct redis_options *o)
{
	*o = (struct redis_options){ .port = 6379,
				     .connect_timeout = CLOCK_SECOND / 2,
				     .reconnect_base = 10 * CLOCK_MILLISECOND,
				     .reconnect_cap = CLOCK_SECOND / 2 };
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
static const char *parse_credentials(struct slice part, struct redis_options *o)
{
	struct slice password, user = slice_cut(part, ':', &password);
	if (password.len == 0)
		return "a password must follow the user, as in user:password@";
	if (user.len > 0 && !decode(user, &o->user))
		return "the user has a wrong percent-escape or is too long";
	if (!decode(password, &o->password))
		return "the password has a wrong percent-escape or is too long";
	return NULL;
}

static const char *parse_database(struct slice part, struct redis_options *o)
{
	int64_t number;
	if (!text_int(part, &number) || number < 0 || number > INT16_MAX)
		return "the database is a number from 0";
	o->database = (int)number;
	return NULL;
}

static const char *parse_port(struct slice part, struct redis_options *o)
{
	int64_t number;
	if (!text_int(part, &number) || number < 1 || number > UINT16_MAX)
		return "the port is a number from 1 to 65535";
	o->port = (int)number;
	return NULL;
}

/* host, host:port, [v6], [v6]:port */
static const char *parse_host(struct slice part, struct redis_options *o)
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
	if (!decode(host, &o->host))
		return "the host has a wrong percent-escape or is too long";
	if (rest.len == 0)
		return NULL;
	return rest.data[0] == ':' ? parse_port(slice_skip(rest, 1), o) : "a : must stand between address and port";
}

/* Takes what stands before the last @ of the authority off. */
static const char *take_credentials(struct slice *authority, struct redis_options *o)
{
	size_t at = authority->len;
	while (at > 0 && authority->data[at - 1] != '@')
		at--;
	if (at == 0)
		return NULL;
	struct slice part = slice_first(*authority, at - 1);
	*authority = slice_skip(*authority, at);
	return parse_credentials(part, o);
}

static const char *parse_tcp(struct slice rest, struct redis_options *o)
{
	struct slice database, authority = slice_cut(rest, '/', &database);
	const char *wrong = take_credentials(&authority, o);
	if (wrong == NULL)
		wrong = parse_host(authority, o);
	if (wrong == NULL && database.len > 0)
		wrong = parse_database(database, o);
	return wrong;
}

static const char *parse_unix(struct slice rest, struct redis_options *o)
{
	struct slice query, path, authority = slice_first(rest, slice_find(rest, '/'));
	struct sockaddr_un address;
	path = slice_cut(slice_skip(rest, authority.len), '?', &query);
	bool has_query = slice_find(rest, '?') < rest.len;
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
	if (!slice_starts(query, SLICE("db=")))
		return "the one parameter is db=N";
	return parse_database(slice_skip(query, 3), o);
}

bool redis_options_parse(struct slice url, struct redis_options *o, const char **reason)
{
	fill_defaults(o);
	if (slice_starts(url, SLICE("redis://")))
		*reason = parse_tcp(slice_skip(url, 8), o);
	else if (slice_starts(url, SLICE("unix://")))
		*reason = parse_unix(slice_skip(url, 7), o);
	else
		*reason = "it begins with redis:// or unix://";
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
	o->host = o->path = NULL;
	wipe(&o->user);
	wipe(&o->password);
}
