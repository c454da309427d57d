#include "tests/support/queue_faults.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/random.h"

static struct fault_proxy *proxy_of_one(struct queue_faults *f)
{
	return f->rig->worker[random_below(f->chance, (uint32_t)f->rig->workers)].proxy;
}

static void stop(struct queue_faults *f)
{
	redis_server_pause(f->rig->server);
}

static void forget_scripts(struct queue_faults *f)
{
	redis_server_do(f->rig->server, "SCRIPT FLUSH");
}

static void drop_replies(struct queue_faults *f)
{
	fault_proxy_tell(proxy_of_one(f), "drop-reply-every %u", 2 + random_below(f->chance, 20));
}

static void cut(struct queue_faults *f)
{
	fault_proxy_tell(proxy_of_one(f), "reset");
}

/* The command has run: so it is none of those that say that it has not. */
static void say_errors(struct queue_faults *f)
{
	fault_proxy_tell(proxy_of_one(f), "error-every %u ERR made up", 3 + random_below(f->chance, 10));
}

static void be_slow(struct queue_faults *f)
{
	fault_proxy_tell(proxy_of_one(f), "delay %u", 10 + random_below(f->chance, 100));
}

static void stall(struct queue_faults *f)
{
	fault_proxy_tell(proxy_of_one(f), "stall on");
}

static void fill_up(struct queue_faults *f)
{
	redis_server_do(f->rig->server, "CONFIG SET maxmemory 1");
}

static void follow_nobody(struct queue_faults *f)
{
	redis_server_do(f->rig->server, "REPLICAOF 127.0.0.1 1");
}

static void miss_replicas(struct queue_faults *f)
{
	redis_server_do(f->rig->server, "CONFIG SET min-replicas-to-write 1");
}

static void forbid_scripts(struct queue_faults *f)
{
	redis_server_do(f->rig->server, "ACL SETUSER default -evalsha");
}

static void end_listening(struct queue_faults *f)
{
	redis_server_do(f->rig->server, "CLIENT KILL TYPE pubsub");
}

static void end_connections(struct queue_faults *f)
{
	redis_server_do(f->rig->server, "CLIENT KILL TYPE normal");
}

static void reload(struct queue_faults *f)
{
	f->reloads++;
}

static void restart(struct queue_faults *f)
{
	redis_server_restart(f->rig->server);
}

static void forget_all(struct queue_faults *f)
{
	redis_server_do(f->rig->server, "FLUSHALL");
}

static const char *some_key(struct queue_faults *f)
{
	static const char *const keys[] = {
		"sluice:{u:gem}:w",  "sluice:{u:gem}:f",  "sluice:{m:m0}:w",     "sluice:{m:m0}:f",
		"sluice:{u:gem}:l",  "sluice:{m:m0}:l",   "sluice:{u:gem}:q",    "sluice:{m:m1}:q",
		"sluice:{t:acme}:q", "sluice:{t:acme}:l", "sluice:{m:m0}:s:tpm",
	};
	return keys[random_below(f->chance, ARRAY_LENGTH(keys))];
}

static void forget_one(struct queue_faults *f)
{
	redis_server_do(f->rig->server, "DEL %s", some_key(f));
}

static void spoil_one(struct queue_faults *f)
{
	redis_server_do(f->rig->server, "SET %s rubbish PX %u", some_key(f), (unsigned)(f->lasts / CLOCK_MILLISECOND));
}

static const struct fault {
	const char *name;
	void (*begin)(struct queue_faults *);
} faults[] = {
	{ "stop", stop },
	{ "forget scripts", forget_scripts },
	{ "drop replies", drop_replies },
	{ "cut", cut },
	{ "errors", say_errors },
	{ "slow", be_slow },
	{ "stall", stall },
	{ "full", fill_up },
	{ "replica", follow_nobody },
	{ "no replicas", miss_replicas },
	{ "forbid scripts", forbid_scripts },
	{ "deaf", end_listening },
	{ "connections", end_connections },
	{ "reload", reload },
	/* These lose what Redis knows. */
	{ "restart", restart },
	{ "forget all", forget_all },
	{ "forget one", forget_one },
	{ "forget one", forget_one },
	{ "spoil one", spoil_one },
	{ "spoil one", spoil_one },
};
_Static_assert(ARRAY_LENGTH(faults) <= QUEUE_FAULTS_MOST, "each has a place in the order");
enum { FAULTS = ARRAY_LENGTH(faults), HARMLESS = FAULTS - 6 };

static void heal(struct queue_faults *f)
{
	redis_server_resume(f->rig->server);
	for (int i = 0; i < f->rig->workers; i++) {
		fault_proxy_tell(f->rig->worker[i].proxy, "drop-reply-every 0");
		fault_proxy_tell(f->rig->worker[i].proxy, "error-every 0");
		fault_proxy_tell(f->rig->worker[i].proxy, "delay 0");
		fault_proxy_tell(f->rig->worker[i].proxy, "stall off");
	}
	redis_server_do(f->rig->server, "CONFIG SET maxmemory 0");
	redis_server_do(f->rig->server, "REPLICAOF NO ONE");
	redis_server_do(f->rig->server, "CONFIG SET min-replicas-to-write 0");
	redis_server_do(f->rig->server, "ACL SETUSER default +evalsha");
}

static const struct fault *draw(struct queue_faults *f)
{
	size_t kinds = f->severity == QUEUE_FAULTS_ALL ? FAULTS : HARMLESS;

	for (size_t i = 0; f->drawn == 0 && i < kinds; i++) {
		size_t k = random_below(f->chance, (uint32_t)i + 1);
		f->order[i] = f->order[k];
		f->order[k] = i;
	}
	size_t which = f->order[f->drawn];
	f->drawn = (f->drawn + 1) % kinds;
	return &faults[which];
}

void queue_faults_turn(struct queue_faults *f, bool more)
{
	if (f->severity == QUEUE_FAULTS_NONE || !(more || f->on) || clock_now() < f->next)
		return;
	f->on = !f->on;
	if (f->on) {
		const struct fault *fault = draw(f);
		f->lasts = (20 + (int64_t)random_below(f->chance, 400)) * CLOCK_MILLISECOND;
		print_message("%s, ", fault->name);
		fault->begin(f);
		f->next = clock_now() + f->lasts;
	} else {
		heal(f);
		f->next = clock_now() + (50 + (int64_t)random_below(f->chance, 150)) * CLOCK_MILLISECOND;
	}
}
