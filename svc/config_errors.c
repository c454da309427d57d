/* What is wrong with a configuration, kept until all of it is known, then told in the order of the lines: rows are read in the table's order, and what belongs
 * together is judged behind them, so the order of finding would jump about in the file.
 *
 * A name in a file may hold anything; a line of ours is one line. */
#include <stdarg.h>
#include <stdio.h>

#include "svc/config_internal.h"

enum { TEXT_MOST = 600 };

static void keep(struct config_findings *findings, int line, const char *path, const char *format, va_list values)
{
	struct config_finding *finding;
	char text[TEXT_MOST];

	if (++findings->count > CONFIG_COMPLAINTS)
		return;
	vsnprintf(text, sizeof(text), format, values);
	finding = &findings->kept[findings->count - 1];
	*finding = (struct config_finding){ line, mem_text(slice_of(path)), mem_text(slice_of(text)) };
}

void config_complain(struct config_errors *errors, int line, const char *path, const char *format, ...)
{
	va_list values;

	va_start(values, format);
	keep(&errors->mistakes, line, path, format, values);
	va_end(values);
}

void config_warn(struct config_errors *errors, int line, const char *path, const char *format, ...)
{
	va_list values;

	va_start(values, format);
	keep(&errors->warnings, line, path, format, values);
	va_end(values);
}

static int count_kept(const struct config_findings *findings)
{
	return findings->count < CONFIG_COMPLAINTS ? findings->count : CONFIG_COMPLAINTS;
}

bool config_is_wrong(const struct config_errors *errors, int first, struct slice path, int from, int to)
{
	for (int i = 0; i < first && i < count_kept(&errors->mistakes); i++) {
		const struct config_finding *finding = &errors->mistakes.kept[i];
		struct slice found = slice_of(finding->path);
		if (finding->line >= from && finding->line <= to && slice_starts(found, path) &&
		    (found.len == path.len || found.data[path.len] == '.' || found.data[path.len] == '['))
			return true;
	}
	return false;
}

/* There are few, and those of one line keep their order. */
static void sort(struct config_findings *findings)
{
	for (int i = 1; i < count_kept(findings); i++) {
		struct config_finding finding = findings->kept[i];
		int at = i;
		for (; at > 0 && findings->kept[at - 1].line > finding.line; at--)
			findings->kept[at] = findings->kept[at - 1];
		findings->kept[at] = finding;
	}
}

static void append_clean(struct buf *out, const char *text)
{
	for (; *text != '\0'; text++)
		buf_append_byte(out, (unsigned char)*text < 0x20 || *text == 0x7F ? '?' : *text);
}

static void tell(struct config_findings *findings, const char *file, struct buf *out)
{
	sort(findings);
	for (int i = 0; i < count_kept(findings); i++) {
		const struct config_finding *finding = &findings->kept[i];
		buf_format(out, "%s:%d: ", file, finding->line);
		append_clean(out, finding->path);
		buf_append(out, finding->path[0] != '\0' ? SLICE(": ") : SLICE(""));
		append_clean(out, finding->text);
		buf_append_byte(out, '\n');
	}
}

void config_errors_tell(struct config_errors *errors, struct buf *out)
{
	int more = errors->mistakes.count - CONFIG_COMPLAINTS;

	tell(errors->mistakes.count > 0 ? &errors->mistakes : &errors->warnings, errors->file, out);
	if (more > 0)
		buf_format(out, "%s: %d more mistake%s\n", errors->file, more, more > 1 ? "s" : "");
}

static void forget(struct config_findings *findings)
{
	for (int i = 0; i < count_kept(findings); i++) {
		mem_free(findings->kept[i].path);
		mem_free(findings->kept[i].text);
	}
}

void config_errors_free(struct config_errors *errors)
{
	forget(&errors->mistakes);
	forget(&errors->warnings);
}
