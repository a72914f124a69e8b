/* SPDX-License-Identifier: Apache-2.0 */
/*
 * openapi.h - docs/openapi.json as it was when this was built.
 *
 * Ownership:  static.
 * Threads:    any.
 * Errors:     none.
 */
#ifndef DOR_NODE_OPENAPI_H
#define DOR_NODE_OPENAPI_H

#include <stddef.h>

extern const char node_openapi[];
extern const size_t node_openapi_bytes;

#endif
