/* sluice-sim: a simulated provider of language-model APIs, for tests and benchmarks. See control.h for its pages and
 * behaviour.h for what it can be told to do. One thread. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "exchange.h"
#include "lib/buf.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/text.h"
#include "sim.h"

#define BODY_CEILING (INT64_C(256) << 20)

static const char help[] = "usage: sluice-sim [options]\n"
			   "  --listen ADDRESS     host:port (port 0: any free one) or unix:path; default 127.0.0.1:0\n"
			   "  --set WORDS          behaviour of every answer: latency=20ms tokens=50 rate=100/s "
			   "fault=reset@123 status=529 ...\n"
			   "  --key KEY            the only credential accepted; default: any\n"
			   "  --models A,B         more models that exist\n"
			   "  --limits LIMITS      rpm=60,tpm=10k,concurrency=5: the provider's own limits, per model\n"
			   "  --max-body SIZE      larger requests are refused; default 256MiB\n"
			   "  --control ADDRESS    /__sim/ at an address of its own, which stays when the provider is "
			   "down\n"
			   "  --die-with-parent    end when the parent process does\n"
			   "Prints one JSON line when it is ready. Example:\n"
			   "  sluice-sim --listen 127.0.0.1:9000 --set 'latency=20ms tokens=50'\n";

struct options {
	const char *listen, *control, *set, *key, *models, *limits;
	int64_t max_body;
	bool die_with_parent;
};

static _Noreturn void misused(const char *what, const char *found)
{
	fprintf(stderr, "sluice-sim: %s: %s\n%s", what, found, help);
	exit(2);
}

static struct options read_options(int argc, char **argv)
{
	/* clang-format off */
	static const struct option names[] = {
		{ "listen", required_argument, NULL, 'l' }, { "set", required_argument, NULL, 's' },
		{ "control", required_argument, NULL, 'c' },
		{ "key", required_argument, NULL, 'k' }, { "models", required_argument, NULL, 'm' },
		{ "limits", required_argument, NULL, 'L' }, { "max-body", required_argument, NULL, 'b' },
		{ "die-with-parent", no_argument, NULL, 'd' }, { "help", no_argument, NULL, 'h' }, { 0 },
	};
	/* clang-format on */
	struct options o = { .listen = "127.0.0.1:0", .set = "", .models = "", .limits = "", .max_body = BODY_CEILING };
	for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
		switch (c) {
		case 'l':
			o.listen = optarg;
			break;
		case 'c':
			o.control = optarg;
			break;
		case 's':
			o.set = optarg;
			break;
		case 'k':
			o.key = optarg;
			break;
		case 'm':
			o.models = optarg;
			break;
		case 'L':
			o.limits = optarg;
			break;
		case 'b':
			if (!text_size(slice_of(optarg), &o.max_body))
				misused("--max-body", optarg);
			break;
		case 'd':
			o.die_with_parent = true;
			break;
		case 'h':
			fputs(help, stdout);
			exit(0);
		default:
			exit(2);
		}
	}
	if (optind < argc)
		misused("unexpected argument", argv[optind]);
	return o;
}

static struct limits_rates read_limits(const char *text)
{
	struct limits_rates rates = { 0, 0, 0 };
	struct slice rest = slice_of(text);
	while (rest.len > 0) {
		struct slice value, pair = slice_trim(slice_cut(rest, ',', &rest)), key = slice_cut(pair, '=', &value);
		int64_t *into = slice_equal(key, SLICE("rpm"))           ? &rates.rpm
				: slice_equal(key, SLICE("tpm"))         ? &rates.tpm
				: slice_equal(key, SLICE("concurrency")) ? &rates.concurrency
									 : NULL;
		if (into == NULL || !text_count(value, into))
			misused("--limits", text);
	}
	return rates;
}

