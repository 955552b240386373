// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * keys.c - the one table of keys, and the parsers of most of their values.
 *
 * An option, a key of --vm and a key of the file are the same row. To add one:
 * a name in enum config_key_id, a row here, a field, a line in the man page.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/private.h"

#define STRING_OF(x) #x
#define STRING(x) STRING_OF(x)

/* sun_path of AF_UNIX addresses, without its terminating NUL */
#define MAX_PATH_BYTES 107u
/* A guest's port is appended to uds-path: at most "_4294967295". */
#define MAX_UDS_PATH_BYTES (MAX_PATH_BYTES - 11u)
/* 2^32-1 is VMADDR_PORT_ANY and VMADDR_CID_ANY: wildcards, not addresses */
#define MAX_ADDRESS 4294967294u

#define UNKNOWN_NAMES_ROOM 512u

/* Decimal digits only: no sign, no space, no overflow. */
static int parse_number(const char *text, uint32_t min, uint32_t max, uint32_t *number)
{
	uint64_t value = 0;

	if (*text == '\0')
		return -EINVAL;
	for (const char *p = text; *p != '\0'; p++) {
		if (*p < '0' || *p > '9')
			return -EINVAL;
		value = value * 10 + (uint64_t)(*p - '0');
		if (value > max)
			return -EINVAL;
	}
	if (value < min)
		return -EINVAL;
	*number = (uint32_t)value;
	return 0;
}

static int set_number(const struct config_key *key, void *field, const char *text)
{
	return parse_number(text, key->min, key->max, field);
}

static int set_power_of_two(const struct config_key *key, void *field, const char *text)
{
	uint32_t number = 0;

	if (parse_number(text, key->min, key->max, &number) || (number & (number - 1)) != 0)
		return -EINVAL;
	*(uint32_t *)field = number;
	return 0;
}

static int set_path(const struct config_key *key, void *field, const char *text)
{
	size_t len = strlen(text);
	char *copy = NULL;

	if (len < key->min || len > key->max)
		return -EINVAL;
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	*(char **)field = copy;
	return 0;
}

#define FORWARD_SEQPACKET "/seqpacket"

static bool has_suffix(const char *text, const char *suffix)
{
	size_t len = strlen(text);
	size_t end = strlen(suffix);

	return len >= end && strcmp(text + len - end, suffix) == 0;
}

