/* The fault proxy as a program, for tests that drive ours from outside. Commands come on standard input, answers go to standard
 * output; the first line says where it listens. It ends with its input. */
#include "tests/support/fault_proxy.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static int usage(void)
{
	fprintf(stderr, "usage: fault-proxy --listen ADDRESS --connect ADDRESS [--COMMAND VALUE …]\n"
			"  ADDRESS    unix:/path or tcp:127.0.0.1:port (0: any)\n"
			"  --COMMAND  as on standard input: delay, slice, stall, refuse, cut-after, drop-reply-every, "
			"drop-pushes,\n"
			"             after-drop, error-every, skip\n"
			"  e.g. fault-proxy --listen unix:/tmp/p --connect unix:/tmp/redis --drop-reply-every 10\n");
	return 2;
}

/* The options as command lines in a pipe that is read before standard input: one way to set a fault, not two. */
static int feed(const char *commands, size_t len)
{
	int ends[2];
	if (pipe(ends) != 0)
		abort();
	if (fork() == 0) { /* copies: first the options, then what comes on standard input */
		char bytes[512];
		ssize_t got = (ssize_t)len;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ends[0]);
		if (len > 0 && write(ends[1], commands, len) != got)
			_exit(1);
		while ((got = read(0, bytes, sizeof(bytes))) > 0)
			if (write(ends[1], bytes, (size_t)got) != got)
				break;
		_exit(0);
	}
	close(ends[1]);
	return ends[0];
}

int main(int count, char **words)
{
	const char *listen_at = NULL, *target = NULL;
	char commands[1024] = "";
	size_t len = 0;
	int port;
	for (int i = 1; i + 1 < count; i += 2) {
		if (strncmp(words[i], "--", 2) != 0 || len > sizeof(commands) / 2 || strlen(words[i + 1]) > 256)
			return usage();
		if (strcmp(words[i], "--listen") == 0)
			listen_at = words[i + 1];
		else if (strcmp(words[i], "--connect") == 0)
			target = words[i + 1];
		else
			len += (size_t)snprintf(commands + len, sizeof(commands) - len, "%s %s\n", words[i] + 2,
						words[i + 1]);
	}
	if (listen_at == NULL || target == NULL || count % 2 == 0)
		return usage();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	int listener = fault_proxy_listen(listen_at, &port);
	if (port != 0)
		printf("listening tcp:127.0.0.1:%d\n", port);
	else
		printf("listening %s\n", listen_at);
	fflush(stdout);
	fault_proxy_run(listener, target, feed(commands, len), 1);
	if (port == 0)
		unlink(listen_at + 5);
	return 0;
}
