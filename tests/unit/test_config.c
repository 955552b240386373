// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_config.c - what is in config/: the command line: what is accepted and what
 * it means, and the exact line for what is not. Files: test_config_yaml.c.
 */
#include <sched.h>

#include "config_load.h"

#define VM3 "socket=s,uds-path=u"
#define VM4 "guest-cid=4,socket=s4,uds-path=u4"

struct args_case {
	const char *args[MAX_ARGS];
	const char *expected;
};

static const struct args_case good_options[] = {
	{ { "--socket", "s", "--uds-path", "u" }, "3 s u 0: 262144 1024 default" },
	{ { "--socket=s=x", "--uds-path=u", "--guest-cid=4294967294", "--" },
	  "4294967294 s=x u 0: 262144 1024 default" },
	{ { "--socket=s", "--forward-cid", "1", "--forward-listen", "0+9001+4294967294",
	    "--tx-buffer-size=4096" },
	  "3 s - 1:0+9001+4294967294 4096 1024 default" },
	{ { "--socket=s", "--uds-path=u", "--groups=a+b", "--queue-size=1",
	    "--tx-buffer-size=67108864" },
	  "3 s u 0: 67108864 1 a+b" },
	{ { "--socket=-", "--uds_path=-x", "--queue_size", "32768" },
	  "3 - -x 0: 262144 32768 default" },
	{ { "--vm", VM3, "--vm=" VM4 },
	  "3 s u 0: 262144 1024 default; 4 s4 u4 0: 262144 1024 default" },
	{ { "--vm", " guest_cid=007,socket=s,forward_cid=2,forward_listen=1+2/seqpacket,"
		    "tx_buffer_size=32768,queue_size=256,groups=a\n" },
	  "7 s - 2:1+2/seqpacket 32768 256 a" },
	{ { "--vm", "socket=vm_1_2,uds-path=vm_01" }, "3 vm_1_2 vm_01 0: 262144 1024 default" },
	{ { "--vm", "socket=vm_4294967296,uds-path=vm" },
	  "3 vm_4294967296 vm 0: 262144 1024 default" },
	{ { "--vm", "socket=vm/a,uds-path=/vm/a" }, "3 vm/a /vm/a 0: 262144 1024 default" },
};

static void test_good_options(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(good_options); i++) {
		struct outcome outcome = load(good_options[i].args);

		expect_config(&outcome, good_options[i].expected);
	}
}

