// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * config.h - options and configuration file into one validated structure.
 *
 * May read the configuration file and look users and groups up; creates and
 * removes nothing.
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/compiler.h"
#include "base/log.h"
#include "confine/sandbox.h"
#include "host/host.h"

#define CONFIG_PROGRAM "vhost-device-vsock"
/* Where tools look for the control socket when nobody says otherwise: below /run for
 * root, below $XDG_RUNTIME_DIR for others. */
#define CONFIG_DEFAULT_CONTROL "vhost-device-vsock/control.sock"

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
#define CONFIG_MIN_RATE 65536u /* a packet of any size passes within a second */
#define CONFIG_MAX_CONN_RATE 1000000u
#define CONFIG_DEFAULT_GROUP "default"
#define CONFIG_MAX_THREADS 256u
#define CONFIG_MAX_POLL_US 1000u
#define CONFIG_MAX_VMS 4096u
#define CONFIG_MIN_FD 3u /* 0 to 2 are the standard streams */
#define CONFIG_MAX_FD 1048575u
#define CONFIG_MAX_LIST 1024 /* ports or groups of one VM */
#define CONFIG_MAX_UIDS 64u  /* of --allow-uid */
#define CONFIG_MAX_FILE_BYTES (1024u * 1024u)

/** One guest and its sockets. */
struct vm_config {
	uint32_t guest_cid;   /* unique among the VMs */
	char *socket;         /* of the VMM; fits sun_path, no other path's; NULL: by fd */
	bool dials;           /* the VMM listens at socket, and we connect */
	uint32_t fd;          /* the VMM's socket, from our parent; 0: none */
	char *uds_path;       /* host side, "_PORT" still fits; NULL in forward mode */
	uint32_t forward_cid; /* AF_VSOCK CID guest connections go to; 0 if uds_path */
	struct forward_port *forward_listen; /* carried into the guest, each port once */
	size_t forward_listen_count;
	uint32_t tx_buffer_size; /* window given to the guest per connection, bytes */
	uint32_t queue_size;     /* largest ring accepted, entries; a power of two */
	uint32_t max_connections;
	uint32_t max_half_open; /* of these, from each side */
	uint32_t max_buffered;  /* bytes of the guest that nobody has taken yet */
	bool iommu;             /* the guest may be behind a virtual IOMMU */
	bool no_mem_slots;      /* memory comes in one table, told again at each start */
	bool no_ack;            /* no OK line answers CONNECT */
	uint32_t tx_rate;       /* bytes a second from the guest; 0: no limit */
	uint32_t rx_rate;       /* to the guest */
	uint32_t conn_rate;     /* connections a second */
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

/** Where to listen. */
struct config_endpoint {
	union {
		struct sockaddr sa;
		struct sockaddr_un un;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	};
	socklen_t length;
};

/** Everything the daemon was told; immutable after config_load(). */
struct config {
	struct vm_config *vms;
	size_t vm_count;  /* >= 1, unless there is a control socket */
	uint32_t threads; /* workers: >= 1; at most vm_count without a control socket */
	uint32_t poll_us; /* how long a worker looks for events before it sleeps; 0: not at all */
	enum log_level log_level;
	bool log_json;              /* lines are objects */
	uint32_t log_rate;          /* lines per second and object */
	uint32_t total_connections; /* 0: as many as there are descriptors for */
	uint32_t total_buffered;    /* bytes */
	struct security_config security;
	char *control;    /* path of the control socket; NULL: none */
	char *metrics;    /* endpoint of metrics; NULL: none */
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

/**
 * config_load_again() - The same later, for the VMs of the file
 * @fd: of the file of --config, borrowed; or why it cannot be read, a -errno
 *
 * Opens nothing. Users and groups are not looked up: what they protect is
 * settled, and config.security says nothing of them.
 */
enum config_result config_load_again(struct config *config, int argc, char **argv, int fd,
				     FILE *err) must_use;

/** CPUs this process may use; at least 1. */
uint32_t config_usable_cpus(void) must_use;

/** Free what config_load() allocated and empty @config; legal on an empty one. */
void config_free(struct config *config);

/**
 * config_parse_endpoint() - "unix:PATH", "127.0.0.1:PORT" or "[::1]:PORT"
 * @endpoint: output
 *
 * Return: 0 or -EINVAL: something else, or an address that others can reach
 */
int config_parse_endpoint(struct config_endpoint *endpoint, const char *text) must_use;

/** The path within an endpoint's @text; NULL: it is no Unix socket. */
const char *config_endpoint_path(const char *text) must_use;

/**
 * config_parse_vm() - One VM as --vm describes it, beside others that exist
 * @vm:     output: free with config_free_vm()
 * @text:   what --vm would get
 * @others: validated; what collides with one of them is refused
 * @err:    where the one line about an error goes
 *
 * Return: 0; -EINVAL after the line was printed; other -errno
 */
int config_parse_vm(struct vm_config **vm, const char *text, const struct vm_config *const *others,
		    size_t count, FILE *err) must_use;

/** Whether these VMs can exist together. Return: as config_parse_vm(). */
int config_check_vms(const struct vm_config *const *vms, size_t count, FILE *err) must_use;

/**
 * config_regroup_vm() - A copy of a VM with other groups
 * Return: 0; -EINVAL for a name that is none, or too many; -ENOMEM
 */
int config_regroup_vm(struct vm_config **copy, const struct vm_config *vm,
		      const char *const *groups, size_t count) must_use;

/**
 * config_parse_limits() - A copy of a VM with other limits
 * @text: "max-connections=10,tx-rate=1M", the keys as in --vm
 * @err:  where the one line about an error goes
 *
 * Return: as config_parse_vm()
 */
int config_parse_limits(struct vm_config **copy, const struct vm_config *vm, const char *text,
			FILE *err) must_use;

/** Give @vm the limits of @from. */
void config_take_limits(struct vm_config *vm, const struct vm_config *from);

/** A copy on the heap, or NULL. */
struct vm_config *config_copy_vm(const struct vm_config *vm) must_use;

/** Free a copy; NULL is legal. */
void config_free_vm(struct vm_config *vm);

/** Whether they have the same limits. */
bool config_same_limits(const struct vm_config *a, const struct vm_config *b) must_use;

/** Whether they are the same but for groups and limits. */
bool config_same_vm(const struct vm_config *a, const struct vm_config *b) must_use;

/** Whether they are in the same groups, in any order. */
bool config_same_groups(const struct vm_config *a, const struct vm_config *b) must_use;

/** Whether the guest of @vm, by connecting to a port, would reach a socket at @path. */
bool config_reaches(const struct vm_config *vm, const char *path) must_use;

/** Whether two guests share a group; both validated. */
bool config_share_group(const struct vm_config *a, const struct vm_config *b) must_use;

#endif
