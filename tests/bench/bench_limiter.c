/* What an admission costs: Redis' CPU per script call, its network included, and this process's CPU per admit and settle with 64 in
 * flight. Prints a table; judges nothing, for machines differ. Usage: bench_limiter [calls] */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "lib/limiter.h"
#include "tests/support/redis_rig.h"

#include <hiredis/hiredis.h>

#define AT_ONCE 64

struct bench {
	struct redis_rig rig;
	struct limiter *limiter;
	const struct limits *limits[LIMITER_SCOPES];
	int64_t reserved, used;
	unsigned wanted, started, answered;
};
struct attempt {
	struct bench *bench;
	struct lease *lease;
};

static int64_t own_cpu(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * CLOCK_SECOND + usage.ru_utime.tv_usec +
	       usage.ru_stime.tv_usec;
}

static void begin_attempt(struct attempt *);

static void on_answer(struct lease *lease, void *arg, const struct limiter_answer *answer)
{
	struct attempt *attempt = arg;
	(void)lease;
	(void)answer;
	attempt->bench->answered++;
	limiter_settle(&attempt->lease, &(struct limiter_used){ .tokens = attempt->bench->used });
	begin_attempt(attempt);
}

static void begin_attempt(struct attempt *attempt)
{
	struct bench *bench = attempt->bench;
	char id[32];
	static unsigned ids;
	ids++;
	if (bench->started == bench->wanted)
		return;
	bench->started++;
	struct limiter_ask ask = { .id = slice_make(id, (size_t)snprintf(id, sizeof id, "%08x%08x.1", ids,
									 ids * 2654435761u)),
				   .tokens = bench->reserved };
	static const char *const names[LIMITER_SCOPES] = { "acme", "gemini-2.5-pro", "gemini" };
	for (int s = 0; s < LIMITER_SCOPES; s++) {
		ask.scope[s].name = slice_of(names[s]);
		ask.scope[s].limits = bench->limits[s];
		ask.scope[s].requests = 1;
	}
	attempt->lease = limiter_admit(bench->limiter, &ask, on_answer, attempt);
}

/* CPU that the server has used, user and system, in microseconds: unlike usec_per_call it does not count waiting for a core. */
static double redis_cpu(struct bench *bench)
{
	struct redisReply *info = redis_server_command(bench->rig.server, "INFO cpu");
	const char *user = strstr(info->str, "used_cpu_user:"), *system = strstr(info->str, "used_cpu_sys:");
	double used = 0;
	if (user != NULL && system != NULL)
		used = strtod(user + strlen("used_cpu_user:"), NULL) + strtod(system + strlen("used_cpu_sys:"), NULL);
	freeReplyObject(info);
	return used * 1e6;
}

static void measure(struct bench *bench, const char *what, int64_t reserved, int64_t used, const struct limits *t,
		    const struct limits *m, const struct limits *u, unsigned calls)
{
	static struct attempt attempt[AT_ONCE];
	bench->limits[LIMITER_TENANT] = t;
	bench->limits[LIMITER_MODEL] = m;
	bench->limits[LIMITER_UPSTREAM] = u;
	bench->reserved = reserved;
	bench->used = used;
	bench->started = bench->answered = 0;
	bench->wanted = calls;
	redis_server_do(bench->rig.server, "FLUSHALL");
	struct limiter_counts before = *limiter_counts(bench->limiter);
	double server = redis_cpu(bench);
	int64_t cpu = own_cpu(), time = clock_now();
	for (int i = 0; i < AT_ONCE; i++) {
		attempt[i].bench = bench;
		begin_attempt(&attempt[i]);
	}
	while (bench->answered < calls || limiter_unsettled(bench->limiter) > 0)
		loop_turn(bench->rig.loop, true);
	cpu = own_cpu() - cpu;
	time = clock_now() - time;
	server = redis_cpu(bench) - server;
	const struct limiter_counts *after = limiter_counts(bench->limiter);
	unsigned scripts = calls + (unsigned)(after->settled - before.settled);
	printf("%-46s %8.1f %10.2f %9.0f   %llu denied\n", what, server / scripts, (double)cpu / scripts,
	       (double)scripts / ((double)time / 1e6), (unsigned long long)(after->denied - before.denied));
}

int main(int argc, char **argv)
{
	struct bench bench = { 0 };
	unsigned calls = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 20000;
	struct limits bucket = { .of[LIMIT_rpm] = { .count = 100000000, .burst = 100000000 } };
	struct limits small = { .of[LIMIT_rpm] = { .count = 100000000, .burst = 100000000 },
				.of[LIMIT_tpm] = { .count = 1000000000, .burst = 1000000000 } };
	struct limits tenant = { .of[LIMIT_rpm] = { .count = 100000000, .burst = 100000000 },
				 .of[LIMIT_tpm] = { .count = 1000000000, .burst = 1000000000 },
				 .of[LIMIT_concurrency] = { .count = 1000 } };
	struct limits provider = { .of[LIMIT_rpm] = { .count = 60000000, .strict = true },
				   .of[LIMIT_tpm] = { .count = 1000000000, .strict = true },
				   .of[LIMIT_concurrency] = { .count = 1000 } };
	struct limits full = { .of[LIMIT_rpd] = { .count = 1, .burst = 1 } };
	redis_rig_begin(&bench.rig, NULL);
	bench.limiter =
		limiter_new(bench.rig.loop, bench.rig.redis,
			    &(struct limiter_options){ .timeout = RIG_TIMEOUT, .lease = 10 * CLOCK_SECOND }, NULL);
	redis_rig_until_up(&bench.rig);
	printf("%-46s %8s %10s %9s\n", "per script call", "Redis us", "own CPU us", "calls/s");
	measure(&bench, "three buckets and a lease, used as reserved", 0, 0, &bucket, &bucket, &bucket, calls);
	measure(&bench, "tenant: rpm tpm; model, upstream: rpm; refund", 500, 300, &small, &bucket, &bucket, calls);
	measure(&bench, "tenant: rpm tpm concurrency, refund", 500, 300, &tenant, NULL, NULL, calls);
	measure(&bench, "the same, model and upstream strict, refund", 500, 300, &tenant, &provider, &provider, calls);
	measure(&bench, "denied by the first of three", 0, 0, &full, &bucket, &bucket, calls);
	limiter_free(&bench.limiter);
	redis_rig_end(&bench.rig);
	return 0;
}
