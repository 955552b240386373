// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * endpoint.c - where to serve metrics: a Unix socket or the loopback
 * interface, nothing else. Looks up no name.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "config/private.h"

#define MAX_HOST_BYTES 46u

static int parse_unix(struct config_endpoint *endpoint, const char *path)
{
	size_t len = strlen(path);

	if (len == 0 || len >= sizeof(endpoint->un.sun_path))
		return -EINVAL;
	endpoint->un.sun_family = AF_UNIX;
	memcpy(endpoint->un.sun_path, path, len + 1);
	endpoint->length = sizeof(endpoint->un);
	return 0;
}

/* A port: digits only, 1 to 65535. Return: 0 if it is none. */
static uint16_t parse_port(const char *text)
{
	size_t digits = strspn(text, "0123456789");
	unsigned long port = digits > 0 && digits <= 5 ? strtoul(text, NULL, 10) : 0;

	return text[digits] == '\0' && port <= UINT16_MAX ? (uint16_t)port : 0;
}

static bool is_loopback(const struct config_endpoint *endpoint)
{
	if (endpoint->in.sin_family == AF_INET)
		return ntohl(endpoint->in.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	return IN6_IS_ADDR_LOOPBACK(&endpoint->in6.sin6_addr);
}

static int parse_host(struct config_endpoint *endpoint, const char *host, uint16_t port)
{
	size_t len = strlen(host);
	char inner[MAX_HOST_BYTES];

	if (inet_pton(AF_INET, host, &endpoint->in.sin_addr) == 1) {
		endpoint->in.sin_family = AF_INET;
		endpoint->in.sin_port = htons(port);
		endpoint->length = sizeof(endpoint->in);
	} else if (len > 2 && host[0] == '[' && host[len - 1] == ']') {
		memcpy(inner, host + 1, len - 2);
		inner[len - 2] = '\0';
		if (inet_pton(AF_INET6, inner, &endpoint->in6.sin6_addr) != 1)
			return -EINVAL;
		endpoint->in6.sin6_family = AF_INET6;
		endpoint->in6.sin6_port = htons(port);
		endpoint->length = sizeof(endpoint->in6);
	} else {
		return -EINVAL;
	}
	return is_loopback(endpoint) ? 0 : -EINVAL;
}

int config_parse_endpoint(struct config_endpoint *endpoint, const char *text)
{
	static const char unix_prefix[] = "unix:";
	const char *colon = strrchr(text, ':');
	char host[MAX_HOST_BYTES];
	size_t len = 0;

	*endpoint = (struct config_endpoint){ .length = 0 };
	if (strncmp(text, unix_prefix, strlen(unix_prefix)) == 0)
		return parse_unix(endpoint, text + strlen(unix_prefix));
	if (!colon || parse_port(colon + 1) == 0)
		return -EINVAL;
	len = (size_t)(colon - text);
	if (len >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, len);
	host[len] = '\0';
	return parse_host(endpoint, host, parse_port(colon + 1));
}

const char *config_endpoint_path(const char *text)
{
	struct config_endpoint endpoint;

	if (config_parse_endpoint(&endpoint, text) < 0 || endpoint.sa.sa_family != AF_UNIX)
		return NULL;
	return strchr(text, ':') + 1;
}

int config_set_endpoint(maybe_unused const struct config_key *key, void *field, const char *text)
{
	struct config_endpoint endpoint;
	char *copy = NULL;

	if (config_parse_endpoint(&endpoint, text))
		return -EINVAL;
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	*(char **)field = copy;
	return 0;
}
