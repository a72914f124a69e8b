/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_guest_profile.c - the input is the text of a profile; one that is taken prints as text that
 * is taken, too, and says the same.
 */
#include "base/err.h"
#include "guest/profile.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    struct guest_profile profile;
    struct guest_profile again;
    AUTO_BUF struct base_buf buf = {0};
    if (guest_profile_parse((const char *)data, size_bytes, &profile) != 0 ||
        !guest_build_id_fits(profile.build_id) || guest_profile_print(&profile, &buf) != 0)
        return 0;
    dor_assert(guest_profile_parse((const char *)buf.data, buf.size_bytes, &again) == 0);
    dor_assert(memcmp(profile.numbers, again.numbers, sizeof profile.numbers) == 0);
    dor_assert(memcmp(profile.symbols, again.symbols, sizeof profile.symbols) == 0);
    return 0;
}
