#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# tools/bootstrap does nothing when nothing is missing, and says what it would need when it cannot help.
# Package tools are stood in for by small scripts, for a test must not install anything.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
number=0
failed=0

ok() {
    number=$((number + 1))
    if [ "$1" -eq 0 ]; then echo "ok $number - $2"; else echo "not ok $number - $2"; failed=1; fi
}

# fake NAME BODY - a stand-in for a command, which notes that it was called.
fake() {
    printf '#!/bin/sh\necho "%s $*" >>"%s/calls"\n%s\n' "$1" "$work" "$2" >"$work/bin/$1"
    chmod +x "$work/bin/$1"
}

# run ARG ... - run bootstrap with the stand-ins first in the path.
run() {
    : >"$work/calls"
    PATH="$work/bin:$PATH" tools/bootstrap "$@" >"$work/out" 2>&1
}

mkdir "$work/bin"
# shellcheck disable=SC2016  # the body expands later
fake dpkg-query 'shift 3; for p in "$@"; do printf "ii %s " "$p"; done'
fake apt-get 'exit 0'
fake id 'echo 0'
run build test bench
ok $? "all is there"
! [ -s "$work/out" ]; ok $? "nothing is said"
! grep -q apt-get "$work/calls"; ok $? "nothing is installed"

# shellcheck disable=SC2016
fake dpkg-query 'shift 3; for p in "$@"; do [ "$p" = ninja-build ] || printf "ii %s " "$p"; done; exit 1'
run build
ok $? "one package is missing"
grep -q "installing ninja-build$" "$work/out"; ok $? "its name is told"
grep -q "apt-get .*install .*ninja-build" "$work/calls"; ok $? "it is installed"
! grep -q "install .*gcc" "$work/calls"; ok $? "others are not"

# A command of another origin than Debian stands for its package; here only the tools that bootstrap needs are there.
mkdir "$work/few"
for tool in sh sed tr dirname mktemp rm env tail; do ln -s "$(command -v "$tool")" "$work/few/$tool"; done
few() {
    : >"$work/calls"
    PATH="$work/bin:$work/few" tools/bootstrap clients >"$work/out" 2>&1
}
fake dpkg-query 'exit 1'
few
grep -q "installing nodejs npm$" "$work/out"; ok $? "packages are wanted where their commands are not there"
fake npm 'exit 0'
few
grep -q "installing nodejs$" "$work/out"; ok $? "and not where a command is there"
fake node 'exit 0'
few && ! [ -s "$work/out" ]; ok $? "with all commands there is nothing to do"
# shellcheck disable=SC2016
fake dpkg-query 'shift 3; for p in "$@"; do [ "$p" = ninja-build ] || printf "ii %s " "$p"; done; exit 1'

fake apt-get 'echo no network; exit 100'
! run build; ok $? "a failed installation fails"
grep -q "no network" "$work/out"; ok $? "and shows why"

fake id 'echo 1000'
if PATH="$work/bin:$PATH" command -v sudo >/dev/null; then
    echo "ok $((number + 1)) - without root and sudo # SKIP sudo is installed here"
    number=$((number + 1))
else
    ! run build && grep -q "apt-get install ninja-build" "$work/out"
    ok $? "without root and sudo it says what to type"
fi
! run nonsense; ok $? "an unknown group fails"
echo "1..$number"
exit $failed
