#!/bin/sh
# Looks for the hardening of cmake/flags.cmake in programs and libraries.
#
#   hardening.sh BUILD_TYPE FILE...
#
# Position-independent; relocations read-only and done at the start; no executable stack; a stack protector; calls of libc that
# know the size of their buffers (optimized builds); on x86 functions that indirect calls may reach are marked (CET).
command -v readelf >/dev/null || { echo "there is no readelf"; exit 77; }
type=$1
shift
failed=0

# want FILE WHAT PATTERN readelf-option: a line of readelf's matches.
want() {
    readelf -W "$4" "$1" 2>/dev/null | grep -Eq "$3" || { echo "$1: no $2"; failed=1; }
}

for file; do
    [ -f "$file" ] || { echo "there is no $file"; exit 1; }
    want "$file" "position-independent code (type DYN)" 'Type: +DYN' -h
    want "$file" "read-only relocations (GNU_RELRO)" 'GNU_RELRO' -l
    want "$file" "immediate binding (NOW)" '\(FLAGS(_1)?\).*NOW' -d
    want "$file" "stack that is not executable" 'GNU_STACK .* RW +0x' -l
    want "$file" "stack protector" '__stack_chk_fail' --dyn-syms
    [ "$type" = Debug ] || want "$file" "checked calls of libc (_FORTIFY_SOURCE)" '__(memcpy|snprintf|vsnprintf|fprintf|memset|strcpy)_chk' --dyn-syms
    if readelf -h "$file" | grep -q X86-64 && command -v objdump >/dev/null; then
        objdump -d --no-show-raw-insn "$file" | grep -q endbr64 || { echo "$file: no marks for indirect calls (CET)"; failed=1; }
    fi
done
exit $failed
