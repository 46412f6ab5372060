#!/bin/sh
# Installs into a temporary folder and builds a program against it: by the CMake package (shared and static) and by
# pkg-config. The shared library must export the API and nothing else. The programs of docs/api.md compile without a
# warning and run.
#   run.sh BUILD_DIR SOURCE_DIR C_COMPILER GENERATOR
set -eu
build=$1
source_dir=$2
cc=$3
generator=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build" --prefix "$work/usr" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
for tool in cnn-train cnn-opt cnn-infer; do
    "$work/usr/bin/$tool" --version >/dev/null
done
libdir=$(dirname "$(find "$work/usr" -name libcnn.a)")

foreign=$(nm -D --defined-only "$libdir/libcnn.so" | awk '$2 ~ /[TDBR]/ && $3 !~ /^cnn_/ { print $3 }')
if [ -n "$foreign" ]; then
    echo "the shared library exports names that are not ours: $foreign"
    exit 1
fi
if nm -D --defined-only "$libdir/libcnn.so" | grep -q ' cnn_model_find$'; then
    echo "the shared library exports internal names"
    exit 1
fi

for tool in cnn-train cnn-opt cnn-infer; do
    grep -q "^complete -F .* $tool\$" "$work/usr/share/bash-completion/completions/$tool" || {
        echo "the completion of $tool is not installed"
        exit 1
    }
    grep -q '^\.SH OPTIONS$' "$work/usr/share/man/man1/$tool.1" || {
        echo "the manual page of $tool is not installed"
        exit 1
    }
done

if ! { cmake -S "$source_dir/tests/install" -B "$work/build" -G "$generator" -DCMAKE_PREFIX_PATH="$work/usr" -DCMAKE_C_COMPILER="$cc" &&
    cmake --build "$work/build"; } >"$work/log" 2>&1; then
    cat "$work/log"
    exit 1
fi
"$work/build/hello-shared"
"$work/build/hello-static"

PKG_CONFIG_PATH=$libdir/pkgconfig
export PKG_CONFIG_PATH
# The installed file names the configured prefix; this one is elsewhere.
# shellcheck disable=SC2046 # a list of flags
"$cc" "$source_dir/tests/install/hello.c" $(pkg-config --define-variable=prefix="$work/usr" --cflags --libs cnnkit) \
    -o "$work/hello"
LD_LIBRARY_PATH=$libdir "$work/hello"

# Each program is a block of C that begins with its name.
mkdir "$work/api" && cd "$work/api"
awk '/^```c$/ { inside = 1; next } /^```$/ { inside = 0 }
     inside { if ($0 ~ /^\/\* [a-z]+\.c/) { file = $2; sub(/:.*/, "", file) } print >file }' "$source_dir/docs/api.md"
for program in digits stripes; do
    # shellcheck disable=SC2046
    "$cc" -std=c11 -Wall -Wextra -Wpedantic -Wconversion -Werror $program.c \
        $(pkg-config --define-variable=prefix="$work/usr" --cflags --libs cnnkit) -o $program
done
export LD_LIBRARY_PATH="$libdir"
./digits "$source_dir/examples/digit.png" synth >out
grep -q '^this is a [a-z]*$' out && [ -s digits.cnn ] || { echo "digits of docs/api.md says:" && cat out && exit 1; }
./stripes >out 2>progress
grep -q '^upright and lying: 40 of 40 right$' out || { echo "stripes of docs/api.md says:" && cat out && exit 1; }
[ "$(wc -l <progress)" = 3 ] || { echo "stripes of docs/api.md shows:" && cat progress && exit 1; }
if ./digits missing.png synth >out 2>&1 || ! grep -q '^digits: missing.png: ' out; then
    echo "digits of docs/api.md fails like this:" && cat out && exit 1
fi