static const struct args_case bad_options[] = {
	{ { NULL }, "--socket: missing, expected a path with a length from 1 to 107 bytes" },
	{ { "--uds-path=u" },
	  "--socket: missing, expected a path with a length from 1 to 107 bytes" },
	{ { "--socket=s" }, "--uds-path: missing, expected one of uds-path and forward-cid" },
	{ { "--socket=s", "--uds-path=u", "--forward-cid=1" },
	  "--forward-cid: '1': expected only one of uds-path and forward-cid" },
	{ { "--socket=s", "--uds-path=u", "--forward-listen=80" },
	  "--forward-listen: '80': expected forward-cid beside it" },
	{ { "--socket=s", "--forward-listen=80" },
	  "--forward-listen: '80': expected forward-cid beside it" },
	{ { "--forward-cid=0" }, "--forward-cid: '0': expected a CID from 1 to 4294967294" },
	{ { "--guest-cid", "2" }, "--guest-cid: '2': expected a CID from 3 to 4294967294" },
	{ { "--guest-cid=4294967295" },
	  "--guest-cid: '4294967295': expected a CID from 3 to 4294967294" },
	{ { "--guest-cid=18446744073709551619" },
	  "--guest-cid: '18446744073709551619': expected a CID from 3 to 4294967294" },
	{ { "--guest-cid=+3" }, "--guest-cid: '+3': expected a CID from 3 to 4294967294" },
	{ { "--guest-cid= 3" }, "--guest-cid: ' 3': expected a CID from 3 to 4294967294" },
	{ { "--guest-cid=0x10" }, "--guest-cid: '0x10': expected a CID from 3 to 4294967294" },
	{ { "--guest-cid=" }, "--guest-cid: '': expected a CID from 3 to 4294967294" },
	{ { "--guest-cid", "3", "--guest-cid", "4" },
	  "--guest-cid: '4': expected guest-cid only once" },
	{ { "--guest-cid", "--socket=s" },
	  "--guest-cid: missing, expected a CID from 3 to 4294967294" },
	{ { "--queue-size=0" }, "--queue-size: '0': expected a power of two from 1 to 32768" },
	{ { "--queue-size=1000" },
	  "--queue-size: '1000': expected a power of two from 1 to 32768" },
	{ { "--queue-size=65536" },
	  "--queue-size: '65536': expected a power of two from 1 to 32768" },
	{ { "--tx-buffer-size=4095" },
	  "--tx-buffer-size: '4095': expected a number of bytes from 4096 to 67108864" },
	{ { "--tx-buffer-size=64k" },
	  "--tx-buffer-size: '64k': expected a number of bytes from 4096 to 67108864" },
	{ { "--socket=" }, "--socket: '': expected a path with a length from 1 to 107 bytes" },
	{ { "--forward-listen=1+2+1" },
	  "--forward-listen: '1+2+1': expected up to 1024 different ports joined by '+', "
	  "from 0 to 4294967294" },
	{ { "--forward-listen=" },
	  "--forward-listen: '': expected up to 1024 different ports joined by '+', "
	  "from 0 to 4294967294" },
	{ { "--groups=a++b" },
	  "--groups: 'a++b': expected up to 1024 names joined by '+', none of them empty" },
	{ { "--threads=257" }, "--threads: '257': expected a number from 0 to 256" },
	{ { "--poll-us=1001" }, "--poll-us: '1001': expected a number from 0 to 1000" },
	{ { "--threads=1", "--threads=1" }, "--threads: '1': expected threads only once" },
	{ { "--log-level", "loud" },
	  "--log-level: 'loud': expected one of error, warning, notice, info, debug, "
	  "trace" },
	{ { "--help=yes" }, "--help: 'yes': expected no value" },
	{ { "--bogus" }, "'--bogus': expected an option that --help lists" },
	{ { "--vms=1" }, "'--vms=1': expected an option that --help lists" },
	{ { "--=1" }, "'--=1': expected an option that --help lists" },
	{ { "-v" }, "'-v': expected an option that --help lists" },
	{ { "" }, "'': expected an option that --help lists" },
	{ { "--", "x" }, "'--': expected an option that --help lists" },
	{ { "a\nb\x1b[31m'\\\xc3\xa4\xc2\x9b\xe2\x80\xae\xff" },
	  "'a\\x0ab\\x1b[31m\\x27\\x5c\xc3\xa4\\xc2\\x9b\\xe2\\x80\\xae\\xff': "
	  "expected an option that --help lists" },
};

static void test_bad_options(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(bad_options); i++) {
		struct outcome outcome = load(bad_options[i].args);

		expect_error(&outcome, bad_options[i].expected);
	}
}

