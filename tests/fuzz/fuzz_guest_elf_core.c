/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_guest_elf_core.c - the reader of elf-core: the input is the core.
 */
#include "images.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    fuzz_write("core", data, size_bytes);
    fuzz_image("core", DOR_IMAGE_ELF_CORE);
    return 0;
}
