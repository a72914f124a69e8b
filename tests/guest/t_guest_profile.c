/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_guest_profile.c - profiles as text and files, out of BTF and out of an ELF file; and what each
 * source must be refused for.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/random.h"
#include "guest/btf.h"
#include "guest/synth.h"
#include "guest/vmlinux.h"

static struct synth synth;

static bool
is_same(const struct guest_profile *a, const struct guest_profile *b)
{
    return memcmp(a->numbers, b->numbers, sizeof a->numbers) == 0 &&
           memcmp(a->symbols, b->symbols, sizeof a->symbols) == 0 &&
           strcmp(a->build_id, b->build_id) == 0;
}

/* ------------------------------------------------------------------ text and files */

static void
test_text(void)
{
    struct guest_profile profile = synth.profile;
    struct guest_profile again;
    AUTO_BUF struct base_buf buf = {0};
    profile.symbols[GUEST_SYMBOL_init_task] = -5;
    is_ok(guest_profile_print(&profile, &buf), "print");
    is_ok(guest_profile_parse((const char *)buf.data, buf.size_bytes, &again), "parse");
    ok(is_same(&profile, &again), "is the same");
}

static void
test_bad_text(void)
{
    static const char head[] = "dormouse-profile 1\n";
    static const char *const texts[] = {
        "",
        "dormouse-profile 2\n",
        "dormouse-profile 1\nbuild-id XYZ\n",
        "dormouse-profile 1\nbuild-id ../../../../etc/passwd\n",
        "dormouse-profile 1\ntask_mm\n",
        "dormouse-profile 1\ntask_mm 1x\n",
        "dormouse-profile 1\ntask_mm -1\n",
        "dormouse-profile 1\ntask_mm 4294967296\n",
        "dormouse-profile 1\nrange_slots 65\n",
        "dormouse-profile 1\npg_dirty 64\n",
        "dormouse-profile 1\ninit_task 99999999999999999999\n",
    };
    struct guest_profile profile;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        is_int(
            guest_profile_parse(texts[i], strlen(texts[i]), &profile), DOR_E_CORRUPT,
            "text %zu is no profile", i);
    is_int(
        guest_profile_parse("dormouse-profile 1\n\0\n", sizeof head + 1, &profile),
        DOR_E_CORRUPT, "nor is one with a NUL");
    is_ok(guest_profile_parse(head, strlen(head), &profile), "an empty one is");
    ok(!guest_profile_has_tasks(&profile), "and knows no tasks");
}

static void
test_files(void)
{
    struct guest_profile profile;
    const char *dir = tap_dir();
    is_int(guest_profile_load(dir, SYNTH_BUILD_ID, &profile), DOR_E_NOT_FOUND, "not there yet");
    is_ok(guest_profile_save(dir, &synth.profile), "save");
    is_ok(guest_profile_load(dir, SYNTH_BUILD_ID, &profile), "load");
    ok(is_same(&profile, &synth.profile), "is the same");
    is_int(guest_profile_load(dir, "", &profile), DOR_E_NOT_FOUND, "without a build id");
    is_int(
        guest_profile_load(dir, "../../../../../etc", &profile), DOR_E_NOT_FOUND,
        "a build id that is a path");
    is_int(
        guest_profile_load("/nonexistent", SYNTH_BUILD_ID, &profile), DOR_E_NOT_FOUND,
        "no directory");
    char from[600];
    char to[600];
    snprintf(from, sizeof from, "%s/" SYNTH_BUILD_ID ".profile", dir);
    snprintf(to, sizeof to, "%s/00112233.profile", dir);
    if (rename(from, to) != 0)
        bail("rename");
    is_int(guest_profile_load(dir, "00112233", &profile), DOR_E_CORRUPT, "another build's");
    profile = synth.profile;
    profile.build_id[0] = '\0';
    is_int(guest_profile_save(dir, &profile), DOR_E_USAGE, "one without a build id");
}

/* Each call of a save fails in turn: then there is no profile, or the whole one. */
static void
test_file_faults(void)
{
    struct guest_profile profile;
    int wrong = 0;
    unsigned nth = 0;
    bool fired;
    do {
        base_fault_arm(FAULT_IO_FAIL, ++nth, EIO);
        int rc = guest_profile_save(tap_dir(), &synth.profile);
        base_fault_arm(FAULT_NONE, 0, 0);
        fired = base_fault_fired();
        int there = guest_profile_load(tap_dir(), SYNTH_BUILD_ID, &profile);
        wrong += rc != (fired ? DOR_E_IO : 0) || (there != 0 && there != DOR_E_NOT_FOUND);
    } while (fired && nth < 100);
    is_int(wrong, 0, "a save fails cleanly at each of %u calls", nth - 1);
}

/* ------------------------------------------------------------------ BTF */

