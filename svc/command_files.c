/* How many files the process may open, and what of a configuration needs more: `serve` refuses it, `check` warns of it. */
#include <sys/resource.h>

#include "lib/buf.h"
#include "svc/command.h"
#include "svc/config.h"

int64_t command_files_allowed(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > INT64_MAX)
		return INT64_MAX;
	return (int64_t)limit.rlim_cur;
}

void command_raise_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit); /* else it is what it was: the checks say so */
}

/* Each connection that is kept is for a call, whose client needs one too. With more than half of the files kept nobody could call, nor ask how it is. */
bool command_may_keep(const struct config *config, struct buf *error)
{
	int64_t kept = config_kept(config), allowed = command_files_allowed();

	if (kept <= allowed / 2)
		return true;
	buf_format(error,
		   "the upstreams' pool.min keep %lld connections open, and the process may open %lld files, of which "
		   "clients need half: raise `ulimit -n` to %lld or lower pool.min\n",
		   (long long)kept, (long long)allowed, 2 * (long long)kept);
	return false;
}
