// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_config_yaml.c - config/yaml.c: files that are accepted and what
 * they mean, the exact line for those that are not, bounds, random damage.
 */
#include "config_load.h"
#include "rng.h"

#define MUTATIONS 5000
#define FIXED_SEED UINT64_C(20)

struct file_case {
	const char *text;
	const char *expected;
};

#define ONE_VM "vms:\n- socket: s\n  uds_path: u\n"

static const struct file_case good_files[] = {
	{ ONE_VM, "3 s u 0: 262144 1024 default" },
	{ "\xef\xbb\xbf%YAML 1.1\n---\n" ONE_VM "...\n", "3 s u 0: 262144 1024 default" },
	{ "{\"vms\": [{\"socket\": \"s\", \"uds-path\": 'u', \"guest_cid\": 5}]}",
	  "5 s u 0: 262144 1024 default" },
	{ "threads: 1\nlog_level: debug\n" ONE_VM "  groups: ~\n  queue_size:\n"
	  "  tx_buffer_size: null\n",
	  "3 s u 0: 262144 1024 default" },
	{ "vms:\n- socket: s\n  forward-cid: 1\n  forward-listen: 9001\n  groups: 12\n",
	  "3 s - 1:9001 262144 1024 12" },
	{ "vms:\n- socket: s\n  forward_cid: 1\n  forward_listen: [9001, \"9002\", 1+2]\n"
	  "  groups:\n  - a\n  - b+c\n",
	  "3 s - 1:9001+9002+1+2 262144 1024 a+b+c" },
	{ "vms:\n- socket: \"s\\xe4\"\n  uds_path: \"null\"\n",
	  "3 s\xc3\xa4 null 0: 262144 1024 default" },
};

/* Bounds come from the file; an option overrides the file. */
static void test_limits(void **state)
{
	static const char text[] =
		"total_connections: 100\ntotal_buffered: 65536\nlog_rate: 7\n" ONE_VM
		"  max_connections: 9\n  max_half_open: 8\n  max_buffered: 262144\n"
		"  ack: off\n  tx-rate: 100M\n  rx_rate: 65536\n  conn-rate: 50\n";
	const char *const args[] = { "--config", FILE_NAME, "--total-connections=50", NULL };
	struct outcome outcome;

	(void)state;
	write_file(text, sizeof(text) - 1);
	outcome = load(args);
	assert_string_equal(outcome.err, "");
	assert_int_equal(outcome.config.total_connections, 50);
	assert_int_equal(outcome.config.total_buffered, 65536);
	assert_int_equal(outcome.config.log_rate, 7);
	assert_int_equal(outcome.config.vms[0].max_connections, 9);
	assert_int_equal(outcome.config.vms[0].max_half_open, 8);
	assert_int_equal(outcome.config.vms[0].max_buffered, 262144);
	assert_true(outcome.config.vms[0].no_ack);
	assert_int_equal(outcome.config.vms[0].tx_rate, 100u << 20);
	assert_int_equal(outcome.config.vms[0].rx_rate, 65536);
	assert_int_equal(outcome.config.vms[0].conn_rate, 50);
	release(&outcome);
}

static void test_default_limits(void **state)
{
	struct outcome outcome = load_file(ONE_VM, strlen(ONE_VM));

	(void)state;
	assert_int_equal(outcome.config.total_connections, 0);
	assert_int_equal(outcome.config.total_buffered, 1u << 30);
	assert_int_equal(outcome.config.log_rate, 2);
	assert_int_equal(outcome.config.vms[0].max_connections, 65536);
	assert_int_equal(outcome.config.vms[0].max_half_open, 4096);
	assert_int_equal(outcome.config.vms[0].max_buffered, 256u << 20);
	assert_false(outcome.config.vms[0].no_ack);
	release(&outcome);
}

/* Where a control socket lets VMs come later, the list may be empty. */
static void test_no_vms(void **state)
{
	static const char text[] = "vms: []\ncontrol: c\n";
	const char *const args[] = { "--config", FILE_NAME, "--control=d", NULL };
	struct outcome outcome = load_file(text, strlen(text));

	(void)state;
	assert_string_equal(outcome.err, "");
	assert_int_equal(outcome.config.vm_count, 0);
	assert_string_equal(outcome.config.control, "c");
	release(&outcome);
	write_file("vms: []", strlen("vms: []"));
	outcome = load(args);
	assert_string_equal(outcome.err, "");
	assert_int_equal(outcome.config.vm_count, 0);
	release(&outcome);
}

static void test_good_files(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(good_files); i++) {
		struct outcome outcome = load_file(good_files[i].text, strlen(good_files[i].text));

		expect_config(&outcome, good_files[i].expected);
	}
}

