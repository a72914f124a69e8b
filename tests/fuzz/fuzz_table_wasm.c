/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_table_wasm.c - modules of WebAssembly: what is accepted is written within bounds, its first
 * memory fits, and the new module itself is refused, since it names what no module may name.
 */
#include <dormouse/kv_wasm.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "table/engine.h"
#include "table/wasm_module.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char error[TABLE_ENGINE_ERROR_BYTES] = "";
    struct wasm_module module, again;
    /* What lies behind the input is not read. */
    uint8_t *bytes = malloc(size + (size == 0));
    if (bytes == NULL)
        return 0;
    memcpy(bytes, data, size);
    int rc = wasm_module_read(bytes, size, &module, error);
    free(bytes);
    if (rc != 0) {
        dor_assert(error[0] != '\0' && strlen(error) < sizeof error);
        return 0;
    }
    dor_assert(module.image_bytes <= KV_ROOM_BYTES);
    dor_assert(module.function_count <= WASM_FUNCTIONS_MAX);
    for (uint32_t i = 0; i < module.function_count; i++)
        dor_assert(
            strlen(module.functions[i].name) + strlen(module.functions[i].description) <= size);
    dor_assert(module.code_bytes > 8 && memcmp(module.code, "\0asm\1\0\0\0", 8) == 0);
    /* A loop of three bytes gets a check of less than fifty. */
    dor_assert(module.code_bytes < 32 * size + 1024);
    dor_assert(wasm_module_read(module.code, module.code_bytes, &again, error) != 0);
    wasm_module_free(&module);
    return 0;
}
