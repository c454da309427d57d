#include "tests/support/proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base.h"
#include "tests/support/port.h"

struct proxy {
	pid_t child;
	struct port port;
	char origin[64];
};

static bool is_listening(int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons((uint16_t)port),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(descriptor >= 0);
	bool up = connect(descriptor, (struct sockaddr *)&address, sizeof(address)) == 0;
	close(descriptor);
	return up;
}

static _Noreturn void run(const char *certificate, const char *key, int port, int backend_port, const char *option)
{
	char frontend[64], backend[64];
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(frontend, sizeof(frontend), "--frontend=127.0.0.1,%d", port);
	snprintf(backend, sizeof(backend), "--backend=127.0.0.1,%d", backend_port);
	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	execlp("nghttpx", "nghttpx", "--conf=/dev/null", "--workers=1", "--single-process",
	       "--backend-read-timeout=600s", frontend, backend, option != NULL ? option : "--no-ocsp", key,
	       certificate, (char *)NULL);
	_exit(127);
}

struct proxy *proxy_new_with(const char *certificate, const char *key, int backend_port, const char *option)
{
	struct proxy *proxy = calloc(1, sizeof(*proxy));
	CHECK(proxy != NULL);
	proxy->port = port_claim();
	int port = proxy->port.number;
	snprintf(proxy->origin, sizeof(proxy->origin), "https://127.0.0.1:%d", port);
	proxy->child = fork();
	CHECK(proxy->child >= 0);
	if (proxy->child == 0)
		run(certificate, key, port, backend_port, option);
	for (int tries = 0; !is_listening(port); tries++) {
		int status;
		CHECK(tries < 6000);
		if (waitpid(proxy->child, &status, WNOHANG) == proxy->child) {
			CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 127);
			port_release(&proxy->port);
			free(proxy);
			return NULL;
		}
		poll(NULL, 0, 10);
	}
	return proxy;
}

struct proxy *proxy_new(const char *certificate, const char *key, int backend_port)
{
	return proxy_new_with(certificate, key, backend_port, NULL);
}

void proxy_free(struct proxy **held)
{
	struct proxy *proxy = *held;
	*held = NULL;
	kill(proxy->child, SIGKILL);
	CHECK(waitpid(proxy->child, NULL, 0) == proxy->child);
	port_release(&proxy->port);
	free(proxy);
}

void proxy_silence(struct proxy *proxy, bool silent)
{
	int status;
	CHECK(kill(proxy->child, silent ? SIGSTOP : SIGCONT) == 0);
	CHECK(waitpid(proxy->child, &status, WUNTRACED | WCONTINUED) == proxy->child);
}

const char *proxy_origin(const struct proxy *proxy)
{
	return proxy->origin;
}
