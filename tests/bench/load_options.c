#include "load_options.h"

#include <getopt.h>
#include <netdb.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define HEAD_MAX 32768

static const char help[] =
	"usage: sluice-load [options] URL...\n"
	"  URL                       http:// or https://host:port/path, or unix:/socket:/path; connections are dealt "
	"out in turn\n"
	"  -c, --connections N       default 1\n"
	"  -n, --requests N          stop after N requests; default: until the duration is over\n"
	"  -d, --duration SECONDS    default 10, or no limit with --requests\n"
	"  -r, --rate N              open loop: N requests a second; latency counts from the due time. default: closed "
	"loop\n"
	"  -X, --method M            default POST with a body, else GET\n"
	"  -H, --header 'N: V'       may be repeated\n"
	"  -b, --body TEXT | -f, --body-file FILE\n"
	"      --first N             in body, path and headers {{n}} becomes a number of ten digits, from N up\n"
	"  -t, --timeout SECONDS     per request, default 30\n"
	"  -g, --grace SECONDS       for what is in flight at the end, default 5\n"
	"      --abort-after BYTES   leave in the middle of a body\n"
	"      --fresh               a new connection for every request, its host looked up anew\n"
	"      --ca FILE             https: trusted certificates; default: the system's\n"
	"      --tls 1.2|1.3         https: this version; default: the newest that both know\n"
	"      --series              a line of numbers per second\n"
	"      --record FILE         per request: due, latency, first byte (us), status, error\n"
	"Prints one JSON object. Example:\n"
	"  sluice-load -c 64 -d 5 -H 'authorization: Bearer k' -b '{\"model\":\"gpt-4o\",\"messages\":[]}' \\\n"
	"      http://127.0.0.1:8080/v1/chat/completions\n";

struct draft {
	struct options options;
	const char *method, *urls[TARGETS_MAX];
	char headers[HEAD_MAX];
	char *body;
	size_t body_len;
};

static _Noreturn void misused(const char *what, const char *found)
{
	fprintf(stderr, "sluice-load: %s: %s\n%s", what, found, help);
	exit(2);
}

static void *memory(void *block)
{
	if (block == NULL)
		abort();
	return block;
}

static double number(const char *text, const char *name)
{
	char *end;
	double value = strtod(text, &end);
	if (end == text || *end != '\0' || !(value >= 0) || value > 1e15)
		misused(name, text);
	return value;
}

static int64_t seconds(const char *text, const char *name)
{
	double value = number(text, name);
	if (value > 1e9)
		misused(name, text);
	return (int64_t)(value * 1e6);
}

static void read_file(struct draft *d, const char *path)
{
	FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
	size_t room = 65536, got;
	if (file == NULL)
		misused("--body-file", path);
	free(d->body);
	d->body = memory(malloc(room));
	d->body_len = 0;
	while ((got = fread(d->body + d->body_len, 1, room - d->body_len, file)) > 0) {
		d->body_len += got;
		if (d->body_len == room)
			d->body = memory(realloc(d->body, room *= 2));
	}
	if (ferror(file))
		misused("--body-file", path);
	fclose(file);
}

static void add_header(struct draft *d, const char *line)
{
	size_t used = strlen(d->headers), len = strlen(line);
	if (strchr(line, ':') == NULL || strpbrk(line, "\r\n") != NULL || used + len + 3 > sizeof(d->headers))
		misused("--header", line);
	memcpy(d->headers + used, line, len);
	memcpy(d->headers + used + len, "\r\n", 3);
}

static int tls_version(const char *text)
{
	if (strcmp(text, "1.2") != 0 && strcmp(text, "1.3") != 0)
		misused("--tls", text);
	return text[2] == '2' ? TLS1_2_VERSION : TLS1_3_VERSION;
}

