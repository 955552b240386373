// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * main.c - the command line of vsockctl: finds the command, reads options and
 * hands over. Does nothing of what the commands do.
 */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/number.h"
#include "vsockctl/vsockctl.h"

#define PROGRAM "vsockctl"
#define SYSTEM_SOCKET "/run/vhost-device-vsock/control.sock"
#define USER_SOCKET "vhost-device-vsock/control.sock" /* below $XDG_RUNTIME_DIR */

/*
 * Letters of the options: C --control, j --json, u --uds, s --sort, g --groups, l --limit,
 * i --interval, o --off, n --no-ack, L --limits, w --write, p --port, S --snaplen, c --count,
 * e --serve, t --seconds.
 * Every command takes C and j. With + all from the first argument on is a command line of the user.
 */
static const struct command commands[] = {
	{ "connect", "CID PORT", "join standard input and output to a port of a guest", "un", 1, 2,
	  cmd_connect },
	{ "listen", "CID PORT [-- CMD]", "let a guest reach CMD, or standard input and output", "u",
	  1, -1, cmd_listen },
	{ "forward", "FROM TO", "lead a TCP port to a guest's port, or the reverse", "un", 2, 2,
	  cmd_forward },
	{ "run", "-- CMD", "run a program whose AF_VSOCK sockets reach the guests", "un+", 1, -1,
	  cmd_run },
	{ "bench", "CID [PORT]", "throughput and latency to 'bench --serve' in the guest", "unet",
	  0, 2, cmd_bench },
	{ "list", "", "the VMs", "", 0, 0, cmd_list },
	{ "show", "CID", "one VM", "", 1, 1, cmd_show },
	{ "connections", "[CID]", "the connections, of all VMs or of one", "l", 0, 1,
	  cmd_connections },
	{ "stats", "", "figures of the daemon", "", 0, 0, cmd_stats },
	{ "top", "", "the VMs, live; q ends it", "si", 0, 0, cmd_top },
	{ "events", "", "what happens, line by line", "", 0, 0, cmd_events },
	{ "capture", "CID -w FILE", "packets of a VM, for Wireshark and tcpdump", "wpSc", 1, 1,
	  cmd_capture },
	{ "add", "KEY=VALUE,...", "a further VM, as --vm of the daemon takes it", "", 1, 1,
	  cmd_add },
	{ "remove", "CID", "end a VM", "", 1, 1, cmd_remove },
	{ "set", "CID", "change a VM: --groups, --limits", "gL", 1, 1, cmd_set },
	{ "reload", "", "have the configuration file read again", "", 0, 0, cmd_reload },
	{ "log-level", "LEVEL", "change what is logged", "", 1, 1, cmd_log_level },
	{ "drain", "[CID]", "take no new connections, for all VMs or one", "o", 0, 1, cmd_drain },
};

