// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * cmd_capture.c - "capture": packets of a VM into a pcap file or a pipe, until
 * a signal, the wanted number, or the end of the VM, the daemon or the reader.
 *
 * To end, our side of the connection is shut down; the daemon answers by what it
 * still has and a last record, which tells how many packets were lost.
 */
#include <errno.h>
#include <pcap/pcap.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "common/hybrid.h"
#include "vsockctl/capture.h"
#include "vsockctl/control.h"
#include "vsockctl/vsockctl.h"

#define LINKTYPE_VSOCK 271
#define MAX_SNAPLEN 262144u
#define READ_BYTES (1024u * 1024u) /* more than one record */
#define LAST_RECORD_MS 5000        /* to wait for it */
#define NANOSECONDS UINT64_C(1000000000)

/** A capture under way. */
struct capture {
	struct control control;
	const struct options *options;
	pcap_t *pcap;
	pcap_dumper_t *dumper;
	uint8_t *bytes; /* READ_BYTES */
	size_t length;  /* of what came and is not taken apart */
	int signals;
	uint64_t packets;
	uint64_t lost;
	int64_t deadline; /* for the last record; INT64_MAX: we did not ask for it */
	bool ended;       /* it came */
};

static json_t *params_of(const struct options *options, uint32_t cid)
{
	json_t *ports = json_array();

	for (uint32_t i = 0; i < options->n_ports; i++)
		(void)json_array_append_new(ports, json_integer(options->ports[i]));
	return json_pack("{s:I, s:o, s:I}", "cid", (json_int_t)cid, "ports", ports, "snaplen",
			 (json_int_t)(options->snaplen > 0 ? options->snaplen : MAX_SNAPLEN));
}

/* Return: 0, or -1 after a complaint. */
static int ask(struct capture *capture, uint32_t cid)
{
	json_t *result;

	if (control_open(&capture->control, capture->options->control) < 0)
		return -1;
	result = control_call(&capture->control, "capture", params_of(capture->options, cid));
	json_decref(result);
	if (result == NULL)
		return -1;
	/* what came with the answer is the stream's beginning */
	capture->bytes = malloc(READ_BYTES);
	capture->length = capture->control.len - capture->control.done;
	if (capture->bytes == NULL || capture->length > READ_BYTES) {
		complain("no memory for packets");
		return -1;
	}
	memcpy(capture->bytes, capture->control.data + capture->control.done, capture->length);
	return 0;
}

static int open_file(struct capture *capture)
{
	const struct options *options = capture->options;

	capture->pcap = pcap_open_dead_with_tstamp_precision(
		LINKTYPE_VSOCK, options->snaplen > 0 ? (int)options->snaplen : (int)MAX_SNAPLEN,
		PCAP_TSTAMP_PRECISION_NANO);
	if (capture->pcap != NULL)
		capture->dumper = pcap_dump_open(capture->pcap, options->write);
	/* a reader begins with the file's header */
	if (capture->dumper != NULL && pcap_dump_flush(capture->dumper) == 0)
		return 0;
	complain("cannot write: %s", capture->pcap != NULL ? pcap_geterr(capture->pcap) : "memory");
	return -1;
}

/* No further packets; what the daemon has still comes. */
static void ask_for_end(struct capture *capture)
{
	if (capture->deadline != INT64_MAX)
		return;
	(void)shutdown(capture->control.fd, SHUT_WR);
	capture->deadline = hybrid_now_ms() + LAST_RECORD_MS;
}

static bool has_all(const struct capture *capture)
{
	return capture->options->count > 0 && capture->packets >= capture->options->count;
}

static void take(struct capture *capture, const struct capture_record *record)
{
	const struct pcap_pkthdr header = {
		.ts = { .tv_sec = (time_t)(record->time_ns / NANOSECONDS),
			.tv_usec = (suseconds_t)(record->time_ns % NANOSECONDS) },
		.caplen = record->kept,
		.len = record->length,
	};

	if (!has_all(capture))
		capture->lost = record->lost;
	if (record->kept == 0)
		capture->ended = true;
	if (record->kept == 0 || has_all(capture))
		return;
	pcap_dump((u_char *)capture->dumper, &header, record->packet);
	capture->packets++;
	if (has_all(capture))
		ask_for_end(capture);
}

