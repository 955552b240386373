// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * private.h - what the files of this folder share, and nobody else includes.
 *
 * The command line and the file are two readers of the same keys: both look a
 * key up in the one table (keys.c) and store its text through
 * config_key_begin() and config_key_add() into a draft, which remembers where
 * each value came from. check.c judges the finished draft as a whole.
 *
 * Errors: whoever finds a mistake of the operator calls config_report() and
 * returns -EINVAL, which means "already told" up to config_load(). Every other
 * -errno is told there.
 */
#ifndef CONFIG_PRIVATE_H
#define CONFIG_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/compiler.h"
#include "base/log.h"
#include "config/config.h"

/* Order of --help. */
enum config_key_id {
	KEY_GUEST_CID,
	KEY_SOCKET,
	KEY_MODE,
	KEY_FD,
	KEY_UDS_PATH,
	KEY_FORWARD_CID,
	KEY_FORWARD_LISTEN,
	KEY_TX_BUFFER_SIZE,
	KEY_QUEUE_SIZE,
	KEY_GROUPS,
	KEY_MAX_CONNECTIONS,
	KEY_MAX_HALF_OPEN,
	KEY_MAX_BUFFERED,
	KEY_MEM_SLOTS,
	KEY_ACK,
	KEY_TX_RATE,
	KEY_RX_RATE,
	KEY_CONN_RATE,
	KEY_IOMMU,
	KEY_VM,
	KEY_CONFIG,
	KEY_VMS,
	KEY_THREADS,
	KEY_POLL_US,
	KEY_TOTAL_CONNECTIONS,
	KEY_TOTAL_BUFFERED,
	KEY_LOG_LEVEL,
	KEY_LOG_FORMAT,
	KEY_LOG_RATE,
	KEY_CONTROL,
	KEY_METRICS,
	KEY_SANDBOX,
	KEY_USER,
	KEY_GROUP,
	KEY_SOCKET_MODE,
	KEY_SOCKET_GROUP,
	KEY_ALLOW_UID,
	KEY_CHECK_CONFIG,
	KEY_PRINT_CAPABILITIES,
	KEY_HELP,
	KEY_VERSION,
	KEY_COUNT
};

/* For config_set_rate(), with the range behind it. */
#define CONFIG_RATE_TEXT "0, or bytes per second (K, M, G: times 1024)"

/* Where a key may appear, as bits. */
#define CONFIG_IN_OPTION 1u /* --key */
#define CONFIG_IN_VM 2u     /* --vm key=... and items of the file's vms list */
#define CONFIG_IN_FILE 4u   /* top level of the file */
#define CONFIG_IN_SET 8u    /* limits of a VM that runs */

/** One row of the table. */
struct config_key {
	const char *name;        /* with '-'; '_' is accepted everywhere too */
	const char *alias;       /* another name that is taken; may be NULL */
	const char *arg;         /* placeholder in --help; NULL: takes no value */
	const char *what;        /* completes "expected ..." */
	const char *unit;        /* after the range; may be NULL */
	const char *help;        /* lines separated by \n */
	const char *preset_text; /* default shown in --help if not a number */
	/* Parse @text into @field: 0, -EINVAL (not as expected), -ENOMEM. NULL: reader's own. */
	int (*set)(const struct config_key *key, void *field, const char *text);
	size_t offset;      /* of the field in struct vm_config or struct config_globals */
	uint32_t min;       /* range of a number, or of a path's length */
	uint32_t max;       /* 0: no range */
	uint32_t preset;    /* default of a number; 0: none */
	unsigned int scope; /* CONFIG_IN_* */
	char letter;        /* short option, or 0 */
	bool is_list;       /* several values, joined by '+' or as a YAML list */
};

/** Which keys of one description were given, and where. */
struct config_marks {
	bool given[KEY_COUNT];
	size_t line[KEY_COUNT]; /* in the file; 0 if by an option */
};

/** A VM while it is being read. */
struct vm_draft {
	struct vm_config vm;
	struct config_marks marks;
	unsigned int number; /* which --vm, from 1; 0: single options */
	size_t line;         /* where its description starts in the file */
	bool runs;           /* it exists already: only others can be wrong */
};

/** Keys of the whole daemon. */
struct config_globals {
	uint32_t threads; /* 0: as many as CPUs */
	uint32_t poll_us;
	uint32_t total_connections;
	uint32_t total_buffered;
	enum log_level log_level;
	bool log_json;
	uint32_t log_rate;
	struct security_config security;
	char *control; /* NULL: not given */
	char *metrics; /* likewise */
	struct config_marks marks;
};

/** Everything read so far. */
struct config_draft {
	struct vm_draft *vms;
	size_t vm_count;
	size_t vm_room;
	struct config_globals by_option;
	struct config_globals by_file; /* used where by_option has nothing */
	bool check_only;               /* --check-config */
	bool again;                    /* read while confined: no file can be opened */
	int fd;                        /* then: of the file, or why there is none, -errno */
	const char *file;              /* named by --config, else NULL; borrowed from argv */
	FILE *err;
};

/** What an error is about; zero-initialised is "the command line". */
struct config_where {
	const char *file; /* NULL: command line */
	size_t line;
	unsigned int vm; /* command line: which --vm, 0: an option of its own */
	uint32_t runs;   /* CID of a VM that exists; 0: none */
	const char *key; /* NULL: none known */
};

