#include "load_report.h"

#include <inttypes.h>
#include <sys/resource.h>

const char *report_error_name(enum load_error error)
{
#define LOAD_ERROR_NAME(name) #name,
	static const char *const names[] = { LOAD_ERRORS(LOAD_ERROR_NAME) };
#undef LOAD_ERROR_NAME
	return names[error];
}

static void print_counts(const struct report *r)
{
	const char *comma = "";
	printf("\"by_status\":{");
	for (unsigned i = 0; i < 600; i++) {
		if (r->by_status[i] == 0)
			continue;
		printf("%s\"%u\":%" PRIu64, comma, i, r->by_status[i]);
		comma = ",";
	}
	printf("},\"errors\":{");
	comma = "";
	for (int i = 0; i < LOAD_ERROR_COUNT; i++) {
		if (r->errors[i] == 0)
			continue;
		printf("%s\"%s\":%" PRIu64, comma, report_error_name((enum load_error)i), r->errors[i]);
		comma = ",";
	}
	printf("}");
}

static void print_series(const struct report *r)
{
	printf(",\"series\":[");
	for (size_t i = 0; i < r->series_len; i++) {
		const struct second *s = &r->series[i];
		printf("%s{\"second\":%zu,\"done\":%" PRIu64 ",\"ok\":%" PRIu64 ",\"errors\":%" PRIu64
		       ",\"mean_us\":%.1f,\"max_us\":%" PRId64 "}",
		       i == 0 ? "" : ",", i, s->done, s->ok, s->errors,
		       s->done > 0 ? (double)s->latency_sum / (double)s->done : 0.0, s->latency_max);
	}
	printf("]");
}

static void print_targets(const struct options *o)
{
	printf(",\"targets\":[");
	for (unsigned i = 0; i < o->target_count; i++)
		printf("%s{\"requests\":%" PRIu64 ",\"ok\":%" PRIu64 "}", i == 0 ? "" : ",", o->targets[i].requests,
		       o->targets[i].ok);
	printf("]");
}

static double cpu_seconds(void)
{
	struct rusage usage;
	if (getrusage(RUSAGE_SELF, &usage) != 0)
		return 0;
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

void report_print(const struct report *r, const struct options *o)
{
	double seconds = r->ended > r->began ? (double)(r->ended - r->began) / 1e6 : 0;
	printf("{\"requests\":%" PRIu64 ",\"completed\":%" PRIu64 ",", r->started, r->completed);
	print_counts(r);
	printf(",\"began_us\":%" PRId64 ",\"seconds\":%.6f,\"rate\":%.1f,\"latency_us\":", r->began, seconds,
	       seconds > 0 ? (double)r->completed / seconds : 0.0);
	histogram_print(&r->latency);
	printf(",\"ok_latency_us\":");
	histogram_print(&r->ok_latency);
	printf(",\"first_byte_us\":");
	histogram_print(&r->first_byte);
	printf(",\"bytes_in\":%" PRIu64 ",\"body_bytes\":%" PRIu64 ",\"bytes_out\":%" PRIu64
	       ",\"connections_opened\":%" PRIu64 ",\"late\":%" PRIu64 ",\"cpu_seconds\":%.3f",
	       r->bytes_in, r->body_bytes, r->bytes_out, r->opened, r->late, cpu_seconds());
	print_targets(o);
	if (r->series != NULL)
		print_series(r);
	printf("}\n");
}
