#include "svc/staffing.h"

#include <math.h>

/* Erlang C from Erlang B, the chance that all places are in use where nobody waits. */
static double waiting_of(double offered, int64_t places, double blocked)
{
	double free_share = 1 - offered / (double)places;

	return free_share <= 0 ? 1 : blocked / (free_share + (1 - free_share) * blocked);
}

/* Erlang B, from one place fewer: the usual recursion, in which nothing overflows. */
static double next_blocked(double offered, int64_t places, double blocked)
{
	return offered * blocked / ((double)places + offered * blocked);
}

double staffing_waiting(double offered, int64_t places)
{
	double blocked = 1;

	for (int64_t n = 1; n <= places; n++)
		blocked = next_blocked(offered, n, blocked);
	return waiting_of(offered, places, blocked);
}

/* The fewest places with which at most STAFFING_WAITING wait; `most` when so many are not enough. */
static int64_t places_for(double offered, int64_t most, double *waiting)
{
	double blocked = 1;

	for (int64_t n = 1; n < most; n++) {
		blocked = next_blocked(offered, n, blocked);
		*waiting = waiting_of(offered, n, blocked);
		if (*waiting <= STAFFING_WAITING)
			return n;
	}
	*waiting = 0;
	return most;
}

static int64_t carry(int64_t calls, int64_t streams)
{
	return calls / streams + (calls % streams != 0);
}

/* One for each worker at least: another's would have to be closed first. */
static int64_t connections_for(int64_t calls, const struct staffing_workload *load)
{
	int64_t others = load->streams_per_connection > 1 ? load->workers - 1 : 0;

	return others + carry(calls > others ? calls - others : 1, load->streams_per_connection);
}

/* Those that are always in use: the workers are, alike, as far as there are calls for them. */
static int64_t warm_of(double calls, const struct staffing_workload *load)
{
	int64_t all = (int64_t)ceil(calls);
	int64_t workers = load->streams_per_connection == 1 ? 1 : all < load->workers ? all : load->workers;

	return workers * (int64_t)ceil(calls / (double)(workers * load->streams_per_connection));
}

bool staffing_of(const struct staffing_workload *load, struct staffing *found)
{
	int64_t streams = load->streams_per_connection, most = STAFFING_MOST * streams + 1;

	found->rate = (double)load->users * 1e6 / (double)load->interval;
	found->offered =
		(double)load->users * (double)load->response / (double)load->interval; /* whole numbers stay whole */
	found->share = found->offered / (double)load->instances;
	found->calls = places_for(found->share, load->users < most ? load->users : most, &found->waiting);
	if (found->calls == most)
		return false;
	found->most = connections_for(found->calls, load);
	found->warm = warm_of(found->share, load);
	if (found->warm > found->most)
		found->warm = found->most;
	return found->most <= STAFFING_MOST;
}
