/* What Rust cannot call: functions with va_list, and macros that are put together of strings. */
#include "wrapper.h"

#define LINE_BYTES 512

static lunette_spdk_line g_line;

static void
log_line(int level, const char *file, const int line, const char *func, const char *format, va_list args)
{
	char text[LINE_BYTES];
	int bytes = vsnprintf(text, sizeof(text), format, args);

	(void)file;
	(void)line;
	(void)func;
	if (bytes <= 0) {
		return;
	}
	/* One line, whatever it was. */
	for (char *end = text + strlen(text); end > text && end[-1] == '\n'; end--) {
		end[-1] = '\0';
	}
	for (char *at = text; *at != '\0'; at++) {
		if (iscntrl((unsigned char)*at)) {
			*at = ' ';
		}
	}
	g_line(level, text);
}

void
lunette_spdk_log_to(lunette_spdk_line line)
{
	g_line = line;
	spdk_log_open(log_line);
}

const char *
lunette_spdk_version(void)
{
	return SPDK_VERSION_STRING;
}
