// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vm_limits.c - bounds and rates of a VM: from its configuration to its device,
 * also while it runs. Ends no connection: one that is above a new bound stays.
 */
#include <string.h>

#include "daemon/vm_internal.h"

uint64_t vm_now_ms(void *ctx)
{
	const struct vm *vm = ctx;

	return loop_now_ms(vm->loop);
}

void vm_pace_later(void *ctx, uint32_t delay_ms)
{
	struct vm *vm = ctx;

	if (timer_is_armed(&vm->pace) && vm->pace.deadline_ms <= vm_now_ms(vm) + delay_ms)
		return;
	if (loop_arm(vm->loop, &vm->pace, delay_ms) < 0)
		vm_schedule(vm); /* costs more, and is not lost */
}

void vm_pace_over(struct timer *timer)
{
	vm_schedule(container_of(timer, struct vm, pace));
}

struct device_rates vm_rates(const struct vm_config *config)
{
	return (struct device_rates){
		.tx = config->tx_rate,
		.rx = config->rx_rate,
		.conns = config->conn_rate,
	};
}

uint32_t vm_half_open_bound(const struct vm *vm, const struct vm_config *config)
{
	return min_u32(config->max_half_open, vm->half_open_bound);
}

void vm_take_limits(struct vm *vm)
{
	const struct vm_config *config = vm_config(vm);
	const struct device_rates rates = vm_rates(config);
	struct device *device = &vm->device;

	quota_set_max(&device->open, config->max_connections);
	quota_set_max(&device->buffered, config->max_buffered);
	device->max_half_open = vm_half_open_bound(vm, config);
	device_set_rates(device, &rates);
}