/* Take apart what has come. Return: 0, or -1 after a complaint. */
static int take_all(struct capture *capture)
{
	struct capture_record record;
	size_t done = 0;
	ssize_t got = 1;

	while (got > 0 && !capture->ended) {
		got = capture_next(capture->bytes + done, capture->length - done, &record);
		if (got > 0)
			take(capture, &record);
		done += got > 0 ? (size_t)got : 0;
	}
	capture->length -= done;
	memmove(capture->bytes, capture->bytes + done, capture->length);
	if (got < 0) {
		complain("the daemon sent what is no packet");
		return -1;
	}
	if (pcap_dump_flush(capture->dumper) == 0)
		return 0;
	complain("cannot write the packets: %s", strerror(errno));
	return -1;
}

/* Return: 0, or -1 after a complaint. */
static int receive(struct capture *capture)
{
	ssize_t got = recv(capture->control.fd, capture->bytes + capture->length,
			   READ_BYTES - capture->length, MSG_DONTWAIT);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (got <= 0) {
		complain("the daemon broke the capture off");
		return -1;
	}
	capture->length += (size_t)got;
	return 0;
}

/* Return: 0, or -1 after a complaint or when it is of no use to go on. */
static int wait_and_receive(struct capture *capture)
{
	struct pollfd polls[] = {
		{ .fd = capture->control.fd, .events = POLLIN },
		{ .fd = capture->signals, .events = POLLIN },
		{ .fd = strcmp(capture->options->write, "-") == 0 ? STDOUT_FILENO : -1 },
	};
	int64_t left = capture->deadline - hybrid_now_ms();
	int timeout = capture->deadline == INT64_MAX ? -1 : (int)(left > 0 ? left : 0);
	struct signalfd_siginfo info;
	int ready = poll(polls, array_size(polls), timeout);

	if (ready == 0) {
		complain("the daemon did not say how many packets were lost");
		return -1;
	}
	if (ready < 0)
		return errno == EINTR ? 0 : -1;
	if (polls[1].revents != 0 && read(capture->signals, &info, sizeof(info)) > 0)
		ask_for_end(capture);
	if (polls[2].revents != 0) { /* whoever read our output is gone */
		ask_for_end(capture);
		return -1;
	}
	return polls[0].revents != 0 ? receive(capture) : 0;
}

static int run(struct capture *capture)
{
	int err = take_all(capture);

	while (err == 0 && !capture->ended) {
		err = wait_and_receive(capture);
		if (err == 0)
			err = take_all(capture);
	}
	return err < 0 ? STATUS_FAILED : STATUS_OK;
}

static void tell(const struct capture *capture)
{
	FILE *to = strcmp(capture->options->write, "-") == 0 ? stderr : stdout;

	if (capture->ended && capture->deadline == INT64_MAX)
		complain("the VM has ended");
	if (capture->options->json)
		fprintf(to, "{\"packets\":%llu,\"lost\":%llu}\n",
			(unsigned long long)capture->packets, (unsigned long long)capture->lost);
	else
		complain("%llu packets captured, %llu lost", (unsigned long long)capture->packets,
			 (unsigned long long)capture->lost);
}

static int watch_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void clean_up(struct capture *capture)
{
	if (capture->dumper != NULL)
		pcap_dump_close(capture->dumper);
	if (capture->pcap != NULL)
		pcap_close(capture->pcap);
	free(capture->bytes);
	fd_close(&capture->signals);
	control_close(&capture->control);
}

static int check(const struct options *options)
{
	if (options->write == NULL)
		complain("capture: expected -w FILE, or -w - for standard output");
	else if (strcmp(options->write, "-") == 0 && isatty(STDOUT_FILENO))
		complain("capture: standard output is a terminal: pipe it to wireshark -k -i -");
	else if (options->snaplen > MAX_SNAPLEN)
		complain("--snaplen '%u': expected at most %u", options->snaplen, MAX_SNAPLEN);
	else
		return 0;
	return -1;
}

int cmd_capture(const struct options *options, int argc, char **argv)
{
	struct capture capture = {
		.options = options,
		.control.fd = -1,
		.signals = -1,
		.deadline = INT64_MAX,
	};
	int status = STATUS_FAILED;
	uint32_t cid;

	(void)argc;
	if (argument_u32("CID", argv[0], UINT32_MAX, &cid) < 0 || check(options) < 0)
		return STATUS_USAGE;
	capture.signals = watch_signals();
	if (ask(&capture, cid) == 0 && open_file(&capture) == 0) {
		status = run(&capture);
		tell(&capture);
	}
	clean_up(&capture);
	return status;
}
