// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * list.h - intrusive circular doubly linked list (ready queues, free lists).
 */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>

#include "base/compiler.h"

/** A list head, or a node embedded in an element. */
struct list {
	struct list *prev;
	struct list *next;
};

static inline void list_init(struct list *l)
{
	l->prev = l;
	l->next = l;
}

/** Whether a head has no element, or a node is on no list. */
static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_append(struct list *head, struct list *node)
{
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}

/** Unlink @node; legal when it is on no list. It may be appended again. */
static inline void list_remove(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

/** Move all elements of @from to the end of @to, in order. */
static inline void list_append_all(struct list *to, struct list *from)
{
	if (list_empty(from))
		return;
	from->next->prev = to->prev;
	from->prev->next = to;
	to->prev->next = from->next;
	to->prev = from->prev;
	list_init(from);
}

/** The first element of a list that is not empty. */
#define list_first(head, type, member) container_of((head)->next, type, member)

/** Visit each element; @tmp allows removal of the current one. */
#define list_for_each_safe(pos, tmp, head)                               \
	for ((pos) = (head)->next, (tmp) = (pos)->next; (pos) != (head); \
	     (pos) = (tmp), (tmp) = (pos)->next)

#endif