static int add_port(const struct config_key *key, void *field, const char *text)
{
	struct vm_config *vm = field;
	struct forward_port port = { .seqpacket = has_suffix(text, FORWARD_SEQPACKET) };
	struct forward_port *grown = NULL;
	char number[64] = "";
	size_t len = strlen(text) - (port.seqpacket ? strlen(FORWARD_SEQPACKET) : 0);

	if (len >= sizeof(number))
		return -EINVAL;
	(void)snprintf(number, sizeof(number), "%.*s", (int)len, text);
	if (parse_number(number, key->min, key->max, &port.port))
		return -EINVAL;
	if (vm->forward_listen_count >= CONFIG_MAX_LIST)
		return -EINVAL;
	for (size_t i = 0; i < vm->forward_listen_count; i++) {
		if (vm->forward_listen[i].port == port.port)
			return -EINVAL;
	}
	grown = reallocarray(vm->forward_listen, vm->forward_listen_count + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	grown[vm->forward_listen_count++] = port;
	vm->forward_listen = grown;
	return 0;
}

#define VM_FIELD(member) .offset = offsetof(struct vm_config, member)
#define VM_LIST .offset = 0, .is_list = true /* the parser needs pointer and count */
#define SECURITY_FIELD(member) .offset = offsetof(struct config_globals, security.member)
#define GLOBAL_FIELD(member) .offset = offsetof(struct config_globals, member)

/* Options and keys of a VM that may change while it runs. */
#define CONFIG_IN_LIMIT (CONFIG_IN_OPTION | CONFIG_IN_VM | CONFIG_IN_SET)

static const struct config_key keys[KEY_COUNT] = {
	[KEY_GUEST_CID] = {
		.name = "guest-cid", .arg = "CID", .scope = CONFIG_IN_OPTION | CONFIG_IN_VM,
		.what = "a CID", .min = CONFIG_MIN_GUEST_CID, .max = CONFIG_MAX_GUEST_CID,
		.preset = CONFIG_DEFAULT_GUEST_CID, .set = set_number, VM_FIELD(guest_cid),
		.help = "Context identifier of the guest, its address; each VM needs its own.",
	},
	[KEY_SOCKET] = {
		.name = "socket", .alias = "socket-path", .arg = "PATH",
		.scope = CONFIG_IN_OPTION | CONFIG_IN_VM,
		.what = "a path with a length", .min = 1, .max = MAX_PATH_BYTES, .unit = " bytes",
		.set = set_path, VM_FIELD(socket),
		.help = "Unix socket to create for the VMM (vhost-user). Required unless fd is\n"
			"given; socket-path is the same.",
	},
	[KEY_MODE] = {
		.name = "mode", .arg = "MODE", .scope = CONFIG_IN_OPTION | CONFIG_IN_VM,
		.what = "server or client", .preset_text = "server", .set = config_set_dials,
		VM_FIELD(dials),
		.help = "client: the VMM listens at socket, connect to it, and again when it\n"
			"is gone.",
	},
	[KEY_FD] = {
		.name = "fd", .arg = "N", .scope = CONFIG_IN_OPTION | CONFIG_IN_VM,
		.what = "a descriptor", .min = CONFIG_MIN_FD, .max = CONFIG_MAX_FD,
		.set = set_number, VM_FIELD(fd),
		.help = "Instead of socket: the VMM's Unix socket as a descriptor of the\n"
			"parent, listening or connected.",
	},
	[KEY_UDS_PATH] = {
		.name = "uds-path", .arg = "PATH", .scope = CONFIG_IN_OPTION | CONFIG_IN_VM,
		.what = "a path with a length", .min = 1, .max = MAX_UDS_PATH_BYTES,
		.unit = " bytes ('_PORT' is appended to it)", .set = set_path, VM_FIELD(uds_path),
		.help = "Unix socket to create for programs of the host that connect to the\n"
			"guest; a guest that connects to port P of the host reaches PATH_P.",
	},
	[KEY_FORWARD_CID] = {
		.name = "forward-cid", .arg = "CID", .scope = CONFIG_IN_OPTION | CONFIG_IN_VM,
		.what = "a CID", .min = 1, .max = MAX_ADDRESS, .set = set_number,
		VM_FIELD(forward_cid),
		.help = "Instead of uds-path: carry the guest's connections to this CID\n"
			"by AF_VSOCK (1 is the host itself).",
	},
	[KEY_FORWARD_LISTEN] = {
		.name = "forward-listen", .arg = "PORTS",
		.scope = CONFIG_IN_OPTION | CONFIG_IN_VM,
		.what = "up to " STRING(CONFIG_MAX_LIST) " different ports joined by '+',",
		.max = MAX_ADDRESS, .set = add_port, VM_LIST,
		.help = "With forward-cid: AF_VSOCK ports of the host that lead into the guest,\n"
			"joined by '+'; PORT/seqpacket for SOCK_SEQPACKET.",
	},
	[KEY_TX_BUFFER_SIZE] = {
		.name = "tx-buffer-size", .arg = "BYTES", .scope = CONFIG_IN_OPTION | CONFIG_IN_VM,
		.what = "a number of bytes", .min = CONFIG_MIN_TX_BUFFER_SIZE,
		.max = CONFIG_MAX_TX_BUFFER_SIZE, .preset = CONFIG_DEFAULT_TX_BUFFER_SIZE,
		.set = set_number, VM_FIELD(tx_buffer_size),
		.help = "What a guest may send on a connection before the host has read it.",
	},
	[KEY_QUEUE_SIZE] = {
		.name = "queue-size", .arg = "ENTRIES", .scope = CONFIG_IN_OPTION | CONFIG_IN_VM,
		.what = "a power of two", .min = 1, .max = CONFIG_MAX_QUEUE_SIZE,
		.preset = CONFIG_DEFAULT_QUEUE_SIZE, .set = set_power_of_two, VM_FIELD(queue_size),
		.help = "Largest virtqueue that is accepted from the VMM.",
	},
	[KEY_GROUPS] = {
		.name = "groups", .arg = "NAMES", .scope = CONFIG_IN_OPTION | CONFIG_IN_VM,
		.what = "up to " STRING(CONFIG_MAX_LIST) " names joined by '+', none of them empty",
		.preset_text = CONFIG_DEFAULT_GROUP, .set = config_add_group, VM_LIST,
		.help = "Groups the guest belongs to, joined by '+'; guests that share one\n"
			"reach each other.",
	},
	[KEY_MAX_CONNECTIONS] = {
		.name = "max-connections", .arg = "N", .scope = CONFIG_IN_LIMIT,
		.what = "a number", .min = 1, .max = CONFIG_MAX_CONNECTIONS,
		.preset = CONFIG_MAX_CONNECTIONS, .set = set_number, VM_FIELD(max_connections),
		.help = "Connections of the guest with the host that may be open at a time.",
	},
	[KEY_MAX_HALF_OPEN] = {
		.name = "max-half-open", .arg = "N", .scope = CONFIG_IN_LIMIT,
		.what = "a number", .min = 1, .max = CONFIG_MAX_CONNECTIONS,
		.preset = CONFIG_DEFAULT_MAX_HALF_OPEN, .set = set_number, VM_FIELD(max_half_open),
		.help = "How many of them may wait for the other side's answer, of each side.",
	},
	[KEY_MAX_BUFFERED] = {
		.name = "max-buffered", .arg = "BYTES", .scope = CONFIG_IN_LIMIT,
		.what = "a number of bytes", .min = CONFIG_MIN_TX_BUFFER_SIZE,
		.max = CONFIG_MAX_BUFFERED, .preset = CONFIG_DEFAULT_MAX_BUFFERED,
		.set = set_number, VM_FIELD(max_buffered),
		.help = "What all connections together may have sent that nobody has read yet.",
	},
	[KEY_MEM_SLOTS] = {
		.name = "mem-slots", .arg = "SWITCH", .scope = CONFIG_IN_OPTION | CONFIG_IN_VM,
		.what = "on or off", .preset_text = "on", .set = config_set_off,
		VM_FIELD(no_mem_slots),
		.help = "off: take memory in one table of 8 regions, which QEMU tells again to\n"
			"a daemon that was restarted.",
	},
	[KEY_ACK] = {
		.name = "ack", .arg = "SWITCH", .scope = CONFIG_IN_OPTION | CONFIG_IN_VM,
		.what = "on or off", .set = config_set_off, VM_FIELD(no_ack), .preset_text = "on",
		.help = "Whether CONNECT is answered by OK: off for programs that take the\n"
			"answer for data.",
	},
	[KEY_TX_RATE] = {
		.name = "tx-rate", .arg = "BYTES", .scope = CONFIG_IN_LIMIT,
		.what = CONFIG_RATE_TEXT, .min = CONFIG_MIN_RATE, .max = UINT32_MAX,
		.set = config_set_rate, VM_FIELD(tx_rate), .preset_text = "0, no limit",
		.help = "Bytes per second from the guest, K, M or G behind it if wanted; more\n"
			"waits.",
	},
	[KEY_RX_RATE] = {
		.name = "rx-rate", .arg = "BYTES", .scope = CONFIG_IN_LIMIT,
		.what = CONFIG_RATE_TEXT, .min = CONFIG_MIN_RATE, .max = UINT32_MAX,
		.set = config_set_rate, VM_FIELD(rx_rate), .preset_text = "0, no limit",
		.help = "The same from programs of the host to the guest.",
	},
	[KEY_CONN_RATE] = {
		.name = "conn-rate", .arg = "N", .scope = CONFIG_IN_LIMIT,
		.what = "a number", .min = 0, .max = CONFIG_MAX_CONN_RATE, .set = set_number,
		VM_FIELD(conn_rate), .preset_text = "0, no limit",
		.help = "Connections per second that may begin, from either side; more are\n"
			"refused.",
	},
	[KEY_IOMMU] = {
		.name = "iommu", .arg = "SWITCH", .scope = CONFIG_IN_OPTION | CONFIG_IN_VM,
		.what = "off or on", .preset_text = "off", .set = config_set_on,
		VM_FIELD(iommu),
		.help = "on: serve a guest behind a virtual IOMMU (ACCESS_PLATFORM).",
	},
	[KEY_VM] = {
		.name = "vm", .arg = "KEY=VALUE,...", .scope = CONFIG_IN_OPTION,
		.what = "KEY=VALUE pairs separated by ','",
		.help = "One VM by the keys above; give it again for each further VM.",
	},
	[KEY_CONFIG] = {
		.name = "config", .arg = "FILE", .scope = CONFIG_IN_OPTION,
		.what = "a readable file",
		.help = "Read the VMs from a YAML file: a list 'vms' of mappings with the keys\n"
			"above; the keys below may stand beside it.",
	},
	[KEY_VMS] = {
		.name = "vms", .arg = "LIST", .scope = CONFIG_IN_FILE,
		.what = "a list with at least one VM",
	},
	[KEY_THREADS] = {
		.name = "threads", .arg = "N", .scope = CONFIG_IN_OPTION | CONFIG_IN_FILE,
		.what = "a number", .min = 0, .max = CONFIG_MAX_THREADS, .set = set_number,
		GLOBAL_FIELD(threads), .preset_text = "0, which means one per usable CPU",
		.help = "Worker threads that share the VMs; without 'control' never more than\n"
			"VMs.",
	},
	[KEY_POLL_US] = {
		.name = "poll-us", .arg = "MICROSECONDS",
		.scope = CONFIG_IN_OPTION | CONFIG_IN_FILE,
		.what = "a number", .min = 0, .max = CONFIG_MAX_POLL_US, .set = set_number,
		GLOBAL_FIELD(poll_us), .preset_text = "0, sleep at once",
		.help = "How long a worker may look for an answer before it sleeps, while\n"
			"answers come that soon: shorter round trips for more CPU time.",
	},
	[KEY_TOTAL_CONNECTIONS] = {
		.name = "total-connections", .arg = "N",
		.scope = CONFIG_IN_OPTION | CONFIG_IN_FILE,
		.what = "a number", .min = 0, .max = CONFIG_MAX_TOTAL_CONNECTIONS,
		.set = set_number, GLOBAL_FIELD(total_connections),
		.preset_text = "0, which means as many as the limit of open files allows",
		.help = "max-connections of all VMs together; half is shared out equally.",
	},
	[KEY_TOTAL_BUFFERED] = {
		.name = "total-buffered", .arg = "BYTES",
		.scope = CONFIG_IN_OPTION | CONFIG_IN_FILE,
		.what = "a number of bytes", .min = CONFIG_MIN_TX_BUFFER_SIZE,
		.max = CONFIG_MAX_BUFFERED, .set = set_number, GLOBAL_FIELD(total_buffered),
		.preset = CONFIG_DEFAULT_TOTAL_BUFFERED,
		.help = "max-buffered of all VMs together; half is shared out equally.",
	},
	[KEY_LOG_LEVEL] = {
		.name = "log-level", .arg = "NAME", .scope = CONFIG_IN_OPTION | CONFIG_IN_FILE,
		.what = "one of error, warning, notice, info, debug, trace",
		.set = config_set_level, GLOBAL_FIELD(log_level), .preset_text = "notice",
		.help = "What is logged: error, warning, notice, info, debug or trace.",
	},
	[KEY_LOG_FORMAT] = {
		.name = "log-format", .arg = "NAME", .scope = CONFIG_IN_OPTION | CONFIG_IN_FILE,
		.what = "text or json", .set = config_set_log_format, GLOBAL_FIELD(log_json),
		.preset_text = "text",
		.help = "How a line of the log looks: text, or json for an object each.",
	},
	[KEY_LOG_RATE] = {
		.name = "log-rate", .arg = "LINES", .scope = CONFIG_IN_OPTION | CONFIG_IN_FILE,
		.what = "a number", .min = 1, .max = CONFIG_MAX_LOG_RATE, .set = set_number,
		GLOBAL_FIELD(log_rate), .preset = LOG_DEFAULT_RATE,
		.help = "Lines per second that may be logged about each kind of event of a VM.",
	},
	[KEY_CONTROL] = {
		.name = "control", .arg = "PATH", .scope = CONFIG_IN_OPTION | CONFIG_IN_FILE,
		.what = "a path with a length", .min = 1, .max = MAX_PATH_BYTES, .unit = " bytes",
		.set = set_path, GLOBAL_FIELD(control),
		.help = "Unix socket to create for requests while the daemon runs; VMs can then\n"
			"be added later. Tools look for " CONFIG_DEFAULT_CONTROL "\n"
			"in /run as root, in $XDG_RUNTIME_DIR otherwise.",
	},
	[KEY_METRICS] = {
		.name = "metrics", .arg = "ENDPOINT", .scope = CONFIG_IN_OPTION | CONFIG_IN_FILE,
		.what = "unix:PATH, 127.0.0.1:PORT or [::1]:PORT", .set = config_set_endpoint,
		GLOBAL_FIELD(metrics),
		.help = "Serve metrics for Prometheus by HTTP there, as /metrics: unix:PATH,\n"
			"127.0.0.1:PORT or [::1]:PORT.",
	},
	[KEY_SANDBOX] = {
		.name = "sandbox", .arg = "MODE", .scope = CONFIG_IN_OPTION,
		.what = "one of auto, strict, none", .set = config_set_sandbox,
		SECURITY_FIELD(sandbox), .preset_text = "auto",
		.help = "What the process gives up when it serves: auto (all that the system\n"
			"allows), strict (all, or do not start) or none.",
	},
	[KEY_USER] = {
		.name = "user", .arg = "NAME", .scope = CONFIG_IN_OPTION,
		.what = "a user of this host or a number", .set = config_set_user,
		GLOBAL_FIELD(security), .preset_text = "as started",
		.help = "Become this user; it makes the sockets.",
	},
	[KEY_GROUP] = {
		.name = "group", .arg = "NAME", .scope = CONFIG_IN_OPTION,
		.what = "a group of this host or a number", .set = config_set_group,
		SECURITY_FIELD(group), .preset_text = "the user's own",
		.help = "Become this group, and drop all others.",
	},
	[KEY_SOCKET_MODE] = {
		.name = "socket-mode", .arg = "OCTAL", .scope = CONFIG_IN_OPTION,
		.what = "octal permissions from 0 to 777", .set = config_set_mode,
		SECURITY_FIELD(socket_mode), .preset_text = "what the umask leaves",
		.help = "Permissions of the sockets that are made; write is what counts.",
	},
	[KEY_SOCKET_GROUP] = {
		.name = "socket-group", .arg = "NAME", .scope = CONFIG_IN_OPTION,
		.what = "a group of this host or a number", .set = config_set_group,
		SECURITY_FIELD(socket_group), .preset_text = "the process's own",
		.help = "Group of the sockets that are made.",
	},
	[KEY_ALLOW_UID] = {
		.name = "allow-uid", .arg = "UIDS", .scope = CONFIG_IN_OPTION,
		.what = "up to 64 user numbers separated by ','", .set = config_set_uids,
		GLOBAL_FIELD(security), .preset_text = "every user the permissions allow",
		.help = "Users that may connect to the sockets, by number, separated by ','.",
	},
	[KEY_CHECK_CONFIG] = {
		.name = "check-config", .scope = CONFIG_IN_OPTION,
		.help = "Read options and file, say what is wrong with them, and stop.",
	},
	[KEY_PRINT_CAPABILITIES] = {
		.name = "print-capabilities", .scope = CONFIG_IN_OPTION,
		.help = "Print what this is as JSON, for management software, and stop.",
	},
	[KEY_HELP] = {
		.name = "help", .scope = CONFIG_IN_OPTION, .letter = 'h',
		.help = "Print this help and stop.",
	},
	[KEY_VERSION] = {
		.name = "version", .scope = CONFIG_IN_OPTION, .letter = 'V',
		.help = "Print the version and stop.",
	},
};

const struct config_key *config_key(enum config_key_id id)
{
	return &keys[id];
}

static bool name_matches(const char *key, const char *name, size_t len)
{
	if (strlen(key) != len)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (key[i] != (name[i] == '_' ? '-' : name[i]))
			return false;
	}
	return true;
}

