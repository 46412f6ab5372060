#!/bin/sh
# What is in the compiled kernels of a level that few CPUs have: its own instructions, and none that its CPUs lack.
#   check_code.sh OBJDUMP avxvnni|amx OBJECT...
set -eu
objdump=$1
level=$2
shift 2
tab=$(printf '\t')
failed=0
fail() {
    echo "check_code: $*"
    failed=1
}

# An object's instructions: bytes, tab, text. The first byte shows the encoding: c4 and c5 AVX2's, 62 AVX-512's.
code() {
    "$objdump" -d "$1" | sed -n "s/^ *[0-9a-f]*:[[:space:]]*\([0-9a-f ]*[0-9a-f]\) *$tab/\1$tab/p"
}

# at_least COUNT PATTERN: so many instructions are like this.
at_least() {
    found=$(printf '%s\n' "$listing" | grep -c "$2" || true)
    [ "$found" -ge "$1" ] || fail "$object: $found instructions '$2', not $1"
}

# none PATTERN
none() {
    if printf '%s\n' "$listing" | grep "$1" | head -n 3 | grep .; then
        fail "$object: has '$1'"
    fi
}

for object in "$@"; do
    listing=$(code "$object")
    echo "$object: $(printf '%s\n' "$listing" | wc -l) instructions"
    case $level in
    avxvnni)
        at_least 4 "^c4.*vpdpbusd"
        none "^62 "
        none "%zmm"
        ;;
    amx)
        for instruction in ldtilecfg tilerelease tilezero tileloadd tdpbssd tdpbf16ps tilestored; do
            at_least 1 "^c4.*$instruction"
        done
        ;;
    *) fail "level $level is not known" ;;
    esac
done
exit $failed