/* Each expectation is prefixed with the file's name. */
static const struct file_case bad_files[] = {
	{ "", "1: vms: missing, expected a list with at least one VM" },
	{ "# nothing\n\n", "1: vms: missing, expected a list with at least one VM" },
	{ "\nthreads: 1\n", "2: vms: missing, expected a list with at least one VM" },
	{ "vms:\n", "1: vms: '': expected a list with at least one VM" },
	{ "vms: []\n", "1: vms: '[]': expected a list with at least one VM" },
	{ "vms: s\n", "1: vms: 's': expected a list with at least one VM" },
	{ "vms: {}\n", "1: vms: '{...}': expected a list with at least one VM" },
	{ "- vms\n", "1: '[...]': expected a mapping with the key vms" },
	{ "vms:\n- s\n", "2: vms: 's': expected a mapping of a VM's keys" },
	{ "vms: [[[[[[[[", "1: vms: '[...]': expected a mapping of a VM's keys" },
	{ "? [a]\n: b\n", "1: '[...]': expected a key" },
	{ ONE_VM "vm: 3\n",
	  "4: 'vm': expected one of vms, threads, "
	  "poll-us, total-connections, total-buffered, log-level, log-format, log-rate, "
	  "control, metrics" },
	{ ONE_VM "  size: 3\n",
	  "4: 'size': expected one of guest-cid, socket, mode, fd, uds-path, forward-cid, "
	  "forward-listen, tx-buffer-size, queue-size, groups, max-connections, "
	  "max-half-open, max-buffered, mem-slots, ack, tx-rate, rx-rate, "
	  "conn-rate, iommu" },
	{ ONE_VM "  uds-path: u\n",
	  "4: 'uds-path': expected uds-path only once, line 3 has it already" },
	{ ONE_VM "vms: []\n", "4: 'vms': expected vms only once, line 1 has it already" },
	{ ONE_VM "  guest_cid: 2\n", "4: guest-cid: '2': expected a CID from 3 to 4294967294" },
	{ ONE_VM "  guest_cid: 3.0\n", "4: guest-cid: '3.0': expected a CID from 3 to 4294967294" },
	{ ONE_VM "  guest_cid: [3]\n",
	  "4: guest-cid: '[...]': expected a CID from 3 to 4294967294" },
	{ ONE_VM "  groups: {a: b}\n",
	  "4: groups: '{...}': expected up to 1024 names joined by '+', none of them "
	  "empty" },
	{ ONE_VM "  groups: []\n",
	  "4: groups: '[]': expected up to 1024 names joined by '+', none of them empty" },
	{ ONE_VM "  groups: [a,\n   ~]\n",
	  "5: groups: '~': expected up to 1024 names joined by '+', none of them empty" },
	{ ONE_VM "  groups: [a, [b]]\n",
	  "4: groups: '[...]': expected up to 1024 names joined by '+', none of them "
	  "empty" },
	{ ONE_VM "threads: -1\n", "4: threads: '-1': expected a number from 0 to 256" },
	{ ONE_VM "- socket: s\n  guest_cid: 4\n  uds_path: v\n",
	  "4: socket: 's': expected a path of its own, line 2 has the same" },
	{ ONE_VM "- socket: t\n  uds_path: v\n",
	  "4: guest-cid: '3': expected a CID of its own, line 2 has the same" },
	{ ONE_VM "- guest_cid: 4\n  uds_path: v\n",
	  "4: socket: missing, expected a path with a length from 1 to 107 bytes" },
	{ "vms:\n- &a\n  socket: s\n", "2: 'a': expected no anchors and aliases" },
	{ "vms:\n- socket: &b s\n", "2: 'b': expected no anchors and aliases" },
	{ "vms:\n- *c\n", "2: 'c': expected no anchors and aliases" },
	{ "vms:\n- socket: !!str s\n", "2: 'tag:yaml.org,2002:str': expected no tags" },
	{ ONE_VM "  <<: {}\n",
	  "4: '<<': expected one of guest-cid, socket, mode, fd, uds-path, forward-cid, "
	  "forward-listen, tx-buffer-size, queue-size, groups, max-connections, "
	  "max-half-open, max-buffered, mem-slots, ack, tx-rate, rx-rate, "
	  "conn-rate, iommu" },
	{ ONE_VM "---\n" ONE_VM, "4: expected a single document" },
	{ "vms:\n- socket: \"a\\0b\"\n", "2: 'a': expected text without NUL characters" },
	{ "vms:\n - socket: s\n  uds_path: u\n",
	  "3: expected correct YAML: did not find expected '-' indicator" },
	{ "vms:\n- socket: \xff\n", "2: expected correct YAML: invalid leading UTF-8 octet" },
	{ "vms:\n- socket: \"\\n\\e\"\n  guest_cid: \"\\n\"\n",
	  "3: guest-cid: '\\x0a': expected a CID from 3 to 4294967294" },
};

static void test_bad_files(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(bad_files); i++) {
		struct outcome outcome = load_file(bad_files[i].text, strlen(bad_files[i].text));
		char expected[512];

		snprintf(expected, sizeof(expected), FILE_NAME ":%s", bad_files[i].expected);
		expect_error(&outcome, expected);
	}
}

