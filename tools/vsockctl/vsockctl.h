// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vsockctl.h - what the commands share: options, the table of commands, and
 * how a person is told that something went wrong.
 *
 * A command returns the exit status of the program. It has told the reason
 * when that is not STATUS_OK.
 */
#ifndef VSOCKCTL_VSOCKCTL_H
#define VSOCKCTL_VSOCKCTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

enum status {
	STATUS_OK = 0,
	STATUS_FAILED = 1, /* refused, not reached, broken off */
	STATUS_USAGE = 2,  /* the command line is wrong, nothing was done */
};

/** Most --uds options of one command line. */
#define MAX_UDS 256u

/** Longest uds-path: the name of a port has to fit behind it. */
#define MAX_UDS_PATH 96u

/** Most --port options of one command line. */
#define MAX_PORTS 16u

/** The options, wherever they stood on the command line. */
struct options {
	const char *control; /* path of the control socket, never NULL */
	const char *uds[MAX_UDS];
	const char *sort; /* column of top, NULL for its default */
	const char *groups;
	const char *limits; /* of set, as --vm takes them */
	size_t n_uds;
	uint32_t limit;    /* rows; 0: as many as there are */
	uint32_t interval; /* seconds between two pictures of top */
	const char *write; /* file of capture, "-" for standard output */
	uint32_t ports[MAX_PORTS];
	uint32_t n_ports;
	uint32_t snaplen; /* 0: all bytes */
	uint32_t count;   /* packets; 0: no end */
	uint32_t seconds; /* of bench */
	bool serve;       /* bench: the guest's side */
	bool json;
	bool off;
	bool no_ack; /* of the VMs of --uds */
};

struct command {
	const char *name;
	const char *arguments; /* as the help shows them */
	const char *summary;
	const char *letters; /* options it understands, see main.c */
	int min;
	int max; /* arguments; -1: any number */
	/* @argv holds the @argc arguments behind the name, then NULL. */
	int (*run)(const struct options *options, int argc, char **argv);
};

/** "vsockctl: ..." on standard error. */
void complain(const char *fmt, ...) printf_like(1, 2);

/** A number on the command line. Return: 0, or -1 after a complaint that names @what. */
int argument_u32(const char *what, const char *text, uint32_t max, uint32_t *value) must_use;

int cmd_connect(const struct options *options, int argc, char **argv);
int cmd_listen(const struct options *options, int argc, char **argv);
int cmd_forward(const struct options *options, int argc, char **argv);
int cmd_run(const struct options *options, int argc, char **argv);
int cmd_bench(const struct options *options, int argc, char **argv);

int cmd_list(const struct options *options, int argc, char **argv);
int cmd_show(const struct options *options, int argc, char **argv);
int cmd_connections(const struct options *options, int argc, char **argv);
int cmd_stats(const struct options *options, int argc, char **argv);
int cmd_top(const struct options *options, int argc, char **argv);
int cmd_add(const struct options *options, int argc, char **argv);
int cmd_remove(const struct options *options, int argc, char **argv);
int cmd_set(const struct options *options, int argc, char **argv);
int cmd_reload(const struct options *options, int argc, char **argv);
int cmd_log_level(const struct options *options, int argc, char **argv);
int cmd_drain(const struct options *options, int argc, char **argv);
int cmd_events(const struct options *options, int argc, char **argv);
int cmd_capture(const struct options *options, int argc, char **argv);

#endif
