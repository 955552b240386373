// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vm.c - single VMs: copies, comparisons, and VMs that come while others
 * run. Reads no file.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/private.h"

static bool is_member(const struct vm_config *vm, const char *group)
{
	for (size_t i = 0; i < vm->group_count; i++) {
		if (strcmp(vm->groups[i], group) == 0)
			return true;
	}
	return false;
}

bool config_share_group(const struct vm_config *a, const struct vm_config *b)
{
	for (size_t i = 0; i < a->group_count; i++) {
		if (is_member(b, a->groups[i]))
			return true;
	}
	return false;
}

static bool is_within(const struct vm_config *a, const struct vm_config *b)
{
	for (size_t i = 0; i < a->group_count; i++) {
		if (!is_member(b, a->groups[i]))
			return false;
	}
	return true;
}

bool config_same_groups(const struct vm_config *a, const struct vm_config *b)
{
	return is_within(a, b) && is_within(b, a);
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

bool config_same_vm(const struct vm_config *a, const struct vm_config *b)
{
	if (a->guest_cid != b->guest_cid || a->forward_cid != b->forward_cid ||
	    a->dials != b->dials || a->fd != b->fd || a->no_mem_slots != b->no_mem_slots ||
	    a->tx_buffer_size != b->tx_buffer_size || a->queue_size != b->queue_size ||
	    a->no_ack != b->no_ack || a->iommu != b->iommu ||
	    a->forward_listen_count != b->forward_listen_count)
		return false;
	for (size_t i = 0; i < a->forward_listen_count; i++) {
		if (a->forward_listen[i].port != b->forward_listen[i].port ||
		    a->forward_listen[i].seqpacket != b->forward_listen[i].seqpacket)
			return false;
	}
	return same_text(a->socket, b->socket) && same_text(a->uds_path, b->uds_path);
}

void config_free_vm(struct vm_config *vm)
{
	if (!vm)
		return;
	config_clear_vm(vm);
	free(vm);
}

static int copy_groups(struct vm_config *copy, const char *const *groups, size_t count)
{
	copy->groups = calloc(count + 1, sizeof(*copy->groups));
	if (!copy->groups)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		copy->groups[i] = strdup(groups[i]);
		if (!copy->groups[i])
			return -ENOMEM;
		copy->group_count++;
	}
	return 0;
}

static int copy_text(char **copy, const char *text)
{
	*copy = text ? strdup(text) : NULL;
	return text && !*copy ? -ENOMEM : 0;
}

static int copy_ports(struct vm_config *copy, const struct vm_config *vm)
{
	size_t bytes = vm->forward_listen_count * sizeof(*vm->forward_listen);

	if (bytes == 0)
		return 0;
	copy->forward_listen = malloc(bytes);
	if (!copy->forward_listen)
		return -ENOMEM;
	memcpy(copy->forward_listen, vm->forward_listen, bytes);
	copy->forward_listen_count = vm->forward_listen_count;
	return 0;
}

static struct vm_config *copy_with(const struct vm_config *vm, const char *const *groups,
				   size_t count)
{
	struct vm_config *copy = malloc(sizeof(*copy));

	if (!copy)
		return NULL;
	/* all of it, whatever is added; then what it owns, piece by piece */
	*copy = *vm;
	copy->socket = NULL;
	copy->uds_path = NULL;
	copy->forward_listen = NULL;
	copy->forward_listen_count = 0;
	copy->groups = NULL;
	copy->group_count = 0;
	if (copy_text(&copy->socket, vm->socket) || copy_text(&copy->uds_path, vm->uds_path) ||
	    copy_ports(copy, vm) || copy_groups(copy, groups, count)) {
		config_free_vm(copy);
		return NULL;
	}
	return copy;
}

struct vm_config *config_copy_vm(const struct vm_config *vm)
{
	return copy_with(vm, (const char *const *)vm->groups, vm->group_count);
}

int config_regroup_vm(struct vm_config **copy, const struct vm_config *vm,
		      const char *const *groups, size_t count)
{
	if (count == 0 || count > CONFIG_MAX_LIST)
		return -EINVAL;
	for (size_t i = 0; i < count; i++) {
		if (groups[i][0] == '\0' || strchr(groups[i], '+'))
			return -EINVAL;
	}
	*copy = copy_with(vm, groups, count);
	return *copy ? 0 : -ENOMEM;
}

/* Drafts that borrow what they point to; @room: for more of them. */
static int borrow(struct config_draft *draft, const struct vm_config *const *vms, size_t count,
		  size_t room)
{
	draft->vms = calloc(count + room, sizeof(*draft->vms));
	if (!draft->vms)
		return -ENOMEM;
	draft->vm_room = count + room;
	for (size_t i = 0; i < count; i++)
		draft->vms[draft->vm_count++] = (struct vm_draft){ .vm = *vms[i], .runs = true };
	return 0;
}

int config_check_vms(const struct vm_config *const *vms, size_t count, FILE *err)
{
	const struct config_where where = { 0 };
	struct config_draft draft = { .err = err };
	int ret = 0;

	if (count > CONFIG_MAX_VMS)
		return config_report(err, &where, NULL, "expected at most %u VMs, would be %zu",
				     CONFIG_MAX_VMS, count);
	if (count > 0)
		ret = borrow(&draft, vms, count, 0);
	if (ret == 0 && count > 0)
		ret = config_check(&draft);
	free(draft.vms);
	return ret;
}

static int parse_and_check(struct config_draft *draft, const char *text)
{
	int ret = config_read_vm(draft, text);

	if (ret)
		return ret;
	draft->vms[draft->vm_count - 1].number = 1;
	ret = config_check(draft);
	if (ret == 0)
		ret = config_default_group(&draft->vms[draft->vm_count - 1]);
	return ret;
}

int config_parse_vm(struct vm_config **vm, const char *text, const struct vm_config *const *others,
		    size_t count, FILE *err)
{
	struct config_draft draft = { .err = err };
	int ret = borrow(&draft, others, count, 1);

	if (ret)
		return ret;
	ret = parse_and_check(&draft, text);
	if (draft.vm_count > count) {
		struct vm_config *parsed = &draft.vms[count].vm;

		if (ret == 0)
			*vm = config_copy_vm(parsed);
		if (ret == 0 && !*vm)
			ret = -ENOMEM;
		config_clear_vm(parsed);
	}
	free(draft.vms);
	return ret;
}