static _Noreturn void failed(const char *what)
{
	fprintf(stderr, "sluice-sim: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int bind_to(const struct sockaddr *address, socklen_t length)
{
	const int one = 1;
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		failed("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, address, length) != 0 || listen(fd, WIRE_BACKLOG) != 0)
		failed("listen");
	return fd;
}

/* A socket file that an earlier run left is in the way; anything else at that place stays and lets bind fail. */
static int listen_unix(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct stat found;
	if (strlen(path) >= sizeof(address.sun_path))
		misused("--listen", path);
	memcpy(address.sun_path, path, strlen(path) + 1);
	if (lstat(path, &found) == 0 && S_ISSOCK(found.st_mode))
		unlink(path);
	return bind_to((struct sockaddr *)&address, sizeof(address));
}

/* Appends where it listens to `where`, as members of the line that is printed. */
static int listen_inet(const char *text, const char *prefix, struct buf *where)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t length = sizeof(address);
	char host[64];
	int64_t port;
	struct slice rest, name = slice_cut(slice_of(text), ':', &rest);
	if (name.len >= sizeof(host) || !text_int(rest, &port) || port < 0 || port > 65535)
		misused("--listen", text);
	memcpy(host, name.data, name.len);
	host[name.len] = '\0';
	if (inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, &address.sin_addr) != 1)
		misused("--listen", text);
	address.sin_port = htons((uint16_t)port);
	int fd = bind_to((struct sockaddr *)&address, length);
	if (getsockname(fd, (struct sockaddr *)&address, &length) != 0)
		failed("getsockname");
	buf_format(where, ",\"%shost\":\"%s\",\"%sport\":%d,\"%surl\":\"http://%s:%d\"", prefix, host, prefix,
		   ntohs(address.sin_port), prefix, host, ntohs(address.sin_port));
	return fd;
}

static int open_listener(const char *address, const char *prefix, struct buf *where)
{
	if (strncmp(address, "unix:", 5) != 0)
		return listen_inet(address, prefix, where);
	buf_format(where, ",\"%sunix\":\"%s\"", prefix, address + 5);
	return listen_unix(address + 5);
}

static void raise_descriptors(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		failed("getrlimit");
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		failed("setrlimit");
}

static void stop(void *arg)
{
	loop_stop(arg);
}

int main(int argc, char **argv)
{
	struct options o = read_options(argc, argv);
	struct slice bad;
	struct sim sim = { .rates = read_limits(o.limits), .defaults = behaviour_default(), .date_second = -1 };
	if (!behaviour_apply(&sim.defaults, slice_of(o.set), &bad))
		misused("--set", o.set);
	pid_t parent = getppid();
	if (o.die_with_parent && (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent))
		failed("the parent is gone");
	raise_descriptors();
	struct buf where;
	buf_init(&where, 1024);
	int listening = open_listener(o.listen, "", &where);
	int controlling = o.control == NULL ? -1 : open_listener(o.control, "control_", &where);
	printf("{\"ready\":true%.*s,\"pid\":%d}\n", SLICE_ARGS(buf_slice(&where)), (int)getpid());
	buf_free(&where);
	sim.loop = loop_new();
	sim.ledger = ledger_new();
	sim.limits = limits_new();
	sim.rules = rules_new();
	sim.key = o.key == NULL ? NULL : mem_text(slice_of(o.key));
	sim.models = mem_text(slice_of(o.models));
	limits_set(sim.limits, sim.rates);
	struct wire_server *control = NULL;
	sim.server = wire_server_new(sim.loop, listening, (size_t)o.max_body, &exchange_handler, &sim);
	sim.controlled = o.control != NULL;
	if (sim.controlled)
		control = wire_server_new(sim.loop, controlling, (size_t)o.max_body, &exchange_control_handler, &sim);
	loop_signal(sim.loop, SIGTERM, stop, sim.loop);
	loop_signal(sim.loop, SIGINT, stop, sim.loop);
	if (fflush(stdout) != 0)
		failed("stdout");
	loop_run(sim.loop);
	wire_server_free(&sim.server);
	wire_server_free(&control);
	mem_free(sim.key);
	mem_free(sim.models);
	rules_free(&sim.rules);
	limits_free(&sim.limits);
	ledger_free(&sim.ledger);
	loop_free(&sim.loop);
	return 0;
}
