// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * builtins.h - included before everything in proofs: what the compiler has built in and
 * the checker does not know.
 */
#ifndef PROOFS_BUILTINS_H
#define PROOFS_BUILTINS_H

/* For unsigned types, which are all that base/checked.h has. */
#define __builtin_add_overflow(a, b, sum) (*(sum) = (a) + (b), *(sum) < (a))

#endif