static void
test_btf(void)
{
    struct guest_profile profile;
    uint32_t bytes;
    struct btf *btf = synth_btf(&synth.profile);
    const void *data = btf__raw_data(btf, &bytes);
    guest_profile_init(&profile);
    is_ok(guest_btf_read(data, bytes, &profile), "BTF is read");
    int wrong = 0;
    for (size_t i = 0; i < GUEST_NUMBERS; i++)
        if (profile.numbers[i] != synth.profile.numbers[i]) {
            note("%s: %d", guest_rows[i].name, profile.numbers[i]);
            wrong++;
        }
    is_int(wrong, 0, "every number is the one that was written");
    int cut = 0;
    for (uint32_t i = 0; i < bytes; i += 7) {
        AUTO_FREE uint8_t *part = base_alloc(i);
        memcpy(part, data, i);
        guest_profile_init(&profile);
        cut += guest_btf_read(part, i, &profile) == DOR_E_CORRUPT ? 1 : 0;
    }
    is_int(cut, (bytes + 6) / 7, "no part of it is taken");
    btf__free(btf);
}

/* Members outside their struct, structs inside themselves, types that name none. */
static void
test_btf_lies(void)
{
    struct guest_profile profile;
    uint32_t bytes;
    struct btf *btf = btf__new_empty();
    int word = btf__add_int(btf, "long", 8, 0);
    int self = word + 1;
    btf__add_struct(btf, "", 64);
    for (int i = 0; i < 60; i++)
        btf__add_field(btf, NULL, self, 0, 0);
    btf__add_struct(btf, "task_struct", 64);
    btf__add_field(btf, "mm", word, 60 * 8, 0);
    btf__add_field(btf, "pid", word, 8 * 8, 0);
    btf__add_field(btf, NULL, self, 0, 0);
    btf__add_struct(btf, "mm_struct", 64);
    btf__add_field(btf, "pgd", 99999, 0, 0);
    btf__add_struct(btf, "maple_range_64", 64);
    btf__add_field(btf, "slot", btf__add_array(btf, word, word, 4000000000u), 0, 0);
    const void *data = btf__raw_data(btf, &bytes);
    guest_profile_init(&profile);
    is_ok(guest_btf_read(data, bytes, &profile), "BTF that lies comes back");
    is_int(profile.numbers[GUEST_task_mm], GUEST_UNKNOWN, "a member past its struct");
    is_int(profile.numbers[GUEST_task_pid], 8, "one inside");
    is_int(profile.numbers[GUEST_mm_pgd], GUEST_UNKNOWN, "one of a type that is not there");
    is_int(profile.numbers[GUEST_range_slots], GUEST_UNKNOWN, "an array of four billion");
    btf__free(btf);
}

/* The types of the kernel that this runs on, whatever it is. */
static void
test_own_kernel(void)
{
    struct guest_profile profile;
    AUTO_BUF struct base_buf buf = {0};
    if (base_file_read_all(AT_FDCWD, "/sys/kernel/btf/vmlinux", 64 << 20, &buf) != 0) {
        skip("this kernel does not show its types", "types of this machine's kernel");
        return;
    }
    guest_profile_init(&profile);
    is_ok(guest_btf_read(buf.data, buf.size_bytes, &profile), "this machine's kernel");
    ok(guest_profile_clean(&profile) && guest_profile_has_tasks(&profile),
       "types of this machine's kernel tell all that is needed");
}

/* ------------------------------------------------------------------ ELF */

/* A vmlinux of sections: names, .BTF, .symtab, .strtab, .note. */
struct elf_file {
    uint8_t bytes[65536];
    size_t used;
    Elf64_Shdr sections[6];
};

static void
add_section(
    struct elf_file *file, unsigned which, uint32_t name, uint32_t type, const void *data,
    size_t bytes)
{
    file->sections[which] = (Elf64_Shdr){
        .sh_name = name,
        .sh_type = type,
        .sh_offset = file->used,
        .sh_size = bytes,
        .sh_addralign = 8,
    };
    memcpy(file->bytes + file->used, data, bytes);
    file->used += (bytes + 7) & ~(size_t)7;
}

static void
make_elf(struct elf_file *file, const void *btf, uint32_t btf_bytes)
{
    static const char names[] = "\0.names\0.BTF\0.symtab\0.strtab\0.notes";
    static const char strings[] = "\0_stext\0init_task\0nr_cpu_ids";
    static const uint8_t id[20] = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23,
                                   0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67};
    const Elf64_Sym symbols[] = {
        {0},
        {.st_name = 1, .st_value = SYNTH_IMAGE},
        {.st_name = 8, .st_value = SYNTH_IMAGE + 0x1234},
        {.st_name = 18, .st_value = 16},
    };
    uint8_t build[12 + 4 + 20];
    const Elf64_Nhdr head = {.n_namesz = 4, .n_descsz = 20, .n_type = NT_GNU_BUILD_ID};
    memcpy(build, &head, sizeof head);
    memcpy(build + 12, "GNU", 4);
    memcpy(build + 16, id, sizeof id);
    memset(file, 0, sizeof *file);
    file->used = sizeof(Elf64_Ehdr);
    add_section(file, 1, 1, SHT_STRTAB, names, sizeof names);
    add_section(file, 2, 8, SHT_PROGBITS, btf, btf_bytes);
    add_section(file, 3, 13, SHT_SYMTAB, symbols, sizeof symbols);
    file->sections[3].sh_entsize = sizeof symbols[0];
    file->sections[3].sh_link = 4;
    add_section(file, 4, 21, SHT_STRTAB, strings, sizeof strings);
    add_section(file, 5, 29, SHT_NOTE, build, sizeof build);
    file->sections[5].sh_addralign = 4;
    Elf64_Ehdr header = {
        .e_type = ET_EXEC,
        .e_machine = EM_X86_64,
        .e_version = EV_CURRENT,
        .e_shoff = file->used,
        .e_ehsize = sizeof header,
        .e_shentsize = sizeof(Elf64_Shdr),
        .e_shnum = 6,
        .e_shstrndx = 1,
    };
    memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    memcpy(file->bytes, &header, sizeof header);
    memcpy(file->bytes + file->used, file->sections, sizeof file->sections);
    file->used += sizeof file->sections;
}

