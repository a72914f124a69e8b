#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What `meson install` puts down is all that a program needs: a small one is compiled against the
# installed header and library, found through pkg-config, shared and static, and keeps a file in a
# store.
set -u
dormouse=${DORMOUSE:-build/dormouse}
build=$(dirname "$dormouse")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
number=0
failed=0

skip_all() {
    echo "1..0 # SKIP $1"
    exit 77
}

# ok STATUS NAME - one check; what the command said is in $work/log.
ok() {
    number=$((number + 1))
    if [ "$1" -eq 0 ]; then
        echo "ok $number - $2"
    else
        echo "not ok $number - $2"
        sed 's/^/# /' "$work/log"
        failed=1
    fi
}

for tool in meson pkg-config "${CC:-cc}"; do
    command -v "$tool" >/dev/null || skip_all "there is no $tool"
done
if meson introspect "$build" --buildoptions | tr '{' '\n' |
    grep '"name": "b_sanitize"' | grep -q '"value": "[^n"]'; then
    skip_all "a library with sanitizers in it is not one to install"
fi

DESTDIR="$work/root" meson install -C "$build" --no-rebuild >"$work/log" 2>&1
ok $? "meson install"
find "$work/root" >"$work/log"
pc=$(find "$work/root" -name dormouse.pc)
[ -n "$pc" ]; ok $? "dormouse.pc is there"
binary=$(find "$work/root" -type f -path '*/bin/dormouse')
[ -x "$binary" ]; ok $? "the program is there"
header=$(find "$work/root" -path '*/include/dormouse/store.h')
[ -f "$header" ]; ok $? "the header is there"
for page in $(meson introspect "$build" --installed | tr ',' '\n' |
    sed -n 's/.*: "\(.*\/man[0-9]\/[^"]*\)".*/\1/p'); do
    [ -f "$work/root$page" ]; ok $? "man page $(basename "$page")"
done

cat >"$work/small.c" <<'END'
#include <dormouse/store.h>
#include <fcntl.h>
#include <stdio.h>

int
main(int argc, char **argv)
{
    struct dor_store *store;
    struct dor_snapshot *snapshot;
    struct dor_put_result result;
    struct dor_put put = {.image_fd = argc == 4 ? open(argv[2], O_RDONLY) : -1};
    int out = argc == 4 ? open(argv[3], O_RDWR | O_CREAT | O_TRUNC, 0600) : -1;
    if (dor_store_create(argv[1], NULL) != 0 ||
        dor_store_open(argv[1], DOR_OPEN_WRITE, NULL, &store) != 0 ||
        dor_store_put(store, "small", &put, &result) != 0 ||
        dor_snapshot_open(store, "small", &snapshot) != 0 ||
        dor_snapshot_write_image(snapshot, out, NULL, NULL) != 0) {
        fprintf(stderr, "%s\n", dor_err_message());
        return 1;
    }
    dor_snapshot_close(snapshot);
    dor_store_close(store);
    return 0;
}
END
{ head -c 8192 /dev/zero; head -c 40960 /dev/urandom; head -c 8192 /dev/zero; } >"$work/image"

# The .pc file names the prefix; the sysroot says where it lies here. System folders stay in the
# flags, for with a prefix of /usr the installed ones look like them.
export PKG_CONFIG_SYSROOT_DIR="$work/root" PKG_CONFIG_PATH="${pc%/*}"
export PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 PKG_CONFIG_ALLOW_SYSTEM_LIBS=1
library_dir=${pc%/pkgconfig/*}

# try KIND FLAG ... - compile with these flags and run.
try() {
    kind=$1
    shift
    # shellcheck disable=SC2046  # words of pkg-config
    "${CC:-cc}" -std=gnu17 -Wall -Wextra -Werror $(pkg-config --cflags dormouse) \
        -o "$work/$kind" "$work/small.c" "$@" >"$work/log" 2>&1
    ok $? "$kind: compiles"
    LD_LIBRARY_PATH="$library_dir" "$work/$kind" "$work/store-$kind" "$work/image" \
        "$work/out-$kind" >"$work/log" 2>&1
    ok $? "$kind: runs"
    cmp "$work/image" "$work/out-$kind" >"$work/log" 2>&1
    ok $? "$kind: the file comes back"
}

# shellcheck disable=SC2046
try shared $(pkg-config --libs dormouse)
ldd "$work/shared" >"$work/log" 2>&1
LD_LIBRARY_PATH="$library_dir" ldd "$work/shared" | grep -q "libdormouse.so.*$work/root"
ok $? "shared: uses the installed library"
# shellcheck disable=SC2046
try static $(pkg-config --static --libs dormouse | sed 's/-ldormouse\b/-l:libdormouse.a/')
ldd "$work/static" >"$work/log" 2>&1
! grep -q libdormouse "$work/log"
ok $? "static: needs no libdormouse"

"$binary" --store "$work/store-static" --quiet get small -o "$work/again" >"$work/log" 2>&1 &&
    cmp "$work/image" "$work/again" >"$work/log" 2>&1
ok $? "the installed program reads the program's store"

echo "1..$number"
exit "$failed"
