// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_config_vm.c - single VMs: parsed beside others, copied, compared.
 */
#include <errno.h>

#include "config_load.h"

#include "config/config.h"

#define A "guest-cid=3,socket=/s/a,uds-path=/u/a,groups=x+y"
#define B "guest-cid=4,socket=/s/b,forward-cid=1,forward-listen=7+9,queue-size=64"

/* What config_parse_vm() says, with the error as text; free it. */
static int parse(struct vm_config **vm, const char *text, const struct vm_config *other, char **err)
{
	size_t size = 0;
	FILE *stream = open_memstream(err, &size);
	int ret = config_parse_vm(vm, text, &other, other ? 1 : 0, stream);

	fclose(stream);
	return ret;
}

static struct vm_config *vm_of(const char *text)
{
	struct vm_config *vm = NULL;
	char *err = NULL;

	assert_int_equal(parse(&vm, text, NULL, &err), 0);
	assert_string_equal(err, "");
	free(err);
	return vm;
}

static void expect_refused(const char *text, const struct vm_config *other, const char *expected)
{
	struct vm_config *vm = NULL;
	char *err = NULL;

	assert_int_equal(parse(&vm, text, other, &err), -EINVAL);
	assert_null(vm);
	assert_string_equal(err, expected);
	free(err);
}

static void test_parse(void **state)
{
	struct vm_config *vm = vm_of("guest_cid=9,socket=s,uds-path=u");

	(void)state;
	assert_int_equal(vm->guest_cid, 9);
	assert_string_equal(vm->socket, "s");
	assert_int_equal(vm->tx_buffer_size, CONFIG_DEFAULT_TX_BUFFER_SIZE);
	assert_int_equal(vm->group_count, 1);
	assert_string_equal(vm->groups[0], CONFIG_DEFAULT_GROUP);
	config_free_vm(vm);
	config_free_vm(NULL);
}

/* Where the VMM is, and what it is offered. */
static void test_vmm(void **state)
{
	struct vm_config *plain = vm_of("socket=s,uds-path=u");
	struct vm_config *spelt = vm_of("socket-path=s,uds-path=u,mode=server,mem-slots=on");
	struct vm_config *client = vm_of("socket=s,uds-path=u,mode=client");
	struct vm_config *table = vm_of("socket=s,uds-path=u,mem-slots=off");
	struct vm_config *lent = vm_of("fd=3,uds-path=u");

	(void)state;
	assert_true(config_same_vm(plain, spelt));
	assert_true(client->dials && !plain->dials);
	assert_true(table->no_mem_slots && !plain->no_mem_slots);
	assert_false(config_same_vm(plain, client));
	assert_false(config_same_vm(plain, table));
	assert_null(lent->socket);
	assert_int_equal(lent->fd, 3);
	assert_false(config_same_vm(plain, lent));
	config_free_vm(plain);
	config_free_vm(spelt);
	config_free_vm(client);
	config_free_vm(table);
	config_free_vm(lent);
	expect_refused("fd=2,uds-path=u", NULL,
		       "vhost-device-vsock: --vm 1: fd: '2': expected a descriptor from 3 to "
		       "1048575\n");
	expect_refused("fd=3,socket=s,uds-path=u", NULL,
		       "vhost-device-vsock: --vm 1: fd: '3': expected neither socket nor "
		       "mode=client beside it\n");
	expect_refused("mode=client,uds-path=u", NULL,
		       "vhost-device-vsock: --vm 1: socket: missing, expected a path with a length "
		       "from 1 to 107 bytes\n");
	expect_refused("socket=s,uds-path=u,mem-slots=no", NULL,
		       "vhost-device-vsock: --vm 1: mem-slots: 'no': expected on or off\n");
}

static void test_refused_alone(void **state)
{
	(void)state;
	expect_refused(
		"", NULL,
		"vhost-device-vsock: --vm 1: '': expected KEY=VALUE pairs separated by ','\n");
	expect_refused("socket=s,uds-path=u,guest-cid=1", NULL,
		       "vhost-device-vsock: --vm 1: guest-cid: '1': expected a CID from 3 to "
		       "4294967294\n");
	expect_refused("socket=s", NULL,
		       "vhost-device-vsock: --vm 1: uds-path: missing, expected one of uds-path "
		       "and forward-cid\n");
}

static void test_refused_beside_another(void **state)
{
	struct vm_config *other = vm_of(A);

	(void)state;
	expect_refused("guest-cid=3,socket=s,uds-path=u", other,
		       "vhost-device-vsock: --vm 1: guest-cid: '3': expected a CID of its own, "
		       "VM 3 has the same\n");
	expect_refused("guest-cid=9,socket=/u//a,uds-path=u", other,
		       "vhost-device-vsock: --vm 1: socket: '/u//a': expected a path of its own, "
		       "VM 3 has the same\n");
	expect_refused("guest-cid=9,socket=/u/a_80,uds-path=u", other,
		       "vhost-device-vsock: --vm 1: socket: '/u/a_80': expected a path that is not "
		       "the uds-path of VM 3 with '_PORT'\n");
	config_free_vm(other);
}

