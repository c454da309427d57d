/* Which addresses an upstream may have when the operator did not name a private host: those that are routed on the
 * public Internet. A name that an outsider controls may resolve to the cloud's metadata service (169.254.169.254) or
 * to a neighbour on the private network; the check stands behind the resolver, where no trick with names reaches.
 *
 * Source: the IANA special-purpose address registries (RFC 6890 and its updates). */
#include "lib/pool_internal.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

/* clang-format off */
static const struct { uint32_t network; unsigned bits; } refused4[] = {
	{ 0x00000000, 8 },  /* this network */
	{ 0x0a000000, 8 },  /* private */
	{ 0x64400000, 10 }, /* shared, carrier-grade NAT; a cloud's metadata lives here too */
	{ 0x7f000000, 8 },  /* loopback */
	{ 0xa9fe0000, 16 }, /* link-local, metadata */
	{ 0xac100000, 12 }, /* private */
	{ 0xc0000000, 24 }, /* protocol assignments */
	{ 0xc0000200, 24 }, /* documentation */
	{ 0xc0a80000, 16 }, /* private */
	{ 0xc6120000, 15 }, /* benchmarks */
	{ 0xc6336400, 24 }, /* documentation */
	{ 0xcb007100, 24 }, /* documentation */
	{ 0xe0000000, 3 },  /* multicast, reserved, broadcast */
};
static const struct { uint8_t prefix[12]; unsigned bits; } refused6[] = {
	{ { 0x01, 0x00 }, 64 },                         /* discard */
	{ { 0x20, 0x01, 0x00, 0x00 }, 23 },             /* protocol assignments, Teredo */
	{ { 0x20, 0x01, 0x0d, 0xb8 }, 32 },             /* documentation */
	{ { 0xfc }, 7 },                                /* unique local */
	{ { 0xfe, 0x80 }, 10 },                         /* link-local */
	{ { 0xfe, 0xc0 }, 10 },                         /* site-local */
	{ { 0xff }, 8 },                                /* multicast */
};
static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff }; /* ::ffff:a.b.c.d */
static const uint8_t nat64[12] = { 0x00, 0x64, 0xff, 0x9b };    /* 64:ff9b::a.b.c.d */
static const uint8_t compatible[12];                            /* ::a.b.c.d, with :: and ::1 */
/* clang-format on */

static bool is_public4(uint32_t address)
{
	for (size_t i = 0; i < ARRAY_LENGTH(refused4); i++)
		if (((address ^ refused4[i].network) >> (32 - refused4[i].bits)) == 0)
			return false;
	return true;
}

static bool same_prefix(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned bytes = bits / 8, rest = bits % 8;
	return memcmp(a, b, bytes) == 0 && (rest == 0 || ((a[bytes] ^ b[bytes]) >> (8 - rest)) == 0);
}

static bool is_public6(const uint8_t a[16])
{
	uint32_t embedded = (uint32_t)a[12] << 24 | (uint32_t)a[13] << 16 | (uint32_t)a[14] << 8 | a[15];
	if (memcmp(a, mapped, 12) == 0 || memcmp(a, nat64, 12) == 0)
		return is_public4(embedded);
	if (memcmp(a, compatible, 12) == 0)
		return false;
	if (a[0] == 0x20 && a[1] == 0x02) /* 6to4 carries its IPv4 address behind the prefix */
		return is_public4((uint32_t)a[2] << 24 | (uint32_t)a[3] << 16 | (uint32_t)a[4] << 8 | a[5]);
	for (size_t i = 0; i < ARRAY_LENGTH(refused6); i++)
		if (same_prefix(a, refused6[i].prefix, refused6[i].bits))
			return false;
	return true;
}

bool pool_address_is_public(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET)
		return is_public4(ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr));
	if (address->sa_family == AF_INET6)
		return is_public6(((const struct sockaddr_in6 *)address)->sin6_addr.s6_addr);
	return false;
}
