// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * log_json.h - log lines as JSON objects, for programs that read them.
 */
#ifndef DAEMON_LOG_JSON_H
#define DAEMON_LOG_JSON_H

/**
 * log_json_use() - From now on log lines are objects, one a line
 *
 * {"time":"2026-11-23T10:00:00.123Z","level":"notice","vm":3,"message":"..."}: what a
 * line's tag says of its object becomes members. Lines that are too long, or of bytes
 * that are no UTF-8, lose some of their message.
 *
 * Context: start-up, before the process confines itself.
 */
void log_json_use(void);

#endif
