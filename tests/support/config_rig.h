/* Configurations for tests: one that must be taken, one that must be refused in so many words. In both, the file's name is "t". */
#ifndef SLUICE_TEST_CONFIG_RIG_H
#define SLUICE_TEST_CONFIG_RIG_H

#include "lib/buf.h"
#include "svc/config.h"

/* What every configuration needs; the rest of a line may follow. */
#define CONFIG_RIG_UPSTREAMS                                                                                           \
	"upstreams: {u: {dialect: openai, default: true, endpoints: [{url: 'http://127.0.0.1:1'}]}}\n"

/* NUL-terminated in the buffer, which stays as it is when there was no error. */
const struct config *config_rig_parse(const char *text, struct buf *error);
/* The caller releases it. The test fails when it is refused or warned of. */
const struct config *config_rig_take(const char *text);
/* The test fails unless it was refused in these words (lines end in \n); told NULL: unless it was taken without any. */
void config_rig_judge(const char *text, const char *told);
struct config_rig_case {
	const char *text, *told;
};
void config_rig_judge_all(const struct config_rig_case *, size_t count);
#define CONFIG_RIG_JUDGE(cases) config_rig_judge_all(cases, ARRAY_LENGTH(cases))
/* The test fails unless it was taken, with these warnings. */
void config_rig_warn(const char *text, const char *told);

#endif
