// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vm_set.c - tables of VMs: look up, copy, publish. Owns no VM.
 */
#include "daemon/vm_set.h"

#include <stdlib.h>

#include "daemon/vm.h"

static int compare_cid(const void *key, const void *element)
{
	uint64_t cid = *(const uint64_t *)key;
	uint64_t other = vm_cid(*(struct vm *const *)element);

	return cid < other ? -1 : cid > other;
}

struct vm *vm_set_find(const struct vm_set *set, uint64_t cid)
{
	const struct vm_table *table = vm_set_table(set);
	struct vm *const *found;

	if (table == NULL)
		return NULL;
	found = bsearch(&cid, table->vms, table->count, sizeof(struct vm *), compare_cid);
	return found != NULL ? *found : NULL;
}

struct vm_table *vm_set_copy(const struct vm_set *set, struct vm *add, const struct vm *leave_out)
{
	const struct vm_table *old = vm_set_table(set);
	size_t count = old != NULL ? old->count : 0;
	struct vm_table *table = malloc(sizeof(*table) + (count + 1) * sizeof(struct vm *));

	if (table == NULL)
		return NULL;
	table->count = 0;
	for (size_t i = 0; i < count; i++) {
		if (add != NULL && vm_cid(add) < vm_cid(old->vms[i])) {
			table->vms[table->count++] = add;
			add = NULL;
		}
		if (old->vms[i] != leave_out)
			table->vms[table->count++] = old->vms[i];
	}
	if (add != NULL)
		table->vms[table->count++] = add;
	return table;
}

struct vm_table *vm_set_publish(struct vm_set *set, struct vm_table *table)
{
	return __atomic_exchange_n(&set->table, table, __ATOMIC_ACQ_REL);
}

void vm_set_leave(const struct vm_set *set)
{
	if (set->rest != NULL && __atomic_sub_fetch(&set->rest->left, 1, __ATOMIC_ACQ_REL) == 0)
		loop_stop(set->rest->loop);
}
