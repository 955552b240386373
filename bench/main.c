// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * main.c - options of vsock-bench; chooses the workload and bounds its time.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/workloads.h"

static const struct {
	const char *name;
	void (*run)(const struct options *options);
} workloads[] = {
	{ "flows", workload_flows }, { "crr", workload_crr }, { "refused", workload_refused },
	{ "idle", workload_idle },   { "vms", workload_vms }, { "base", workload_base },
};

static const char usage_text[] =
	"Usage: vsock-bench WORKLOAD [OPTION...]\n"
	"Measures a vhost-user vsock device with emulated guests; prints JSON lines.\n"
	"\n"
	"Workloads: flows, crr, refused, idle, vms, base\n"
	"\n"
	"  --daemon COMMAND    words; {vms} stands for --vm options\n"
	"  --kernel            no daemon: the device is /dev/vhost-vsock\n"
	"  --log FILE          where the daemon's output goes\n"
	"  --flow KIND[:BYTES][@VM]  flows: g2h h2g sib (bulk), rr rrh rrs (exchanges)\n"
	"  --seconds S, --warmup S   length of a measurement\n"
	"  --limit S           a run that takes longer is a hang (status 3)\n"
	"  --ring N            entries of each ring: 128 to 1024\n"
	"  --rx 44+4096|4140|3776    RX buffers\n"
	"  --tx-pieces 1|2|3|18      descriptors of a 64 KiB packet\n"
	"  --packet BYTES      largest payload of a guest's packet\n"
	"  --host-io BYTES     of one read or write of a host program\n"
	"  --lazy-credit       credit updates as Linux before 6.8\n"
	"  --vms N, --connections N, --concurrency N\n"
	"  --from-host         crr: the host connects\n"
	"  --sockbuf BYTES     base: SO_SNDBUF of the sockets\n"
	"  --count-syscalls    of the daemon (slows everybody a little)\n"
	"  --verify            check every byte\n";

enum {
	OPT_DAEMON = 256,
	OPT_LOG,
	OPT_FLOW,
	OPT_SECONDS,
	OPT_WARMUP,
	OPT_LIMIT,
	OPT_RING,
	OPT_RX,
	OPT_TX_PIECES,
	OPT_PACKET,
	OPT_HOST_IO,
	OPT_LAZY,
	OPT_KERNEL,
	OPT_VMS,
	OPT_CONNECTIONS,
	OPT_CONCURRENCY,
	OPT_FROM_HOST,
	OPT_SOCKBUF,
	OPT_COUNT,
	OPT_VERIFY,
	OPT_HELP,
};

static const struct option long_options[] = {
	{ "daemon", required_argument, NULL, OPT_DAEMON },
	{ "log", required_argument, NULL, OPT_LOG },
	{ "flow", required_argument, NULL, OPT_FLOW },
	{ "seconds", required_argument, NULL, OPT_SECONDS },
	{ "warmup", required_argument, NULL, OPT_WARMUP },
	{ "limit", required_argument, NULL, OPT_LIMIT },
	{ "ring", required_argument, NULL, OPT_RING },
	{ "rx", required_argument, NULL, OPT_RX },
	{ "tx-pieces", required_argument, NULL, OPT_TX_PIECES },
	{ "packet", required_argument, NULL, OPT_PACKET },
	{ "host-io", required_argument, NULL, OPT_HOST_IO },
	{ "lazy-credit", no_argument, NULL, OPT_LAZY },
	{ "kernel", no_argument, NULL, OPT_KERNEL },
	{ "vms", required_argument, NULL, OPT_VMS },
	{ "connections", required_argument, NULL, OPT_CONNECTIONS },
	{ "concurrency", required_argument, NULL, OPT_CONCURRENCY },
	{ "from-host", no_argument, NULL, OPT_FROM_HOST },
	{ "sockbuf", required_argument, NULL, OPT_SOCKBUF },
	{ "count-syscalls", no_argument, NULL, OPT_COUNT },
	{ "verify", no_argument, NULL, OPT_VERIFY },
	{ "help", no_argument, NULL, OPT_HELP },
	{ 0 },
};

static uint32_t number(const char *text, uint32_t min, uint32_t max)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (end == text || *end != 0 || value < min || value > max)
		die("'%s' is not a number from %u to %u", text, min, max);
	return (uint32_t)value;
}

static uint32_t milliseconds(const char *text)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end != 0 || !(value >= 0 && value <= 600))
		die("'%s' is not a number of seconds up to 600", text);
	return (uint32_t)(value * 1000);
}