/* What is sent. False: it is another option. */
static bool take_request(struct draft *d, int option, const char *value)
{
	switch (option) {
	case 'X':
		d->method = value;
		return true;
	case 'H':
		add_header(d, value);
		return true;
	case 'b':
		free(d->body);
		d->body = memory(strdup(value));
		d->body_len = strlen(value);
		return true;
	case 'f':
		read_file(d, value);
		return true;
	case 'F':
		d->options.first_number = (uint64_t)number(value, "--first");
		return true;
	default:
		return false;
	}
}

/* How it is sent. False: it is another option. */
static bool take_way(struct options *o, int option, const char *value)
{
	switch (option) {
	case 'A':
		o->abort_after = (uint64_t)number(value, "--abort-after");
		return true;
	case 'x':
		o->fresh = true;
		return true;
	case 'C':
		o->ca = value;
		return true;
	case 'T':
		o->tls_version = tls_version(value);
		return true;
	default:
		return false;
	}
}

static void take(struct draft *d, int option, const char *value)
{
	struct options *o = &d->options;
	switch (option) {
	case 'c':
		o->connections = (unsigned)number(value, "--connections");
		break;
	case 'n':
		o->count = (uint64_t)number(value, "--requests");
		break;
	case 'd':
		o->duration = seconds(value, "--duration");
		break;
	case 'r':
		o->rate = number(value, "--rate");
		break;
	case 't':
		o->timeout = seconds(value, "--timeout");
		break;
	case 'g':
		o->grace = seconds(value, "--grace");
		break;
	case 's':
		o->series = true;
		break;
	case 'R':
		o->record = value;
		break;
	case 'h':
		fputs(help, stdout);
		exit(0);
	default:
		if (!take_request(d, option, value) && !take_way(o, option, value))
			exit(2);
	}
}

bool target_resolve(struct target *t)
{
	struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM }, *found;
	/* localhost is the loopback (RFC 6761, section 6.3), also where /etc/hosts is missing */
	if (getaddrinfo(t->host, t->port, &hints, &found) != 0 &&
	    (strcmp(t->host, "localhost") != 0 || getaddrinfo("127.0.0.1", t->port, &hints, &found) != 0))
		return false;
	memcpy(&t->address, found->ai_addr, found->ai_addrlen);
	t->address_len = found->ai_addrlen;
	freeaddrinfo(found);
	return true;
}

static void resolve(struct target *t, const char *url, const char **host, size_t *host_len, const char **path)
{
	if (strncmp(url, "unix:", 5) == 0) {
		struct sockaddr_un *address = (struct sockaddr_un *)&t->address;
		const char *colon = strchr(url + 5, ':');
		size_t len = colon == NULL ? 0 : (size_t)(colon - url) - 5;
		if (len == 0 || len >= sizeof(address->sun_path))
			misused("URL", url);
		address->sun_family = AF_UNIX;
		memcpy(address->sun_path, url + 5, len);
		t->address_len = sizeof(*address);
		*host = "localhost";
		*host_len = 9;
		*path = colon + 1;
		return;
	}
	t->is_secure = strncmp(url, "https://", 8) == 0;
	if (!t->is_secure && strncmp(url, "http://", 7) != 0)
		misused("URL", url);
	*host = url + (t->is_secure ? 8 : 7);
	*host_len = strcspn(*host, "/");
	*path = (*host)[*host_len] == '/' ? *host + *host_len : "/";
	if (*host_len == 0 || *host_len >= sizeof(t->host))
		misused("URL", url);
	memcpy(t->host, *host, *host_len);
	t->host[*host_len] = '\0';
	char *port = strrchr(t->host, ':');
	if (port != NULL)
		*port++ = '\0';
	snprintf(t->port, sizeof(t->port), "%s", port != NULL ? port : t->is_secure ? "443" : "80");
	t->is_named = t->host[strspn(t->host, "0123456789.")] != '\0';
	if (!target_resolve(t))
		misused("URL", url);
}

