/* pool-size: from users and their pace to the `pool` of an upstream, with the arithmetic said. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/text.h"
#include "svc/command.h"
#include "svc/config.h"
#include "svc/staffing.h"

enum { SPELLED_MOST = 32 };

/* Where a number goes, and what it may be. */
struct asked {
	char letter;
	const char *name;
	int64_t *value;
	bool is_duration;
	int64_t least, most;
	const char *allowed;
};

static const char *spelled(int64_t microseconds, char out[SPELLED_MOST])
{
	struct buf text;

	buf_init(&text, SPELLED_MOST);
	text_put_duration(&text, microseconds);
	snprintf(out, SPELLED_MOST, "%.*s", SLICE_ARGS(buf_slice(&text)));
	buf_free(&text);
	return out;
}

/* False when it has been complained about. */
static bool take(const struct command *c, const struct asked *asked, const char *typed)
{
	struct slice text = slice_of(typed);
	bool understood = asked->is_duration ? text_duration(text, asked->value) : text_count(text, asked->value);

	if (understood && *asked->value >= asked->least && *asked->value <= asked->most)
		return true;
	command_misused(c, "--%s: found \"%s\"; allowed: %s", asked->name, typed, asked->allowed);
	return false;
}

static bool judge(const struct command *c, const struct staffing_workload *load)
{
	char response[SPELLED_MOST], interval[SPELLED_MOST];

	if (load->response <= load->interval)
		return true;
	command_misused(
		c,
		"--interval: found %s, less than --response, %s: a user would call again before he has his answer; "
		"allowed: --response or longer; one who makes three calls at once counts as three users",
		spelled(load->interval, interval), spelled(load->response, response));
	return false;
}

/* ---- what is printed ------------------------------------------------------------------------------------------------------- */

/* Three digits of what is small, all of what is large. */
static const char *figure(double value, char out[SPELLED_MOST])
{
	snprintf(out, SPELLED_MOST, value < 1000 ? "%.3g" : "%.0f", value);
	return out;
}

static void print_load(const struct staffing_workload *load, const struct staffing *found)
{
	char response[SPELLED_MOST], interval[SPELLED_MOST], rate[SPELLED_MOST], offered[SPELLED_MOST],
		share[SPELLED_MOST];

	figure(found->rate, rate);
	figure(found->offered, offered);
	if (load->users == 1)
		printf("One user");
	else
		printf("Each of %" PRId64 " users", load->users);
	printf(" begins a call every %s and has the whole answer %s later.\n\n", spelled(load->interval, interval),
	       spelled(load->response, response));
	printf("  calls       %" PRId64 " / %s = %s a second\n", load->users, interval, rate);
	printf("  in flight   %s a second x %s = %s on average; Little's law, L = λW\n", rate, response, offered);
	if (load->instances > 1)
		printf("  of these    %s / %" PRId64 " instances = %s in each\n", offered, load->instances,
		       figure(found->share, share));
}

/* Below one the square root says nothing. */
static void print_margin(const struct staffing *found)
{
	char share[SPELLED_MOST];

	figure(found->share, share);
	if (found->waiting == 0) {
		printf("  at once     %" PRId64 ", one for each user: nobody waits\n", found->calls);
		return;
	}
	if (found->share < 1)
		printf("  at once     %" PRId64, found->calls);
	else
		printf("  at once     %s + %.2g x √%s = %" PRId64, share,
		       ((double)found->calls - found->share) / sqrt(found->share), share, found->calls);
	printf(", the fewest with which at most %g %% of the calls wait; Erlang C: %.2g %% do\n",
	       100 * STAFFING_WAITING, 100 * found->waiting);
}

static void print_streams(const struct staffing_workload *load, const struct staffing *found)
{
	int64_t others = load->workers - 1;

	if (others == 0)
		printf("  HTTP/2      %" PRId64 " / %" PRId64 " streams a connection, rounded up = %" PRId64 "\n",
		       found->calls, load->streams_per_connection, found->most);
	else if (found->calls <= load->workers)
		printf("  HTTP/2      %" PRId64 ", one for each worker: a connection belongs to one\n", found->most);
	else
		printf("  HTTP/2      %" PRId64 " + (%" PRId64 " - %" PRId64 ") / %" PRId64
		       " streams a connection, rounded up = %" PRId64 ": a connection belongs to one of %" PRId64
		       " workers, however the calls fall\n",
		       others, found->calls, others, load->streams_per_connection, found->most, load->workers);
}