static enum rx_shape shape(const char *text)
{
	if (strcmp(text, "44+4096") == 0)
		return RX_SPLIT;
	if (strcmp(text, "4140") == 0)
		return RX_4140;
	if (strcmp(text, "3776") != 0)
		die("unknown RX buffers '%s'", text);
	return RX_3776;
}

/* Options that shape the guest. Return: false if it is none of them. */
static bool take_guest_option(struct guest_config *guest, int option)
{
	switch (option) {
	case OPT_RING:
		guest->ring = (uint16_t)number(optarg, 8, VQ_MAX_SIZE);
		if ((guest->ring & (guest->ring - 1)) != 0)
			die("a ring's size is a power of two");
		return true;
	case OPT_RX:
		guest->shape = shape(optarg);
		return true;
	case OPT_TX_PIECES:
		guest->tx_pieces = number(optarg, 1, 18);
		return true;
	case OPT_PACKET:
		guest->max_packet = number(optarg, 1, GUEST_MAX_PACKET);
		return true;
	case OPT_LAZY:
		guest->lazy_credit = true;
		return true;
	case OPT_KERNEL:
		guest->kernel = true;
		return true;
	case OPT_VERIFY:
		guest->verify = true;
		return true;
	default:
		return false;
	}
}

static bool take_scale_option(struct options *o, int option)
{
	switch (option) {
	case OPT_HOST_IO:
		o->host_io = number(optarg, 1, 256 * 1024);
		return true;
	case OPT_VMS:
		o->vms = number(optarg, 1, 4096);
		return true;
	case OPT_CONNECTIONS:
		o->connections = number(optarg, 1, 400000);
		return true;
	case OPT_CONCURRENCY:
		o->concurrency = number(optarg, 1, 1024);
		return true;
	case OPT_SOCKBUF:
		o->sockbuf = number(optarg, 0, 1u << 30);
		return true;
	case OPT_SECONDS:
		o->run_ms = milliseconds(optarg);
		return true;
	case OPT_WARMUP:
		o->warmup_ms = milliseconds(optarg);
		return true;
	case OPT_LIMIT:
		o->limit_s = number(optarg, 1, 3600);
		return true;
	default:
		return false;
	}
}

static void take_option(struct options *o, int option)
{
	switch (option) {
	case OPT_DAEMON:
		o->daemon = optarg;
		return;
	case OPT_LOG:
		o->log = optarg;
		return;
	case OPT_FLOW:
		if (o->flow_count == WORLD_MAX_FLOWS)
			die("too many flows");
		o->flows[o->flow_count++] = optarg;
		return;
	case OPT_FROM_HOST:
		o->from_host = true;
		return;
	case OPT_COUNT:
		o->count_syscalls = true;
		return;
	case OPT_HELP:
		fputs(usage_text, stdout);
		exit(EXIT_SUCCESS);
	default:
		fputs(usage_text, stderr);
		exit(EXIT_FAILURE);
	}
}

/* The last resort: whatever hangs, the process ends, and the daemon with it. */
static void on_alarm(int signal_number)
{
	static const char text[] = "vsock-bench: hang: the time limit has passed\n";

	(void)signal_number;
	(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
	_exit(EXIT_HANG);
}

int main(int argc, char **argv)
{
	struct options o = {
		.guest = { .ring = 256, .shape = RX_3776, .tx_pieces = 3, .max_packet = 65536 },
		.vms = 1,
		.connections = 10000,
		.concurrency = 4,
		.host_io = 65536,
		.warmup_ms = 300,
		.run_ms = 2000,
		.limit_s = 120,
	};
	int option;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (!take_guest_option(&o.guest, option) && !take_scale_option(&o, option))
			take_option(&o, option);
	}
	if (optind + 1 != argc)
		die("one workload is needed; see --help");
	signal(SIGPIPE, SIG_IGN);
	signal(SIGALRM, on_alarm);
	alarm(o.limit_s);
	raise_fd_limit();
	for (size_t i = 0; i < array_size(workloads); i++) {
		if (strcmp(workloads[i].name, argv[optind]) != 0)
			continue;
		if (o.daemon == NULL && !o.guest.kernel && strcmp(argv[optind], "base") != 0)
			die("--daemon or --kernel is needed");
		workloads[i].run(&o);
		return EXIT_SUCCESS;
	}
	die("unknown workload '%s'", argv[optind]);
}
