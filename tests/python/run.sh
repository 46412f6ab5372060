#!/bin/sh
# The Python package as its users get it: installed by pip into a virtual environment, where its own tests run.
# Exits with 77, which ctest counts as skipped, where Python has no venv, or NumPy and pytest cannot be had.
#   run.sh BUILD_DIR SOURCE_DIR
set -eu
build=$1
source_dir=$2
environment=$build/python-venv # kept for the next run
python=$environment/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset CNN_DATA CNN_CPU_ISA CNNKIT_LIBRARY PYTHONPATH
export HOME="$work" XDG_CACHE_HOME="$work" PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1

skip() {
    echo "skipped: $*"
    exit 77
}

python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null || skip "Python 3.9 or newer is not here"
if [ ! -x "$python" ]; then
    rm -rf "$environment"
    python3 -m venv --system-site-packages "$environment" >"$work/log" 2>&1 ||
        { rm -rf "$environment" && skip "Python has no venv (Debian: python3-venv)"; }
fi
needs='import numpy, pytest, setuptools; assert int(setuptools.__version__.split(".")[0]) >= 71'
if ! "$python" -c "$needs" 2>/dev/null; then
    "$python" -m pip install --quiet --retries 0 --timeout 10 numpy pytest 'setuptools>=71' >"$work/log" 2>&1 ||
        skip "NumPy and pytest are not here and cannot be fetched: $(tail -1 "$work/log")"
fi

# A copy, so that nothing is written beside the sources; the library is the one that was just built.
mkdir "$work/clone" "$work/clone/scripts"
cp -r "$source_dir/python" "$source_dir/include" "$source_dir/CMakeLists.txt" "$source_dir/examples" "$work/clone"
rm -rf "$work/clone/python/build" "$work/clone/python/cnnkit/_api.py" "$work/clone/python/cnnkit/native"
cp "$source_dir/scripts/get-data" "$work/clone/scripts"
if ! CNNKIT_BUILD=$build "$python" -m pip install --quiet --no-deps --no-build-isolation --force-reinstall "$work/clone/python" \
    >"$work/log" 2>&1; then
    cat "$work/log"
    exit 1
fi
for tool in cnn-train cnn-opt cnn-infer; do
    "$environment/bin/$tool" --version | grep -q "^$tool (cnnkit) "
done
cd "$work"
"$python" -m pytest -q -p no:cacheprovider --rootdir "$work/clone/python" "$work/clone/python/tests"