int config_key_find(const char *name, size_t len, unsigned int scope, enum config_key_id *id)
{
	for (unsigned int i = 0; i < KEY_COUNT; i++) {
		const struct config_key *key = &keys[i];

		if (!(key->scope & scope))
			continue;
		if (name_matches(key->name, name, len) ||
		    (key->alias && name_matches(key->alias, name, len))) {
			*id = (enum config_key_id)i;
			return 0;
		}
	}
	return -ENOENT;
}

int config_key_unknown(FILE *err, const struct config_where *where, const char *name,
		       unsigned int scope)
{
	char names[UNKNOWN_NAMES_ROOM];
	size_t used = 0;

	for (unsigned int i = 0; i < KEY_COUNT && used < sizeof(names); i++) {
		if (!(keys[i].scope & scope))
			continue;
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s",
					 used > 0 ? ", " : "", keys[i].name);
	}
	return config_report(err, where, name, "expected one of %s", names);
}

int config_key_refuse(FILE *err, const struct config_where *where, enum config_key_id id,
		      const char *value)
{
	const struct config_key *key = &keys[id];
	const char *missing = value ? "" : "missing, ";

	if (key->max == 0)
		return config_report(err, where, value, "%sexpected %s", missing, key->what);
	return config_report(err, where, value, "%sexpected %s from %u to %u%s", missing, key->what,
			     key->min, key->max, key->unit ? key->unit : "");
}