/* What is read from a file of the first SIZE_BYTES of FILE. */
static int
read_elf(const struct elf_file *file, size_t size_bytes, struct guest_profile *ret)
{
    char path[600];
    AUTO_CLOSE int dir = -1;
    snprintf(path, sizeof path, "%s/vmlinux", tap_dir());
    if (base_file_open(AT_FDCWD, tap_dir(), O_RDONLY | O_DIRECTORY, 0, &dir) != 0 ||
        base_file_replace(dir, "vmlinux", file->bytes, size_bytes) != 0)
        bail("%s", dor_err_message());
    return guest_vmlinux_read(path, ret);
}

static void
test_vmlinux(void)
{
    static struct elf_file file;
    struct guest_profile profile;
    uint32_t bytes;
    struct btf *btf = synth_btf(&synth.profile);
    const void *data = btf__raw_data(btf, &bytes);
    make_elf(&file, data, bytes);
    is_ok(read_elf(&file, file.used, &profile), "a kernel's ELF file");
    ok(guest_profile_has_tasks(&profile), "tells its types");
    is_str(profile.build_id, SYNTH_BUILD_ID, "and its build id");
    is_int(profile.symbols[GUEST_SYMBOL_init_task], 0x1234, "a symbol");
    is_int(
        profile.symbols[GUEST_SYMBOL_nr_cpu_ids], GUEST_SYMBOL_UNKNOWN,
        "a symbol far away is none");
    is_int(read_elf(&file, 0, &profile), DOR_E_USAGE, "an empty file");
    is_int(read_elf(&file, 1000, &profile), DOR_E_USAGE, "a cut file");
    file.bytes[18] = EM_AARCH64;
    is_int(read_elf(&file, file.used, &profile), DOR_E_USAGE, "of another machine");
    make_elf(&file, "no BTF", 6);
    is_int(read_elf(&file, file.used, &profile), DOR_E_CORRUPT, "bad types");
    is_int(guest_vmlinux_read("/nonexistent", &profile), DOR_E_NOT_FOUND, "no such file");
    btf__free(btf);
}

static void
test_vmlinux_noise(void)
{
    static struct elf_file file;
    struct base_random random;
    struct guest_profile profile;
    uint32_t bytes;
    struct btf *btf = synth_btf(&synth.profile);
    const void *data = btf__raw_data(btf, &bytes);
    base_random_init(&random, tap_seed());
    for (unsigned run = 0; run < 300; run++) {
        make_elf(&file, data, bytes);
        for (unsigned i = 0; i < 8; i++) {
            /* Headers are where it matters. */
            size_t at = base_random_below(&random, 2) == 0
                            ? base_random_below(&random, 64)
                            : file.used - 1 - base_random_below(&random, sizeof file.sections);
            file.bytes[at] = (uint8_t)base_random_next(&random);
        }
        (void)!read_elf(&file, file.used, &profile);
    }
    ok(true, "300 ELF files with random bytes in their headers come back");
    btf__free(btf);
}

/* A kernel of another build must not explain a guest. */
static void
test_wrong_vmlinux(void)
{
    static struct elf_file file;
    char path[600];
    struct guest_profile profile;
    struct dor_inspection *inspection;
    uint32_t bytes;
    struct btf *btf = synth_btf(&synth.profile);
    const void *data = btf__raw_data(btf, &bytes);
    struct dor_inspect options = {.vmlinux = path};
    snprintf(path, sizeof path, "%s/vmlinux", tap_dir());
    make_elf(&file, data, bytes);
    file.bytes[file.sections[5].sh_offset + 16] = 0xff;
    is_ok(read_elf(&file, file.used, &profile), "a kernel of another build");
    is_int(
        guest_inspect(NULL, &synth.info, &options, &inspection), DOR_E_USAGE,
        "is refused for this guest");
    btf__free(btf);
}

int
main(void)
{
    work_in_memory();
    synth_init(&synth, &(struct synth_kind){0});
    test_text();
    test_bad_text();
    test_files();
    test_file_faults();
    test_btf();
    test_btf_lies();
    test_own_kernel();
    test_vmlinux();
    test_vmlinux_noise();
    test_wrong_vmlinux();
    synth_fini(&synth);
    return done_testing();
}