/** Where a value goes to. */
struct config_target {
	void *fields; /* struct vm_config or struct config_globals */
	struct config_marks *marks;
	FILE *err;
};

/* report.c */

/**
 * config_report() - Write the one line about an operator's mistake
 * @where: what it is about
 * @value: what was written, to be quoted; NULL: nothing to show
 * @fmt:   what was expected, as "expected ..." or "missing, expected ..."; the
 *         arguments are text of ours, nothing that the operator wrote
 *
 * Return: -EINVAL, for the caller to pass on
 */
int config_report(FILE *err, const struct config_where *where, const char *value, const char *fmt,
		  ...) printf_like(4, 5);

/** Short name of a place, such as "--vm 2", for use inside a message. */
void config_where_name(const struct config_where *where, char *name, size_t room);

/** Where @key of a VM was given; its description's start if it was not. */
struct config_where config_where_of(const struct config_draft *draft, const struct vm_draft *vm,
				    enum config_key_id key) must_use;

/* keys.c */

/** The row of a key. */
const struct config_key *config_key(enum config_key_id id) must_use;

/**
 * config_key_find() - Look a name up
 * @name:  @len bytes, '-' and '_' are the same
 * @scope: CONFIG_IN_* of the place the name was found at
 * @id:    output; untouched on failure
 *
 * Return: 0, or -ENOENT
 */
int config_key_find(const char *name, size_t len, unsigned int scope, enum config_key_id *id)
	must_use;

/** Report an unknown name with the names that would have been right. */
int config_key_unknown(FILE *err, const struct config_where *where, const char *name,
		       unsigned int scope);

/** Report a value that is not what @id expects; @value may be NULL: missing. */
int config_key_refuse(FILE *err, const struct config_where *where, enum config_key_id id,
		      const char *value);

/** Mark a key as given; reports the second time. @where and @value are for that report. */
int config_key_begin(const struct config_target *target, const struct config_where *where,
		     enum config_key_id id, const char *value) must_use;

/** Parse and store a value (of a list: append); reports a bad one. */
int config_key_add(const struct config_target *target, const struct config_where *where,
		   enum config_key_id id, const char *value) must_use;

/* help.c */

/** Write --help, made from the table. */
void config_print_help(FILE *out);

/* values.c: parsers of values, as config_key.set */
int config_add_group(const struct config_key *key, void *field, const char *text) must_use;
int config_set_rate(const struct config_key *key, void *field, const char *text) must_use;

/* security.c: parsers of values, as config_key.set */
int config_set_sandbox(const struct config_key *key, void *field, const char *text) must_use;
int config_set_user(const struct config_key *key, void *field, const char *text) must_use;
int config_set_group(const struct config_key *key, void *field, const char *text) must_use;
int config_set_mode(const struct config_key *key, void *field, const char *text) must_use;
int config_set_uids(const struct config_key *key, void *field, const char *text) must_use;

/* config.c */

/**
 * config_add_vm() - Append a VM with the defaults
 * @vm: output: the draft; valid until the next call
 *
 * Return: 0, -ENOMEM, -E2BIG if there are CONFIG_MAX_VMS already
 */
int config_add_vm(struct config_draft *draft, struct vm_draft **vm) must_use;

/** Free what a VM holds, not itself. */
void config_clear_vm(struct vm_config *vm);

/** Groups of a VM that names none. Return: 0 or -ENOMEM. */
int config_default_group(struct vm_draft *draft) must_use;

/* args.c */

/**
 * config_read_pair() - One "key=value" of a VM
 * @pair:  is cut at its '='
 * @scope: CONFIG_IN_*, of the keys that are known
 *
 * Return: 0 or -errno
 */
int config_read_pair(FILE *err, struct vm_draft *vm, char *pair, unsigned int scope) must_use;

/** Append the VM that the value of --vm describes. Return: 0 or -errno. */
int config_read_vm(struct config_draft *draft, const char *value) must_use;

/** Read the command line into @draft. Return: 0, 1 when --help or --version was done, -errno. */
int config_read_args(struct config_draft *draft, int argc, char **argv, FILE *out) must_use;

/* yaml.c */

/** Read draft->file (draft->fd if there is one) into @draft. Return: 0 or -errno. */
int config_read_file(struct config_draft *draft) must_use;

/* values.c, vmm.c, endpoint.c: parsers of values, as config_key.set */
int config_set_level(const struct config_key *key, void *field, const char *text) must_use;
int config_set_log_format(const struct config_key *key, void *field, const char *text) must_use;
int config_set_dials(const struct config_key *key, void *field, const char *text) must_use;
int config_set_endpoint(const struct config_key *key, void *field, const char *text) must_use;
int config_set_off(const struct config_key *key, void *field, const char *text) must_use;
int config_set_on(const struct config_key *key, void *field, const char *text) must_use;

/** Whether what the parent is said to have handed over is there. Return: 0 or -errno. */
int config_check_fds(const struct config_draft *draft) must_use;

/* check.c */

/** Judge the VMs together: missing keys, exclusions, duplicates. Return: 0 or -errno. */
int config_check(const struct config_draft *draft) must_use;

#endif
