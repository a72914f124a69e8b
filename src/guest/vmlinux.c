/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmlinux.c - goes through the sections of an ELF file with libelf.
 */
#include "guest/vmlinux.h"

#include "base/err.h"
#include "base/file.h"
#include "guest/btf.h"

#include <fcntl.h>
#include <gelf.h>
#include <inttypes.h>
#include <libelf.h>
#include <stdio.h>
#include <string.h>

#define AUTO_ELF __attribute__((cleanup(auto_elf)))

static void
auto_elf(Elf **elf)
{
    (void)elf_end(*elf);
}

struct vmlinux {
    Elf *elf;
    size_t names; /* section of section names */
    struct guest_profile *profile;
    uint64_t stext;
    bool has_symbols;
};

static void
take_symbol(struct vmlinux *vmlinux, const char *name, uint64_t address)
{
    if (strcmp(name, "_stext") == 0)
        vmlinux->stext = address;
    for (size_t i = 0; i < GUEST_SYMBOLS; i++)
        if (name[0] == guest_symbol_names[i][0] && strcmp(name, guest_symbol_names[i]) == 0)
            vmlinux->profile->symbols[i] = (int64_t)address;
}

static void
read_symbols(struct vmlinux *vmlinux, Elf_Data *data, const GElf_Shdr *header)
{
    size_t count = header->sh_entsize == 0 ? 0 : data->d_size / header->sh_entsize;
    for (size_t i = 0; i < count && i < INT32_MAX; i++) {
        GElf_Sym symbol;
        if (gelf_getsym(data, (int)i, &symbol) == NULL)
            return;
        const char *name = elf_strptr(vmlinux->elf, header->sh_link, symbol.st_name);
        if (name != NULL)
            take_symbol(vmlinux, name, symbol.st_value);
    }
    vmlinux->has_symbols = vmlinux->stext != 0;
}

/* The note of type 3 and name "GNU" is the build id. */
static void
read_notes(struct vmlinux *vmlinux, Elf_Data *data)
{
    GElf_Nhdr note;
    size_t name;
    size_t bytes;
    size_t at = 0;
    while ((at = gelf_getnote(data, at, &note, &name, &bytes)) > 0) {
        const uint8_t *id = (const uint8_t *)data->d_buf + bytes;
        char *text = vmlinux->profile->build_id;
        if (note.n_type != NT_GNU_BUILD_ID || note.n_namesz != sizeof "GNU" ||
            memcmp((const char *)data->d_buf + name, "GNU", sizeof "GNU") != 0 ||
            note.n_descsz >= sizeof vmlinux->profile->build_id / 2)
            continue;
        for (size_t i = 0; i < note.n_descsz; i++)
            snprintf(text + i * 2, 3, "%02x", id[i]);
    }
}

static int
read_section(struct vmlinux *vmlinux, Elf_Scn *section)
{
    GElf_Shdr header;
    if (gelf_getshdr(section, &header) == NULL)
        return dor_fail(DOR_E_CORRUPT, "a section cannot be read: %s", elf_errmsg(-1));
    const char *name = elf_strptr(vmlinux->elf, vmlinux->names, header.sh_name);
    bool is_btf = name != NULL && strcmp(name, ".BTF") == 0;
    if (!is_btf && header.sh_type != SHT_SYMTAB && header.sh_type != SHT_NOTE)
        return 0;
    Elf_Data *data = elf_getdata(section, NULL);
    if (data == NULL || data->d_buf == NULL)
        return 0;
    if (header.sh_type == SHT_SYMTAB)
        read_symbols(vmlinux, data, &header);
    else if (header.sh_type == SHT_NOTE)
        read_notes(vmlinux, data);
    else
        return guest_btf_read(data->d_buf, data->d_size, vmlinux->profile);
    return 0;
}

static int
read_sections(struct vmlinux *vmlinux)
{
    GElf_Ehdr header;
    if (elf_kind(vmlinux->elf) != ELF_K_ELF || gelf_getehdr(vmlinux->elf, &header) == NULL ||
        header.e_machine != EM_X86_64)
        return dor_fail(
            DOR_E_USAGE, "is not an ELF file for x86-64; a vmlinuz must be unpacked first");
    if (elf_getshdrstrndx(vmlinux->elf, &vmlinux->names) != 0)
        return dor_fail(DOR_E_CORRUPT, "has no section names: %s", elf_errmsg(-1));
    int rc = 0;
    for (Elf_Scn *section = NULL;
         rc == 0 && (section = elf_nextscn(vmlinux->elf, section)) != NULL;)
        rc = read_section(vmlinux, section);
    return rc;
}

/* From addresses to distances from _stext. */
static void
relate_symbols(struct vmlinux *vmlinux)
{
    for (size_t i = 0; i < GUEST_SYMBOLS; i++) {
        int64_t *symbol = &vmlinux->profile->symbols[i];
        if (*symbol == GUEST_SYMBOL_UNKNOWN)
            continue;
        int64_t distance = (int64_t)((uint64_t)*symbol - vmlinux->stext);
        bool near = distance >= -GUEST_SYMBOL_MAX && distance <= GUEST_SYMBOL_MAX;
        *symbol = near && vmlinux->has_symbols ? distance : GUEST_SYMBOL_UNKNOWN;
    }
}

int
guest_vmlinux_read(const char *path, struct guest_profile *ret)
{
    struct guest_profile profile;
    AUTO_CLOSE int fd = -1;
    AUTO_ELF Elf *elf = NULL;
    guest_profile_init(&profile);
    int rc = base_file_open(AT_FDCWD, path, O_RDONLY, 0, &fd);
    if (rc != 0)
        return dor_fail_wrap("kernel");
    if (elf_version(EV_CURRENT) != EV_NONE)
        elf = elf_begin(fd, ELF_C_READ, NULL);
    struct vmlinux vmlinux = {.elf = elf, .profile = &profile};
    rc = elf == NULL ? dor_fail(DOR_E_USAGE, "cannot be read: %s", elf_errmsg(-1))
                     : read_sections(&vmlinux);
    if (rc == 0 && !vmlinux.has_symbols)
        rc = dor_fail(DOR_E_USAGE, "has no symbols; give one that was not stripped");
    if (rc != 0)
        return dor_fail_wrap("kernel %s", path);
    relate_symbols(&vmlinux);
    *ret = profile;
    return 0;
}
