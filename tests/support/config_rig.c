#include "tests/support/config_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { ERRORS_MOST = 1 << 20 };

const struct config *config_rig_parse(const char *text, struct buf *error)
{
	const struct config *config;

	buf_init(error, ERRORS_MOST);
	config = config_parse("t", slice_of(text), error);
	buf_append_byte(error, '\0');
	if (config == NULL && error->len == 1)
		fail_msg("refused without a word: %s", text);
	return config;
}

const struct config *config_rig_take(const char *text)
{
	struct buf error;
	const struct config *config = config_rig_parse(text, &error);

	if (config == NULL || error.len > 1)
		fail_msg("%s: %s\n%s", config == NULL ? "refused" : "warned", error.data, text);
	buf_free(&error);
	return config;
}

void config_rig_judge(const char *text, const char *told)
{
	struct buf error;
	const struct config *config = config_rig_parse(text, &error);

	if (strcmp(error.data, told != NULL ? told : "") != 0 || (told == NULL) != (config != NULL))
		fail_msg("\n%s\nexpected: %s\ntold:     %s", text, told != NULL ? told : "nothing", error.data);
	config_release(&config);
	buf_free(&error);
}

void config_rig_judge_all(const struct config_rig_case *cases, size_t count)
{
	for (size_t i = 0; i < count; i++)
		config_rig_judge(cases[i].text, cases[i].told);
}

void config_rig_warn(const char *text, const char *told)
{
	struct buf error;
	const struct config *config = config_rig_parse(text, &error);

	if (config == NULL || strcmp(error.data, told) != 0)
		fail_msg("\n%s\n%s\nexpected: %s\ntold:     %s", text, config == NULL ? "refused" : "taken", told,
			 error.data);
	config_release(&config);
	buf_free(&error);
}
