#!/bin/sh
# Every public header compiles by itself as C11 and, since CUDA sources include them, as C++17. What docs/api.md names
# is declared in them.
#   headers.sh SOURCE_DIR C_COMPILER
set -eu
source_dir=$1
cc=$2
failed=0
flags="-Wall -Wextra -Wpedantic -Wconversion -Werror -fsyntax-only -I$source_dir/include"
cxx=$(command -v c++ || true)
[ -n "$cxx" ] || echo "headers: no C++ compiler here, C++17 not checked"
for header in "$source_dir"/include/cnn/*.h; do
    line="#include <cnn/${header##*/}>"
    # shellcheck disable=SC2086 # a list of flags
    echo "$line" | "$cc" -std=c11 $flags -x c - || failed=1
    if [ -n "$cxx" ]; then
        # shellcheck disable=SC2086
        echo "$line" | "$cxx" -std=c++17 $flags -x c++ - || failed=1
    fi
done
for name in $(grep -o '`cnn_[a-z0-9_]*`' "$source_dir/docs/api.md" | tr -d '`' | sort -u); do
    grep -qw "$name" "$source_dir"/include/cnn/*.h || { echo "docs/api.md names $name, which no header has"; failed=1; }
done
exit $failed
