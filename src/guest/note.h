/* SPDX-License-Identifier: Apache-2.0 */
/*
 * note.h - the text that Linux keeps in memory for crash dump tools (VMCOREINFO): lines such as
 * "NUMBER(phys_base)=1048576", "SYMBOL(init_top_pgt)=ffffffff82c10000", "OFFSET(page.lru)=8".
 *
 * Ownership:  a note borrows the image's bytes.
 * Threads:    any.
 * Errors:     none; what is missing or no number is false, and nothing is written.
 */
#ifndef DOR_GUEST_NOTE_H
#define DOR_GUEST_NOTE_H

#include "guest/survey.h"

enum { GUEST_NOTE_BYTES_MAX = 16384 };

struct guest_note {
    const char *text;
    size_t size_bytes;
    uint64_t row; /* of the page where it begins */
};

/* The note at PLACE; false when it is too long, not inside one range, or does not begin right. */
bool guest_note_read(
    const struct dor_image_info *info, const struct guest_note_place *place,
    struct guest_note *ret);

/* KIND(NAME)=VALUE: decimal for NUMBER, OFFSET, SIZE, LENGTH; hexadecimal for SYMBOL. */
bool guest_note_u64(
    const struct guest_note *note, const char *kind, const char *name, uint64_t *ret);

/* The same where the value must be at most MAX. */
bool guest_note_u32(
    const struct guest_note *note, const char *kind, const char *name, uint32_t max,
    uint32_t *ret);

/* KEY=VALUE as text; bytes that are no printable ASCII become '?', what does not fit is cut. */
bool
guest_note_text(const struct guest_note *note, const char *key, char *buf, size_t size_bytes);

#endif
