/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wasm_module.h - a WebAssembly module of a tenant, read and written anew before an engine sees it:
 * with nothing in it but what docs/formats/wasm.md allows, with its first memory taken out, and
 * with code that asks the engine from time to time whether it may go on.
 *
 * Ownership:  wasm_module_free() gives back what wasm_module_read() made; the input may go before.
 * Threads:    pure functions.
 * Errors:     DOR_E_USAGE or DOR_E_NO_MEMORY, with words of TABLE_ENGINE_ERROR_BYTES in the
 *             caller's buffer. Whether types fit is left to the engine.
 */
#ifndef DOR_TABLE_WASM_MODULE_H
#define DOR_TABLE_WASM_MODULE_H

#include <dormouse/err.h>
#include <stddef.h>
#include <stdint.h>

enum {
    WASM_MODULE_BYTES_MAX = 4 << 20,
    WASM_FUNCTIONS_MAX = 1024, /* that clients call */
    WASM_FUEL = 16384,         /* steps between two questions */
};

/* What is added to the imports of each module, in this order, from "kv". */
#define WASM_IMPORT_POLL "ask"  /* () -> () */
#define WASM_IMPORT_FILL "fill" /* (to, byte, count): memory.fill of the module's own part */
#define WASM_IMPORT_COPY "copy" /* (to, from, count): memory.copy into it */

/* The export f0, f1, ... of the new module by its index. */
struct wasm_function {
    char *name, *description;
    uint32_t flags; /* TABLE_FUNCTION_... */
};

struct wasm_module {
    uint8_t *code;
    size_t code_bytes;
    uint8_t *image; /* memory from 0 on, as it is at first; zeros behind it */
    size_t image_bytes;
    struct wasm_function *functions;
    uint32_t function_count;
};

DOR_MUST_CHECK int
wasm_module_read(const uint8_t *bytes, size_t length, struct wasm_module *ret, char *error);

void wasm_module_free(struct wasm_module *module); /* one of zeros is fine */

#endif