static const struct option long_options[] = {
	{ "control", required_argument, NULL, 'C' },
	{ "json", no_argument, NULL, 'j' },
	{ "uds", required_argument, NULL, 'u' },
	{ "sort", required_argument, NULL, 's' },
	{ "groups", required_argument, NULL, 'g' },
	{ "limit", required_argument, NULL, 'l' },
	{ "interval", required_argument, NULL, 'i' },
	{ "limits", required_argument, NULL, 'L' },
	{ "off", no_argument, NULL, 'o' },
	{ "no-ack", no_argument, NULL, 'n' },
	{ "serve", no_argument, NULL, 'e' },
	{ "seconds", required_argument, NULL, 't' },
	{ "write", required_argument, NULL, 'w' },
	{ "port", required_argument, NULL, 'p' },
	{ "snaplen", required_argument, NULL, 'S' },
	{ "count", required_argument, NULL, 'c' },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

void complain(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fputs(PROGRAM ": ", stderr);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	va_end(args);
}

int argument_u32(const char *what, const char *text, uint32_t max, uint32_t *value)
{
	if (number_u32(text, max, value) == 0)
		return 0;
	complain("%s '%s': expected a number from 0 to %u", what, text, max);
	return -1;
}

static void help(void)
{
	printf("Usage: " PROGRAM " [--control PATH] [--json] COMMAND [OPTION]... [ARGUMENT]...\n\n"
	       "Looks after a running vhost-device-vsock, and reaches its guests.\n\n");
	for (size_t i = 0; i < array_size(commands); i++)
		printf("  %-11s %-17s  %s\n", commands[i].name, commands[i].arguments,
		       commands[i].summary);
	printf("\n"
	       "  --control PATH  the daemon's control socket [default: $VSOCKCTL_CONTROL, else\n"
	       "                  " SYSTEM_SOCKET " for root,\n"
	       "                  $XDG_RUNTIME_DIR/" USER_SOCKET " for others]\n"
	       "  --json          results as JSON\n"
	       "  --uds PATH      connect, listen, forward, bench: uds-path of the VM, not its\n"
	       "                  CID, without a control socket; forward then says 'guest:PORT'\n"
	       "  --uds CID=PATH  run: such a VM; repeat it for each\n"
	       "  --no-ack        the VMs of --uds have ack=off: CONNECT is not answered\n"
	       "  --limit N       connections: at most N rows\n"
	       "  --sort COLUMN   top: cid, conns, in, out or state [default: cid]\n"
	       "  --interval N    top: seconds between two pictures [default: 1]\n"
	       "  --groups NAMES  set: groups of the VM, joined by '+'\n"
	       "  --limits K=V,.. set: max-connections and the like, and rates\n"
	       "  --off           drain: take connections again\n"
	       "  --serve         bench: be the guest's side, at AF_VSOCK port 5210 or PORT\n"
	       "  --seconds N     bench: how long it takes [default: 5]\n"
	       "  -w, --write FILE  capture: where packets go, '-' for standard output\n"
	       "  --port PORT     capture: only packets from or to it; repeat it for others\n"
	       "  --snaplen N     capture: at most N bytes of each packet, its headers included\n"
	       "  -c, --count N   capture: stop after N packets\n"
	       "  -h, --help      print this and stop\n"
	       "  -V, --version   print the version and stop\n\n"
	       "The exit status is 0, 1 when it failed, or 2 when the command line is wrong.\n");
}

/* The daemon uses the same default. */
static const char *default_control(void)
{
	const char *path = getenv("VSOCKCTL_CONTROL");
	const char *dir = getenv("XDG_RUNTIME_DIR");
	char *user;

	if (path != NULL && *path != '\0')
		return path;
	if (geteuid() == 0 || dir == NULL || *dir == '\0')
		return SYSTEM_SOCKET;
	/* Freed by the end of the program. */
	return asprintf(&user, "%s/" USER_SOCKET, dir) < 0 ? SYSTEM_SOCKET : user;
}

static int take_data_option(struct options *options, int letter)
{
	switch (letter) {
	case 'e':
		options->serve = true;
		return 0;
	case 't':
		return argument_u32("--seconds", optarg, 3600, &options->seconds);
	case 'w':
		options->write = optarg;
		return 0;
	case 'p':
		if (options->n_ports == MAX_PORTS) {
			complain("--port '%s': expected at most %u of them", optarg, MAX_PORTS);
			return -1;
		}
		return argument_u32("--port", optarg, UINT32_MAX,
				    &options->ports[options->n_ports++]);
	case 'S':
		return argument_u32("--snaplen", optarg, UINT32_MAX, &options->snaplen);
	case 'c':
		return argument_u32("--count", optarg, UINT32_MAX, &options->count);
	default:
		return -1;
	}
}

/* Take one option. Return: 0, -1 after a complaint. */
static int take_option(struct options *options, int letter)
{
	switch (letter) {
	case 'C':
		options->control = optarg;
		return 0;
	case 'j':
		options->json = true;
		return 0;
	case 'u':
		if (options->n_uds == MAX_UDS) {
			complain("--uds '%s': expected at most %u of them", optarg, MAX_UDS);
			return -1;
		}
		options->uds[options->n_uds++] = optarg;
		return 0;
	case 's':
		options->sort = optarg;
		return 0;
	case 'g':
		options->groups = optarg;
		return 0;
	case 'l':
		return argument_u32("--limit", optarg, UINT32_MAX, &options->limit);
	case 'i':
		return argument_u32("--interval", optarg, 3600, &options->interval);
	case 'L':
		options->limits = optarg;
		return 0;
	case 'o':
		options->off = true;
		return 0;
	case 'n':
		options->no_ack = true;
		return 0;
	default:
		return take_data_option(options, letter);
	}
}

/*
 * Read options up to the first argument. Return: its index; -1 after a complaint, -2 after --help
 * or --version.
 */
static int read_options(struct options *options, int argc, char **argv, const char *letters)
{
	int letter;

	/* From the start, whatever was read before: */
	optind = 0;
	opterr = 0;
	while ((letter = getopt_long(argc, argv, "+hVw:c:", long_options, NULL)) != -1) {
		if (letter == 'h') {
			help();
			return -2;
		}
		if (letter == 'V') {
			puts(PROGRAM " " VERSION);
			return -2;
		}
		if (letter != '?' && strchr("Cj", letter) == NULL &&
		    strchr(letters, letter) == NULL) {
			complain("'%s': not an option of this command", argv[optind - 1]);
			return -1;
		}
		if (letter == '?') {
			complain("'%s': expected an option that --help lists, with its value",
				 argv[optind - 1]);
			return -1;
		}
		if (take_option(options, letter) < 0)
			return -1;
	}
	return optind;
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < array_size(commands); i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

/*
 * Options may stand before, between and behind the arguments, up to "--" or, when a command of the
 * user's follows, up to it. The arguments are moved together at the front of @argv.
 */
static int read_command(struct options *options, const struct command *command, int *argc,
			char **argv)
{
	int count = 0;
	int at = 0;

	while (at < *argc) {
		int next;

		if ((argv[at][0] != '-' || argv[at][1] == '\0') &&
		    strchr(command->letters, '+') == NULL) {
			argv[count++] = argv[at++];
			continue;
		}
		if (argv[at][0] != '-' || strcmp(argv[at], "--") == 0) {
			at += argv[at][0] == '-';
			while (at < *argc)
				argv[count++] = argv[at++];
			break;
		}
		/* getopt_long() skips the first element, which is a program's name. */
		next = read_options(options, *argc - at + 1, argv + at - 1, command->letters);
		if (next < 0)
			return next;
		at += next - 1;
		if (strcmp(argv[at - 1], "--") == 0)
			at--;
	}
	argv[count] = NULL;
	*argc = count;
	return 0;
}

static int check_count(const struct command *command, int argc)
{
	if (argc >= command->min && (command->max < 0 || argc <= command->max))
		return 0;
	complain("%s: expected %s", command->name,
		 *command->arguments != '\0' ? command->arguments : "no argument");
	return -1;
}

/* Descriptors 0 to 2 must not become those of a connection. */
static void open_standard(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	struct options options = { .interval = 1, .seconds = 5, .control = default_control() };
	const struct command *command;
	int at;
	int status;

	open_standard();
	signal(SIGPIPE, SIG_IGN);
	at = read_options(&options, argc, argv, "Cj");
	if (at < 0)
		return at == -2 ? STATUS_OK : STATUS_USAGE;
	if (at == argc) {
		complain("no command: expected one of those that --help lists");
		return STATUS_USAGE;
	}
	command = find_command(argv[at]);
	if (command == NULL) {
		complain("unknown command '%s': expected one of those that --help lists", argv[at]);
		return STATUS_USAGE;
	}
	argc -= at + 1;
	argv += at + 1;
	status = read_command(&options, command, &argc, argv);
	if (status < 0)
		return status == -2 ? STATUS_OK : STATUS_USAGE;
	if (check_count(command, argc) < 0)
		return STATUS_USAGE;
	status = command->run(&options, argc, argv);
	if (fflush(stdout) != 0 && status == STATUS_OK)
		status = STATUS_FAILED;
	return status;
}