int config_key_begin(const struct config_target *target, const struct config_where *where,
		     enum config_key_id id, const char *value)
{
	if (target->marks->given[id] && target->marks->line[id] > 0)
		return config_report(target->err, where, value,
				     "expected %s only once, line %zu has it already",
				     keys[id].name, target->marks->line[id]);
	if (target->marks->given[id])
		return config_report(target->err, where, value, "expected %s only once",
				     keys[id].name);
	target->marks->given[id] = true;
	target->marks->line[id] = where->line;
	return 0;
}

/* Calls the parser for each piece between '+'; @pieces is cut up. */
static int add_pieces(const struct config_key *key, void *field, char *pieces)
{
	char *piece = NULL;

	while ((piece = strsep(&pieces, "+"))) {
		int ret = key->set(key, field, piece);

		if (ret)
			return ret;
	}
	return 0;
}

int config_key_add(const struct config_target *target, const struct config_where *where,
		   enum config_key_id id, const char *value)
{
	const struct config_key *key = &keys[id];
	void *field = (char *)target->fields + key->offset;
	int ret = 0;

	if (key->is_list) {
		char *pieces = strdup(value);

		ret = pieces ? add_pieces(key, field, pieces) : -ENOMEM;
		free(pieces);
	} else {
		ret = key->set(key, field, value);
	}
	if (ret == -EINVAL)
		return config_key_refuse(target->err, where, id, value);
	return ret;
}