static void test_options_win_over_file(void **state)
{
	static const char text[] = ONE_VM "- socket: t\n  uds_path: v\n  guest_cid: 4\n"
					  "threads: 2\nlog-level: error\npoll-us: 50\n";
	const char *const plain[] = { "--config", FILE_NAME, NULL };
	const char *const both[] = { "--threads=1", "--config", FILE_NAME, "--log-level=trace",
				     NULL };
	struct outcome outcome;

	(void)state;
	write_file(text, strlen(text));
	outcome = load(plain);
	assert_int_equal(outcome.result, CONFIG_RUN);
	assert_int_equal(outcome.config.threads, 2);
	assert_int_equal(outcome.config.poll_us, 50);
	assert_int_equal(outcome.config.log_level, LOG_ERROR);
	release(&outcome);
	outcome = load(both);
	assert_int_equal(outcome.result, CONFIG_RUN);
	assert_int_equal(outcome.config.threads, 1);
	assert_int_equal(outcome.config.log_level, LOG_TRACE);
	release(&outcome);
}

/* A file of @vms VMs of which the last has @ports ports, filled up to @bytes by a comment. */
static enum config_result load_generated(unsigned int vms, unsigned int ports, size_t bytes)
{
	struct outcome outcome;
	enum config_result result;
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	fputs("vms:\n", f);
	for (unsigned int i = 0; i < vms; i++)
		fprintf(f, "- {guest_cid: %u, socket: /run/vms/s%u, forward_cid: 1}\n", i + 3, i);
	fseek(f, -2, SEEK_CUR);
	fputs(", forward_listen: [1", f);
	for (unsigned int i = 2; i <= ports; i++)
		fprintf(f, ",%u", i);
	fputs("]}\n#", f);
	while ((size_t)ftell(f) < bytes)
		fputc('x', f);
	fclose(f);
	outcome = load_file(text, size);
	result = outcome.result;
	assert_int_equal(outcome.config.vm_count, result == CONFIG_RUN ? vms : 0);
	release(&outcome);
	free(text);
	return result;
}

static void test_bounds(void **state)
{
	(void)state;
	assert_int_equal(load_generated(CONFIG_MAX_VMS, 1, 0), CONFIG_RUN);
	assert_int_equal(load_generated(CONFIG_MAX_VMS + 1, 1, 0), CONFIG_ERROR);
	assert_int_equal(load_generated(1, CONFIG_MAX_LIST, 0), CONFIG_RUN);
	assert_int_equal(load_generated(1, CONFIG_MAX_LIST + 1, 0), CONFIG_ERROR);
	assert_int_equal(load_generated(1, 1, CONFIG_MAX_FILE_BYTES), CONFIG_RUN);
	assert_int_equal(load_generated(1, 1, CONFIG_MAX_FILE_BYTES + 1), CONFIG_ERROR);
}

/* One line that a terminal shows as it is. */
static void check_line(const char *line)
{
	size_t len = strlen(line);

	assert_in_range(len, 2, 2048);
	assert_ptr_equal(strchr(line, '\n'), line + len - 1);
	for (size_t i = 0; i + 1 < len; i++)
		assert_false((unsigned char)line[i] < 0x20 || line[i] == 0x7f);
	assert_memory_equal(line, "vhost-device-vsock: ", 20);
}

static void test_damaged_file(void **state)
{
	static const char text[] =
		"threads: 2\nlog-level: info\nvms:\n"
		"- guest-cid: 3\n  socket: \"/run/\\x61\"\n  uds-path: /run/b\n"
		"  groups: [a, 'b']\n  tx-buffer-size: 65536\n"
		"- {guest_cid: 4, socket: /run/c, forward_cid: 1, forward_listen: 1+2+3}\n";
	struct rng rng = { .state = FIXED_SEED };
	unsigned int accepted = 0;

	(void)state;
	for (unsigned int i = 0; i < MUTATIONS; i++) {
		char damaged[sizeof(text)];
		uint32_t flips = 1 + rng_below(&rng, 3);
		struct outcome outcome;

		memcpy(damaged, text, sizeof(text));
		while (flips-- > 0)
			damaged[rng_below(&rng, sizeof(text) - 1)] = (char)rng_below(&rng, 256);
		outcome = load_file(damaged, sizeof(text) - 1);
		if (outcome.result == CONFIG_RUN) {
			assert_string_equal(outcome.err, "");
			accepted++;
		} else {
			assert_int_equal(outcome.result, CONFIG_ERROR);
			check_line(outcome.err);
		}
		release(&outcome);
	}
	/* Neither side of the decision may be vacuous. */
	assert_in_range(accepted, MUTATIONS / 100, MUTATIONS / 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_files), cmocka_unit_test(test_no_vms),
		cmocka_unit_test(test_limits),     cmocka_unit_test(test_default_limits),
		cmocka_unit_test(test_bad_files),  cmocka_unit_test(test_options_win_over_file),
		cmocka_unit_test(test_bounds),     cmocka_unit_test(test_damaged_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