static const struct args_case bad_vms[] = {
	{ { "--vm" }, "--vm: missing, expected KEY=VALUE pairs separated by ','" },
	{ { "--vm=" }, "--vm 1: '': expected KEY=VALUE pairs separated by ','" },
	{ { "--vm", VM3 "," }, "--vm 1: '': expected KEY=VALUE pairs separated by ','" },
	{ { "--vm", VM4, "--vm", "socket" },
	  "--vm 2: 'socket': expected KEY=VALUE pairs separated by ','" },
	{ { "--vm", VM4, "--vm", VM3 ",size=3" },
	  "--vm 2: 'size': expected one of guest-cid, socket, mode, fd, uds-path, forward-cid, "
	  "forward-listen, tx-buffer-size, queue-size, groups, max-connections, "
	  "max-half-open, max-buffered, mem-slots, ack, tx-rate, rx-rate, "
	  "conn-rate, iommu" },
	{ { "--vm", VM3 ",threads=3" },
	  "--vm 1: 'threads': expected one of guest-cid, socket, mode, fd, uds-path, forward-cid, "
	  "forward-listen, tx-buffer-size, queue-size, groups, max-connections, "
	  "max-half-open, max-buffered, mem-slots, ack, tx-rate, rx-rate, "
	  "conn-rate, iommu" },
	{ { "--vm", VM3 ",max-connections=0" },
	  "--vm 1: max-connections: '0': expected a number from 1 to 65536" },
	{ { "--vm", VM3 ",max-half-open=65537" },
	  "--vm 1: max-half-open: '65537': expected a number from 1 to 65536" },
	{ { "--vm", VM3 ",max-buffered=4095" },
	  "--vm 1: max-buffered: '4095': expected a number of bytes from 4096 to 4294967295" },
	{ { "--vm", VM3 ",ack=no" }, "--vm 1: ack: 'no': expected on or off" },
	{ { "--vm", VM3 ",tx-rate=65535" },
	  "--vm 1: tx-rate: '65535': expected 0, or bytes per second (K, M, G: times 1024) from "
	  "65536 to 4294967295" },
	{ { "--vm", VM3 ",rx-rate=4G" },
	  "--vm 1: rx-rate: '4G': expected 0, or bytes per second (K, M, G: times 1024) from "
	  "65536 to 4294967295" },
	{ { "--vm", VM3 ",rx-rate=1MB" },
	  "--vm 1: rx-rate: '1MB': expected 0, or bytes per second (K, M, G: times 1024) from "
	  "65536 to 4294967295" },
	{ { "--vm", VM3 ",rx-rate=M" },
	  "--vm 1: rx-rate: 'M': expected 0, or bytes per second (K, M, G: times 1024) from "
	  "65536 to 4294967295" },
	{ { "--vm", VM3 ",conn-rate=1000001" },
	  "--vm 1: conn-rate: '1000001': expected a number from 0 to 1000000" },
	{ { "--vm", VM3, "--log-rate=0" }, "--log-rate: '0': expected a number from 1 to 1000000" },
	{ { "--vm", VM3, "--total-buffered=4k" },
	  "--total-buffered: '4k': expected a number of bytes from 4096 to 4294967295" },
	{ { "--vm", VM3 ",uds_path=u" }, "--vm 1: uds-path: 'u': expected uds-path only once" },
	{ { "--vm", VM3 ",guest-cid=1" },
	  "--vm 1: guest-cid: '1': expected a CID from 3 to 4294967294" },
	{ { "--vm", VM4, "--vm", "uds-path=u" },
	  "--vm 2: socket: missing, expected a path with a length from 1 to 107 bytes" },
	{ { "--vm", VM4, "--vm", "socket=s" },
	  "--vm 2: uds-path: missing, expected one of uds-path and forward-cid" },
	{ { "--vm", VM3, "--vm", VM4, "--vm", "socket=s5,uds-path=u5" },
	  "--vm 3: guest-cid: '3': expected a CID of its own, --vm 1 has the same" },
	{ { "--vm", VM3, "--vm", "guest-cid=4,socket=.//s,uds-path=u5" },
	  "--vm 2: socket: './/s': expected a path of its own, --vm 1 has the same" },
	{ { "--vm", "socket=/a,uds-path=/./a" },
	  "--vm 1: uds-path: '/./a': expected a path of its own, --vm 1 has the same" },
	{ { "--socket=a", "--uds-path=a" },
	  "--uds-path: 'a': expected a path of its own, --socket has the same" },
	{ { "--vm", VM3, "--vm", "guest-cid=4,socket=u_4294967295,uds-path=u4" },
	  "--vm 2: socket: 'u_4294967295': expected a path that is not the uds-path of "
	  "--vm 1 with '_PORT'" },
	{ { "--vm", "socket=s,uds-path=/a/u_0", "--vm", "guest-cid=4,socket=s4,uds-path=/a//u" },
	  "--vm 1: uds-path: '/a/u_0': expected a path that is not the uds-path of --vm 2 "
	  "with '_PORT'" },
	{ { "--vm", VM3, "--guest-cid=4" },
	  "--guest-cid: '4': expected no --guest-cid together with --vm" },
	{ { "--socket=s", "--vm", VM3 },
	  "--vm: '" VM3 "': expected no --vm together with --socket" },
	{ { "--config=f", "--vm", VM3 },
	  "--vm: '" VM3 "': expected no --vm together with --config" },
	{ { "--uds-path=u", "--config=f" },
	  "--config: 'f': expected no --config together with --uds-path" },
	{ { "--config=f", "--config=f" }, "--config: 'f': expected config only once" },
	{ { "--config=/nowhere/f" },
	  "--config: '/nowhere/f': expected a readable file (No such file or directory)" },
	{ { "--config=/" }, "--config: '/': expected a readable file (Is a directory)" },
	{ { "--config=/dev/zero" },
	  "--config: '/dev/zero': expected a file of at most 1048576 bytes" },
};

static void test_bad_vms(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(bad_vms); i++) {
		struct outcome outcome = load(bad_vms[i].args);

		expect_error(&outcome, bad_vms[i].expected);
	}
}