/* As when a file comes to VMs that were added. */
static void test_too_many_together(void **state)
{
	static const struct vm_config *many[CONFIG_MAX_VMS + 1];
	struct vm_config *vm = vm_of(A);
	char *text = NULL;
	size_t size = 0;
	FILE *err = open_memstream(&text, &size);

	(void)state;
	for (size_t i = 0; i < array_size(many); i++)
		many[i] = vm;
	assert_int_equal(config_check_vms(many, array_size(many), err), -EINVAL);
	fclose(err);
	assert_non_null(strstr(text, "at most 4096 VMs"));
	free(text);
	config_free_vm(vm);
}

static void test_check_together(void **state)
{
	struct vm_config *a = vm_of(A);
	struct vm_config *b = vm_of(B);
	const struct vm_config *both[] = { a, b };
	const struct vm_config *twice[] = { a, a };
	char *text = NULL;
	size_t size = 0;
	FILE *err = open_memstream(&text, &size);

	(void)state;
	assert_int_equal(config_check_vms(NULL, 0, err), 0);
	assert_int_equal(config_check_vms(both, 2, err), 0);
	assert_int_equal(config_check_vms(twice, 2, err), -EINVAL);
	fclose(err);
	assert_non_null(strstr(text, "VM 3: guest-cid: '3'"));
	free(text);
	config_free_vm(a);
	config_free_vm(b);
}

static void test_copies_are_the_same(void **state)
{
	struct vm_config *a = vm_of(A);
	struct vm_config *b = vm_of(B);
	struct vm_config *copy = config_copy_vm(b);

	(void)state;
	assert_true(config_same_vm(b, copy));
	assert_true(config_same_groups(b, copy));
	assert_ptr_not_equal(b->socket, copy->socket);
	assert_false(config_same_vm(a, b));
	copy->no_ack = true;
	assert_false(config_same_vm(b, copy));
	copy->no_ack = false;
	copy->forward_listen[1].port = 8;
	assert_false(config_same_vm(b, copy));
	config_free_vm(copy);
	config_free_vm(a);
	config_free_vm(b);
}

static void test_other_limits(void **state)
{
	struct vm_config *a = vm_of(A ",tx-rate=1M,max-connections=9");
	struct vm_config *other = NULL;
	char *err = NULL;
	size_t size = 0;
	FILE *stream = open_memstream(&err, &size);

	(void)state;
	assert_int_equal(config_parse_limits(&other, a, "rx_rate=2M,max-connections=5", stream), 0);
	assert_int_equal(other->tx_rate, 1u << 20);
	assert_int_equal(other->rx_rate, 2u << 20);
	assert_int_equal(other->max_connections, 5);
	assert_true(config_same_vm(a, other) && config_same_groups(a, other));
	assert_false(config_same_limits(a, other));
	config_take_limits(other, a);
	assert_true(config_same_limits(a, other));
	config_free_vm(other);
	other = NULL;
	assert_int_equal(config_parse_limits(&other, a, "ack=off", stream), -EINVAL);
	assert_int_equal(config_parse_limits(&other, a, "rx-rate=0,rx-rate=0", stream), -EINVAL);
	assert_int_equal(config_parse_limits(&other, a, "max-buffered=4096", stream), -EINVAL);
	assert_null(other);
	fclose(stream);
	assert_string_equal(
		err,
		"vhost-device-vsock: VM 3: 'ack': expected one of max-connections, max-half-open, "
		"max-buffered, tx-rate, rx-rate, conn-rate\n"
		"vhost-device-vsock: VM 3: rx-rate: '0': expected rx-rate only once\n"
		"vhost-device-vsock: VM 3: max-buffered: '4096': expected at least "
		"tx-buffer-size, for one connection\n");
	free(err);
	config_free_vm(a);
}

static void test_other_groups(void **state)
{
	static const char *const names[] = { "y", "x", "x" };
	static const char *const bad[] = { "a+b" };
	static const char *const empty[] = { "" };
	struct vm_config *a = vm_of(A);
	struct vm_config *other = NULL;

	(void)state;
	assert_int_equal(config_regroup_vm(&other, a, names, 3), 0);
	assert_true(config_same_vm(a, other));
	assert_true(config_same_groups(a, other));
	config_free_vm(other);
	assert_int_equal(config_regroup_vm(&other, a, names, 1), 0);
	assert_false(config_same_groups(a, other));
	assert_true(config_share_group(a, other));
	config_free_vm(other);
	other = NULL;
	assert_int_equal(config_regroup_vm(&other, a, names, 0), -EINVAL);
	assert_int_equal(config_regroup_vm(&other, a, bad, 1), -EINVAL);
	assert_int_equal(config_regroup_vm(&other, a, empty, 1), -EINVAL);
	assert_null(other);
	config_free_vm(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_vmm),
		cmocka_unit_test(test_refused_alone),
		cmocka_unit_test(test_refused_beside_another),
		cmocka_unit_test(test_too_many_together),
		cmocka_unit_test(test_check_together),
		cmocka_unit_test(test_copies_are_the_same),
		cmocka_unit_test(test_other_limits),
		cmocka_unit_test(test_other_groups),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
