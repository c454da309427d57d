/* Runs the table of flow.c. The three promises of the flow are asserted here: the edge is in the table, the answer is the awaited one, no stage runs inside
 * another. */
#include "svc/flow_internal.h"

#include "lib/clock.h"

enum stage flow_await(struct request *r, const void *awaited)
{
	r->waiting = awaited;
	return STAGE_wait;
}

enum stage flow_refuse(struct request *r, enum refusal why)
{
	r->refusal = why;
	return STAGE_settle;
}

static void observe_stage(struct worker *w, unsigned stage, int64_t took)
{
	struct metrics_series **series = &w->stage_seconds[stage];
	struct slice name = slice_of(flow_table[stage].name);

	_Static_assert(STAGE_end <= ARRAY_LENGTH(w->stage_seconds), "a place for each stage");
	if (*series == NULL)
		*series = metrics_series(w->metrics, METRIC_stage_seconds, &name);
	metrics_observe(*series, took);
}

static void leave(struct request *r)
{
	int64_t now = clock_now();

	if (flow_table[r->stage].ours)
		r->took.ours += now - r->entered;
	observe_stage(r->worker, r->stage, now - r->entered);
	r->entered = now;
}

static void enter(struct request *r, enum stage next)
{
	r->stage = next;
	r->stage_name = flow_table[next].name;
	base_note(r->stage_name, r->id);
}

/* Runs stages until one waits or the last has ended. */
static void advance(struct request *r, enum stage next)
{
	while (next != STAGE_wait) {
		CHECK(flow_table[r->stage].edges & (1u << next));
		leave(r);
		if (next == STAGE_end) {
			request_report(r);
			loop_defer(r->worker->loop, &r->burial);
			break;
		}
		enter(r, next);
		next = flow_table[next].begin(r);
	}
	CHECK(next == STAGE_end || (r->waiting != NULL && flow_table[r->stage].done != NULL));
	r->running = false;
	base_note(NULL, NULL);
}

void flow_start(struct request *r, enum stage first)
{
	r->running = true;
	enter(r, first);
	advance(r, flow_table[first].begin(r));
}

void flow_resume(struct request *r, const void *answer)
{
	CHECK(!r->running && r->waiting == answer && answer != NULL);
	r->waiting = NULL;
	r->running = true;
	base_note(r->stage_name, r->id);
	advance(r, flow_table[r->stage].done(r));
}

/* The client, or who reads along in its place, has been told the end of its stream already: whatever ends the transfer behind it, the answer is whole. */
static bool is_told(struct request *r)
{
	bool is_for_others = r->left != REFUSAL_none || r->shared.refresh;

	if (r->meter == NULL || (r->exchange == NULL && !is_for_others))
		return false;
	meter_finish(r->meter, false, flow_share_bytes, r);
	meter_result(r->meter, &r->metered);
	return r->metered.ended;
}

void flow_abort(struct request *r, enum refusal why)
{
	CHECK(!r->running);
	if (r->waiting == NULL)
		return;
	r->waiting = NULL;
	r->running = true;
	base_note(r->stage_name, r->id);
	if (r->stage == STAGE_upstream)
		flow_note_called(r); /* who leaves has waited, too */
	advance(r, is_told(r) ? STAGE_settle : flow_refuse(r, why));
}

void flow_gauge(struct worker *w)
{
	double counts[STAGE_end] = { 0 };

	for (const struct list *node = w->requests.next; node != &w->requests; node = node->next)
		counts[CONTAINER_OF(node, struct request, node)->stage]++;
	for (size_t i = 0; i < STAGE_end; i++) {
		struct slice name = slice_of(flow_table[i].name);
		metrics_set(w->metrics, METRIC_in_flight, &name, counts[i]);
	}
}

void flow_write_graph(struct buf *out)
{
	buf_append(out, SLICE("digraph flow {\n  rankdir=LR;\n  node [shape=box];\n"));
	for (size_t i = 0; i < STAGE_end; i++)
		buf_format(out, "  %s [label=\"%s\\n%s\"];\n", flow_table[i].name, flow_table[i].name,
			   flow_table[i].text);
	for (size_t i = 0; i < STAGE_end; i++)
		for (size_t j = 0; j < STAGE_end; j++)
			if (flow_table[i].edges & (1u << j))
				buf_format(out, "  %s -> %s;\n", flow_table[i].name, flow_table[j].name);
	buf_append(out, SLICE("}\n"));
}