static void test_threads(void **state)
{
	const char *const automatic[] = { "--vm", VM3, "--vm", VM4, NULL };
	const char *const many[] = { "--vm", VM3, "--vm", VM4, "--threads=256", NULL };
	struct outcome outcome;
	cpu_set_t before;
	cpu_set_t one;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	CPU_ZERO(&one);
	for (size_t cpu = 0; CPU_COUNT(&one) == 0; cpu++) {
		if (CPU_ISSET(cpu, &before))
			CPU_SET(cpu, &one);
	}
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	outcome = load(automatic);
	assert_int_equal(outcome.config.threads, 1);
	assert_int_equal(outcome.config.log_level, LOG_NOTICE);
	release(&outcome);
	outcome = load(many);
	assert_int_equal(outcome.config.threads, 2);
	release(&outcome);
	assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
	outcome = load(automatic);
	assert_int_equal(outcome.config.threads, CPU_COUNT(&before) > 1 ? 2 : 1);
	release(&outcome);
}

static enum config_result load_lengths(unsigned int socket_len, unsigned int uds_len)
{
	char socket[256];
	char uds[256];
	const char *const args[] = { socket, uds, NULL };
	struct outcome outcome;

	snprintf(socket, sizeof(socket), "--socket=%0*d", (int)socket_len, 1);
	snprintf(uds, sizeof(uds), "--uds-path=%0*d", (int)uds_len, 2);
	outcome = load(args);
	release(&outcome);
	return outcome.result;
}

static void test_path_lengths(void **state)
{
	(void)state;
	assert_int_equal(load_lengths(107, 96), CONFIG_RUN);
	assert_int_equal(load_lengths(108, 96), CONFIG_ERROR);
	assert_int_equal(load_lengths(107, 97), CONFIG_ERROR);
}

static void test_help_and_version(void **state)
{
	const char *const help[] = { "-h", "--bogus", NULL };
	const char *const version[] = { "--socket=s", "--version", NULL };
	struct outcome outcome = load(help);

	(void)state;
	assert_int_equal(outcome.result, CONFIG_DONE);
	assert_string_equal(outcome.err, "");
	assert_non_null(strstr(outcome.out, "\n      --tx-buffer-size BYTES\n"));
	assert_non_null(strstr(outcome.out, "\n          [default: 262144]\n"));
	release(&outcome);
	outcome = load(version);
	assert_int_equal(outcome.result, CONFIG_DONE);
	assert_string_equal(outcome.out, "vhost-device-vsock 0.1.0\n");
	release(&outcome);
}

static void test_full_output_is_an_error(void **state)
{
	char *argv[] = { (char[]){ "program" }, (char[]){ "--help" }, NULL };
	struct config config;
	char line[128] = "";
	FILE *err = fmemopen(line, sizeof(line), "w");
	FILE *full = fopen("/dev/full", "w");

	(void)state;
	assert_non_null(full);
	assert_int_equal(config_load(&config, 2, argv, full, err), CONFIG_ERROR);
	fclose(full);
	fclose(err);
	assert_string_equal(line, "vhost-device-vsock: Input/output error\n");
	config_free(&config);
	config_free(&config);
}

static void test_share_group(void **state)
{
	const char *const args[] = { "--vm", VM3 ",groups=a+b",
				     "--vm", VM4 ",groups=c+b",
				     "--vm", "guest-cid=5,socket=s5,uds-path=u5,groups=aa",
				     NULL };
	struct outcome outcome = load(args);
	const struct vm_config *vms = outcome.config.vms;

	(void)state;
	assert_int_equal(outcome.result, CONFIG_RUN);
	assert_true(config_share_group(&vms[0], &vms[1]));
	assert_true(config_share_group(&vms[1], &vms[0]));
	assert_false(config_share_group(&vms[0], &vms[2]));
	assert_false(config_share_group(&vms[2], &vms[1]));
	release(&outcome);
}

/* With a control socket VMs can come later, and threads are not bound to their number. */
static void test_control(void **state)
{
	static const char *const none[] = { "--control", "/c", "--threads", "5", NULL };
	static const char *const twice[] = { "--control=a", "--control=b", NULL };
	struct outcome outcome = load(none);

	(void)state;
	assert_int_equal(outcome.result, CONFIG_RUN);
	assert_string_equal(outcome.config.control, "/c");
	assert_int_equal(outcome.config.vm_count, 0);
	assert_int_equal(outcome.config.threads, 5);
	release(&outcome);
	outcome = load(twice);
	expect_error(&outcome, "--control: 'b': expected control only once");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_options),
		cmocka_unit_test(test_bad_options),
		cmocka_unit_test(test_bad_vms),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_path_lengths),
		cmocka_unit_test(test_help_and_version),
		cmocka_unit_test(test_full_output_is_an_error),
		cmocka_unit_test(test_share_group),
		cmocka_unit_test(test_control),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
