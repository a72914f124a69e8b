/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_wasm.h - the part of the plugin that runs modules of WebAssembly.
 *
 * Ownership:  modules go with their context, the memory with the engine.
 * Threads:    that of the engine.
 * Errors:     an enum dor_errno with the words in ERROR; or 0 and an exception.
 */
#ifndef DOR_TABLE_ENGINE_WASM_H
#define DOR_TABLE_ENGINE_WASM_H

#include "table/engine_jsc.h"

/* Numbers of functions that are those of modules. */
#define WASM_NUMBER 0x40000000u

/* The source of kv_wasm.js; wasm_find.c compiled, of no bytes where it could not be. */
extern const char jsc_wasm_source[], jsc_wasm_find[];
extern const size_t jsc_wasm_source_bytes, jsc_wasm_find_bytes;

/* Before the first load: the memory, which the watch of a load would take for what is loaded. */
int wasm_start(struct jsc *engine, char *error);

/* Inside a load: compile the module SOURCE and register its functions. */
int wasm_load(
    struct jsc_context *context, const struct table_engine_source *source,
    JSValueRef *exception, char *error);

/* Inside a call: *RET points into the module's memory. */
int wasm_call(
    struct jsc_context *context, const struct table_engine_call *call,
    struct table_engine_result *ret, JSValueRef *exception, char *error);

void wasm_tenant_free(struct jsc_context *context);
void wasm_destroy(struct jsc *engine);

#endif
