#!/bin/sh
# What is in the compiled CUDA plug-in: code for every architecture, PTX for later ones, no kernel with local memory
# (spills and arrays that are indexed at run time), and tensor-core instructions in the kernels that kernels/cuda/impl_tensor.c lists behind
# "tensor-core kernels:", in every variant of each.
#   [NVCC=nvcc] check_compile.sh PLUGIN SOURCE_DIR TOOLS_DIR ARCHITECTURE...
# It needs cuobjdump and nvdisasm: those of $CUOBJDUMP or the PATH or beside nvcc, else NVIDIA's packages from PyPI, which
# it puts into TOOLS_DIR. Without them it looks for mma.sync in PTX that nvcc makes, and says so.
set -eu
plugin=$1
source_dir=$2
tools_dir=$3
shift 3
nvcc=${NVCC:-$(command -v nvcc || true)}
failed=0
fail() {
    echo "check_compile: $*"
    failed=1
}

kernels=$(sed -n 's/.*tensor-core kernels: \([k_a-z0-9 ]*\).*/\1/p' "$source_dir/kernels/cuda/impl_tensor.c")
[ -n "$kernels" ] || {
    fail "kernels/cuda/impl_tensor.c lists no tensor-core kernels"
    exit 1
}

# Prints the folder of cuobjdump, or nothing.
find_tools() {
    for candidate in "${CUOBJDUMP:-}" "$(command -v cuobjdump || true)" "${nvcc:+$(dirname "$(readlink -f "$nvcc")")/cuobjdump}" \
        "$tools_dir"/nvidia/*/bin/cuobjdump; do
        if [ -n "$candidate" ] && [ -x "$candidate" ]; then
            dirname "$candidate"
            return
        fi
    done
}

tools=$(find_tools)
if [ -z "$tools" ]; then
    python3 -m pip install --quiet --disable-pip-version-check --target "$tools_dir" nvidia-cuda-cuobjdump \
        nvidia-cuda-nvdisasm >/dev/null 2>&1 || true
    tools=$(find_tools)
fi

# Without the disassembler: what ptxas was given.
if [ -z "$tools" ]; then
    echo "check_compile: there is no cuobjdump here and none from PyPI; looking at PTX instead of machine code"
    for kernel in $kernels; do
        file=$(grep -lE "^ *(__global__.* )?$kernel\(" "$source_dir"/kernels/cuda/*.cu | head -n 1)
        found=$("$nvcc" -std=c++17 -fmad=false -arch=compute_90 -ptx -I"$source_dir" -I"$source_dir/include" "$file" -o - |
            awk -v name="${#kernel}$kernel" '/\.entry/ { inside = index($0, name) } inside && /mma\.sync/ { count++ } END { print count + 0 }')
        [ "$found" -gt 0 ] || fail "$kernel: no mma.sync in its PTX"
        echo "$kernel: $found mma.sync in PTX for sm_90"
    done
    exit $failed
fi

PATH=$tools:$PATH # cuobjdump calls nvdisasm
for arch in "$@"; do
    usage=$(cuobjdump -res-usage -arch "sm_$arch" "$plugin" 2>&1)
    count=$(printf '%s\n' "$usage" | grep -c 'REG:' || true)
    spilling=$(printf '%s\n' "$usage" | grep 'REG:' | grep -vc ' LOCAL:0 ' || true)
    [ "$count" -gt 0 ] || fail "no code for sm_$arch"
    [ "$spilling" -eq 0 ] || fail "sm_$arch: $spilling kernels use local memory"
    echo "sm_$arch: $count kernels, $spilling with local memory"
done
cuobjdump -lptx "$plugin" | grep -q 'PTX file' || fail "no PTX for later architectures"

# HMMA multiplies f16 and bf16, IMMA i8. A mangled name holds the length of a kernel's name before it.
sass=$(mktemp)
trap 'rm -f "$sass"' EXIT
cuobjdump -sass -arch sm_90 "$plugin" >"$sass"
for kernel in $kernels; do
    awk -v kernel="$kernel" -v name="${#kernel}${kernel}[IE]" '
        function close_one() { if (inside) { variants++; if (!mma) without++ } }
        /Function :/ { close_one(); inside = $0 ~ name; mma = 0 }
        inside && /[ \t](HMMA|IMMA|HGMMA|IGMMA)\./ { mma++; all++ }
        END {
            close_one()
            printf "%s: %d variants, %d tensor-core instructions on sm_90\n", kernel, variants, all
            exit variants == 0 || without > 0
        }' "$sass" || fail "$kernel: a variant without tensor-core instructions, or none at all"
done
exit $failed