static void print_min(const struct staffing_workload *load, const struct staffing *found)
{
	int64_t average = (int64_t)ceil(found->share / (double)load->streams_per_connection);

	printf("  min         %" PRId64 ": ", found->warm);
	if (found->share < 1)
		printf("one, which is in use now and then, is kept warm\n\n");
	else if (found->warm <= average)
		printf("the average, which is always in use, is kept warm\n\n");
	else
		printf("the average would fit on %" PRId64
		       ", but the workers share it, and a connection belongs to one: so many are kept warm\n\n",
		       average);
}

static void print_connections(const struct staffing_workload *load, const struct staffing *found, bool asks_workers)
{
	if (load->streams_per_connection > 1)
		print_streams(load, found);
	else if (asks_workers)
		printf("  HTTP/1.1    the workers share all connections, so --workers changes nothing; over HTTP/2 "
		       "(--streams-per-connection) it does\n");
	printf("  max         %" PRId64 "%s; start is the same, the pool need not grow first\n", found->most,
	       load->instances > 1 ? " of an instance" : "");
	print_min(load, found);
}

/* A full disk or a closed pipe is a failure, not silence. */
static int print(const struct staffing_workload *load, const struct staffing *found, bool asks_workers)
{
	print_load(load, found);
	print_margin(found);
	print_connections(load, found, asks_workers);
	printf("pool: {");
	if (load->streams_per_connection > 1)
		printf("http: 2, streams_per_connection: %" PRId64 ", ", load->streams_per_connection);
	printf("min: %" PRId64 ", start: %" PRId64 ", max: %" PRId64
	       "}  # of upstreams.NAME; streamed answers have a pool of their own: streams: %" PRId64 "\n",
	       found->warm, found->most, found->most, found->most);
	if (fflush(stdout) == 0)
		return COMMAND_DONE;
	fprintf(stderr, "sluice: stdout: %s\n", strerror(errno));
	return COMMAND_FAILED;
}

/* ---- the command ----------------------------------------------------------------------------------------------------------- */

/* Of all options; false when it has been complained about, or --help answered, with *exit_code. */
static bool read_options(const struct command *c, int argc, char **argv, struct staffing_workload *load, int *exit_code)
{
	/* clang-format off */
	const struct asked all[] = {
		{ 'u', "users", &load->users, false, 1, 1000000000, "1 to 1G, such as 100 or 4k" },
		{ 'r', "response", &load->response, true, CLOCK_MILLISECOND, CLOCK_DAY, "1ms to 1d, such as 8s" },
		{ 'i', "interval", &load->interval, true, CLOCK_MILLISECOND, CLOCK_DAY, "1ms to 1d, such as 30s" },
		{ 'I', "instances", &load->instances, false, 1, 10000, "1 to 10k" },
		{ 's', "streams-per-connection", &load->streams_per_connection, false, 1, 1000, "1 to 1000" },
		{ 'w', "workers", &load->workers, false, 1, CONFIG_WORKERS_MOST, "1 to 256" },
	};
	/* clang-format on */
	struct option options[ARRAY_LENGTH(all) + 2] = { { "help", no_argument, NULL, 'h' } };
	int option;

	for (size_t i = 0; i < ARRAY_LENGTH(all); i++)
		options[i + 1] = (struct option){ all[i].name, required_argument, NULL, all[i].letter };
	*exit_code = COMMAND_MISUSED;
	while ((option = command_option(c, argc, argv, options, exit_code)) >= 0)
		for (size_t i = 0; i < ARRAY_LENGTH(all); i++)
			if (all[i].letter == option && !take(c, &all[i], optarg))
				return false;
	if (option == -2)
		return false;
	for (size_t i = 0; i < ARRAY_LENGTH(all); i++) /* workers need not be told: this machine has cores */
		if (*all[i].value == 0 && all[i].value != &load->workers) {
			command_misused(c, "--%s is missing; allowed: %s", all[i].name, all[i].allowed);
			return false;
		}
	return true;
}

int command_pool_size(const struct command *c, int argc, char **argv)
{
	struct staffing_workload load = { .instances = 1, .streams_per_connection = 1 };
	struct staffing found;
	bool asks_workers;
	int code;

	if (!read_options(c, argc, argv, &load, &code))
		return code;
	if (optind != argc)
		return command_misused(c, "found \"%s\"; allowed: options alone", argv[optind]);
	asks_workers = load.workers > 0;
	if (!asks_workers)
		load.workers = config_cores();
	if (!judge(c, &load))
		return COMMAND_MISUSED;
	if (!staffing_of(&load, &found))
		return command_misused(
			c,
			"an instance would need more than %d connections, which is the most that pool.max allows; "
			"spread the load over more --instances",
			STAFFING_MOST);
	return print(&load, &found, asks_workers);
}
