#include "tests/flow/world/torture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

void torture(const struct world_scenario *s, torture_judge *judge, const void *arg, int came[WORLD_FAULT_COUNT])
{
	struct world_outcome o;

	world_run(s, WORLD_none, 0, &o);
	judge(arg, WORLD_none, &o);
	for (enum world_fault fault = WORLD_client_gone; fault < WORLD_FAULT_COUNT; fault++) {
		for (int at = 0; world_run(s, fault, at, &o), o.fault_came; at = o.fault_step + 1) {
			o.hit_twin &= !o.waited_on;
			judge(arg, o.waited_on ? WORLD_none : fault, &o);
			came[fault]++;
		}
	}
}

static bool is_among(enum world_fault fault, const enum world_fault *faults)
{
	for (; *faults != WORLD_none; faults++)
		if (*faults == fault)
			return true;
	return false;
}

void torture_report(const int came[WORLD_FAULT_COUNT], const enum world_fault *but)
{
	for (enum world_fault fault = WORLD_client_gone; fault < WORLD_FAULT_COUNT; fault++) {
		print_message("%s: at %d steps\n", world_fault_name(fault), came[fault]);
		assert_true((came[fault] > 0) != is_among(fault, but));
	}
}

const char *torture_outcome(enum world_fault fault)
{
	switch (fault) {
	case WORLD_client_gone:
	case WORLD_client_stalled:
		return "client_gone";
	case WORLD_drain:
		return "draining";
	case WORLD_deadline:
		return "deadline";
	case WORLD_lease_lost:
	case WORLD_unavailable:
		return "quota_unavailable";
	case WORLD_body_fault:
		return "invalid_request";
	case WORLD_denied:
	case WORLD_late:
		return "rate_limited";
	case WORLD_full:
		return "queue_full";
	case WORLD_never:
		return "exceeds_limit";
	case WORLD_no_slot:
		return "upstream_busy";
	case WORLD_connect_failed:
	case WORLD_tls_failed:
		return "upstream_unreachable";
	case WORLD_reset_unsent:
	case WORLD_reset:
	case WORLD_truncated:
		return "upstream_broken";
	case WORLD_garbage:
	case WORLD_bad_head:
		return "upstream_invalid";
	case WORLD_first_byte_timeout:
	case WORLD_idle_timeout:
	case WORLD_total_timeout:
		return "upstream_timeout";
	case WORLD_no_ticket:
	case WORLD_none:
	case WORLD_lookup_unavailable:
	case WORLD_flight_lost:
	case WORLD_FAULT_COUNT:
		break;
	}
	return NULL;
}

bool torture_is_upstreams(enum world_fault fault)
{
	return fault >= WORLD_no_slot && fault <= WORLD_bad_head;
}

bool torture_spares_all(enum world_fault fault)
{
	return fault == WORLD_body_fault || fault == WORLD_denied || fault == WORLD_full || fault == WORLD_late ||
	       fault == WORLD_never || fault == WORLD_unavailable || fault == WORLD_no_slot ||
	       fault == WORLD_connect_failed || fault == WORLD_tls_failed || fault == WORLD_reset_unsent;
}

bool torture_is_told(const struct world_scenario *s, enum world_fault fault, const struct world_outcome *o)
{
	int pieces = 0;

	while (pieces < WORLD_PIECES && s->pieces[pieces] != NULL)
		pieces++;
	return s->marked && o->pieces == pieces && fault != WORLD_client_gone && fault != WORLD_client_stalled;
}