/* Every {{n}} becomes a number of ten digits in place of its five characters; offsets are noted. Gives the new length. */
static size_t widen(const char *text, size_t len, char *out, size_t base, struct target *t)
{
	size_t made = 0;
	for (size_t i = 0; i < len;) {
		if (len - i >= 5 && memcmp(text + i, "{{n}}", 5) == 0) {
			if (t->number_count == sizeof(t->numbers) / sizeof(t->numbers[0]))
				misused("too many", "{{n}}");
			t->numbers[t->number_count++] = base + made;
			memset(out + made, '0', NUMBER_WIDTH);
			made += NUMBER_WIDTH;
			i += 5;
		} else {
			out[made++] = text[i++];
		}
	}
	return made;
}

static void build(struct draft *d, struct target *t, const char *url)
{
	const char *host, *path;
	size_t host_len;
	char head[HEAD_MAX + 8192];
	resolve(t, url, &host, &host_len, &path);
	char *body = memory(malloc(2 * d->body_len + 1));
	struct target ignored = { 0 };
	size_t body_len = widen(d->body == NULL ? "" : d->body, d->body_len, body, 0, &ignored);
	int head_len = snprintf(head, sizeof(head), "%s %s HTTP/1.1\r\nhost: %.*s\r\n%s", d->method, path,
				(int)host_len, host, d->headers);
	size_t room = sizeof(head) - (size_t)head_len;
	if (d->body != NULL)
		head_len +=
			snprintf(head + head_len, room, "content-length: %zu\r\n%s\r\n", body_len,
				 strcasestr(d->headers, "content-type:") == NULL ? "content-type: application/json\r\n"
										 : "");
	else
		head_len += snprintf(head + head_len, room, "\r\n");
	if ((size_t)head_len >= sizeof(head))
		misused("the head is too long", url);
	t->request = memory(malloc(2 * (size_t)head_len + 2 * d->body_len + 1));
	t->request_len = widen(head, (size_t)head_len, t->request, 0, t);
	t->request_len +=
		widen(d->body == NULL ? "" : d->body, d->body_len, t->request + t->request_len, t->request_len, t);
	free(body);
}

struct options options_read(int argc, char **argv)
{
	/* clang-format off */
	static const struct option names[] = {
		{ "connections", 1, NULL, 'c' }, { "requests", 1, NULL, 'n' }, { "duration", 1, NULL, 'd' }, { "rate", 1, NULL, 'r' },
		{ "method", 1, NULL, 'X' }, { "header", 1, NULL, 'H' }, { "body", 1, NULL, 'b' }, { "body-file", 1, NULL, 'f' },
		{ "timeout", 1, NULL, 't' }, { "grace", 1, NULL, 'g' }, { "abort-after", 1, NULL, 'A' }, { "first", 1, NULL, 'F' },
		{ "fresh", 0, NULL, 'x' }, { "ca", 1, NULL, 'C' }, { "tls", 1, NULL, 'T' }, { "series", 0, NULL, 's' }, { "record", 1, NULL, 'R' }, { "help", 0, NULL, 'h' }, { 0 },
	};
	/* clang-format on */
	struct draft *d = memory(calloc(1, sizeof(*d)));
	d->options = (struct options){ .connections = 1, .duration = -1, .timeout = 30000000, .grace = 5000000 };
	for (int c; (c = getopt_long(argc, argv, "c:n:d:r:X:H:b:f:t:g:h", names, NULL)) != -1;)
		take(d, c, optarg);
	if (d->method == NULL)
		d->method = d->body == NULL ? "GET" : "POST";
	if (d->options.duration < 0)
		d->options.duration = d->options.count > 0 ? INT64_C(1000000000000) : 10000000;
	if (optind == argc || argc - optind > TARGETS_MAX || d->options.connections == 0)
		misused("wanted", "1 to 64 URLs and at least one connection");
	for (int i = optind; i < argc; i++)
		build(d, &d->options.targets[d->options.target_count++], argv[i]);
	struct options options = d->options;
	free(d->body);
	free(d);
	return options;
}

bool options_secure(const struct options *o)
{
	for (unsigned i = 0; i < o->target_count; i++)
		if (o->targets[i].is_secure)
			return true;
	return false;
}

void options_free(struct options *o)
{
	for (unsigned i = 0; i < o->target_count; i++)
		free(o->targets[i].request);
}
