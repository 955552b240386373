// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * config.h - options and configuration file into one validated structure.
 *
 * May read the configuration file and look users and groups up; creates and
 * removes nothing.
 */
#ifndef DAEMON_CONFIG_H
#define DAEMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/compiler.h"
#include "base/log.h"
#include "confine/sandbox.h"
#include "host/host.h"

#define CONFIG_PROGRAM "vhost-device-vsock"

#define CONFIG_DEFAULT_GUEST_CID 3u
#define CONFIG_MIN_GUEST_CID 3u          /* 0 to 2 are hypervisor, local and host */
#define CONFIG_MAX_GUEST_CID 4294967294u /* 2^32-1 is VMADDR_CID_ANY */
#define CONFIG_DEFAULT_TX_BUFFER_SIZE (256u * 1024u)
/* One page: a smaller window would cost a credit update for almost every packet. */
#define CONFIG_MIN_TX_BUFFER_SIZE 4096u
/* What one stalled connection may make us hold; far above what a guest ever uses. */
#define CONFIG_MAX_TX_BUFFER_SIZE (64u * 1024u * 1024u)
#define CONFIG_DEFAULT_QUEUE_SIZE 1024u
#define CONFIG_MAX_QUEUE_SIZE 32768u /* virtio's own limit */
#define CONFIG_MAX_CONNECTIONS 65536u
#define CONFIG_DEFAULT_MAX_HALF_OPEN 4096u
#define CONFIG_DEFAULT_MAX_BUFFERED (256u * 1024u * 1024u)
#define CONFIG_DEFAULT_TOTAL_BUFFERED (1024u * 1024u * 1024u)
#define CONFIG_MAX_BUFFERED 4294967295u
#define CONFIG_MAX_TOTAL_CONNECTIONS 16777216u
#define CONFIG_MAX_LOG_RATE 1000000u
#define CONFIG_DEFAULT_GROUP "default"
#define CONFIG_MAX_THREADS 256u
#define CONFIG_MAX_VMS 4096u
#define CONFIG_MAX_LIST 1024 /* ports or groups of one VM */
#define CONFIG_MAX_UIDS 64u  /* of --allow-uid */
#define CONFIG_MAX_FILE_BYTES (1024u * 1024u)

/** One guest and its sockets. */
struct vm_config {
	uint32_t guest_cid;   /* unique among the VMs */
	char *socket;         /* where the VMM connects; fits sun_path, no other path's */
	char *uds_path;       /* host side, "_PORT" still fits; NULL in forward mode */
	uint32_t forward_cid; /* AF_VSOCK CID guest connections go to; 0 if uds_path */
	struct forward_port *forward_listen; /* carried into the guest, each port once */
	size_t forward_listen_count;
	uint32_t tx_buffer_size; /* window given to the guest per connection, bytes */
	uint32_t queue_size;     /* largest ring accepted, entries; a power of two */
	uint32_t max_connections;
	uint32_t max_half_open; /* of these, from each side */
	uint32_t max_buffered;  /* bytes of the guest that nobody has taken yet */
	char **groups;          /* never empty after validation */
	size_t group_count;
};

/** What protects the host; by option only. */
struct security_config {
	enum sandbox_mode sandbox;
	uid_t user;         /* (uid_t)-1: as started */
	gid_t group;        /* (gid_t)-1: the user's own, or as started */
	gid_t socket_group; /* (gid_t)-1: none given */
	int socket_mode;    /* -1: what the umask leaves */
	uid_t allow_uids[CONFIG_MAX_UIDS];
	size_t allow_uid_count; /* 0: no check */
};

/** Everything the daemon was told; immutable after config_load(). */
struct config {
	struct vm_config *vms;
	size_t vm_count;  /* >= 1 */
	uint32_t threads; /* workers: 1 to min(CPUs or as given, vm_count) */
	enum log_level log_level;
	uint32_t log_rate;          /* lines per second and object */
	uint32_t total_connections; /* 0: as many as there are descriptors for */
	uint32_t total_buffered;    /* bytes */
	struct security_config security;
	const char *file; /* of --config, or NULL; lives as long as argv */
};

enum config_result {
	CONFIG_RUN,   /* @config is filled: serve */
	CONFIG_DONE,  /* --help or --version was printed: exit 0 */
	CONFIG_ERROR, /* one line was printed to @err: exit 2 */
};

/**
 * config_load() - Parse the command line and, if named, the file
 * @config: output; empty unless CONFIG_RUN; release with config_free()
 * @argc:   as main() got it; argv[0] is not looked at
 * @argv:   as main() got it; not modified
 * @out:    where --help and --version go
 * @err:    where the one line about an error goes
 *
 * The line has the form "vhost-device-vsock: WHERE: 'VALUE': expected ...",
 * WHERE being "--option", "--vm N: key" or "FILE:LINE: key"; what the operator
 * wrote is escaped, so it is one line whatever the input was.
 *
 * Return: see enum config_result
 * Context: start-up, before other threads exist; blocks only on reading the
 *          file (which may be a pipe)
 */
enum config_result config_load(struct config *config, int argc, char **argv, FILE *out, FILE *err)
	must_use;

/** Free what config_load() allocated and empty @config; legal on an empty one. */
void config_free(struct config *config);

/** Whether two guests share a group; both validated. */
bool config_share_group(const struct vm_config *a, const struct vm_config *b) must_use;

#endif
