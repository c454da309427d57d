/* A TCP port of 127.0.0.1 for a program that cannot be told to take any: free, and nobody else's until it is given back.
 *
 * The kernel gives ports of net.ipv4.ip_local_port_range to whoever connects or binds port 0, at any time; one that was
 * found free there may be taken before its server starts, or while it is restarted. So it is looked for below that range,
 * and claimed among tests by an abstract unix socket, "\0sluice-test-port-PORT", bound while it is in use: the kernel
 * gives a name once, and takes it back however the process ends. The tests in Python claim theirs the same way, with a
 * datagram socket as well: each type of socket has names of its own.
 *
 * Disadvantage: who is no test of ours and picks a port below that range is not kept away. */
#ifndef SLUICE_TESTS_PORT_H
#define SLUICE_TESTS_PORT_H

struct port {
	int number;
	int claim; /* a descriptor */
};

/* Ends the test when there is none. */
struct port port_claim(void);
/* Once the server is gone. Of a port that was never claimed ({ 0 }) it does nothing. */
void port_release(struct port *);

#endif
