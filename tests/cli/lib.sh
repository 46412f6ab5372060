# What the command-line tests share; sourced by each with "$1" = folder of the tools, "$2" = folder of the sources.
# A test runs in a fresh folder, goes on after a failure and ends with `finish`.

bin=$(cd "$1" && pwd) && cli=$(cd "$2/tests/cli" && pwd) || exit 1
train=$bin/cnn-train
opt=$bin/cnn-opt
infer=$bin/cnn-infer
make_model=$bin/cli_make_model

for tool in "$train" "$opt" "$infer" "$make_model"; do
    [ -x "$tool" ] || { echo "$tool is not built"; exit 1; }
done

unset CNN_DATA CNN_CPU_ISA POSIXLY_CORRECT
folder=$(mktemp -d) || exit 1
logs=$folder/logs
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' HUP INT TERM
export HOME="$folder/home" XDG_CACHE_HOME="$folder/home/cache"
mkdir "$logs" "$folder/home" "$folder/work" && cd "$folder/work" || exit 1
chmod 755 "$folder" # for `unprivileged`

checks=0
failures=0

files() { python3 "$cli/make_files.py" "$@"; }

fail() {
    failures=$((failures + 1))
    echo "FAILED: $*"
    sed 's/^/    out: /' "$logs/out" | head -5
    sed 's/^/    err: /' "$logs/err" | head -5
    [ "$failures" -lt 20 ] || { echo "too many failures, the rest is not tried"; exit 1; }
}

run() {
    checks=$((checks + 1))
    "$@" >"$logs/out" 2>"$logs/err"
    code=$?
    # Programs of scripts/coverage complain where they cannot write their counts, not all of it to that file.
    [ -z "${GCOV_ERROR_FILE:-}" ] || sed -i '/^\(libgcov \)\{0,1\}profiling.*:/d' "$logs/err"
}

# succeeds COMMAND...: exit code 0.
succeeds() {
    run "$@"
    [ "$code" = 0 ] || fail "exit code $code: $*"
}

# says TEXT: the last command wrote it, on either stream.
says() {
    checks=$((checks + 1))
    cat "$logs/out" "$logs/err" | grep -qF -- "$1" || fail "nothing says '$1'"
}

# has_keys KEY...: standard output of the last command is one JSON object with them.
has_keys() {
    checks=$((checks + 1))
    files keys "$@" <"$logs/out" 2>"$logs/keys" || fail "keys $*: $(tail -1 "$logs/keys")"
}

# refuses CODE TEXT COMMAND...: exit code CODE, nothing on standard output, and on standard error one sentence that
# begins with the tool's name and holds TEXT (several texts are separated by |).
refuses() {
    wanted=$1
    texts=$2
    shift 2
    run "$@"
    name=${1##*/}
    case $name in limited | unprivileged) name=${2##*/} ;; esac
    [ "$code" = "$wanted" ] || fail "exit code $code, not $wanted: $*"
    [ -s "$logs/out" ] && fail "standard output is not empty: $*"
    [ "$(wc -l <"$logs/err")" = 1 ] || fail "not one line on standard error: $*"
    grep -q "^$name: ." "$logs/err" || fail "does not begin with '$name: ': $*"
    rest=$texts
    while [ -n "$rest" ]; do
        text=${rest%%|*}
        grep -qF -- "$text" "$logs/err" || fail "does not name '$text': $*"
        [ "$text" = "$rest" ] && break
        rest=${rest#*|}
    done
}

# same A B: two files hold the same bytes.
same() {
    checks=$((checks + 1))
    cmp "$1" "$2" >"$logs/out" 2>"$logs/err" || fail "$1 and $2 differ"
}

# no_leftovers WHEN: this folder holds no temporary file of an interrupted save.
no_leftovers() {
    checks=$((checks + 1))
    ls -A >"$logs/out"
    grep -q '\.tmp' "$logs/out" && fail "a temporary file is left $1"
}

# limited COMMAND...: no file may grow beyond 1024 bytes (2 blocks of 512), as if the disk were full then.
limited() {
    (
        ulimit -f 2
        exec "$@"
    )
}

# unprivileged COMMAND...: as a user who may not write everywhere, for folders that are read-only.
unprivileged() {
    if [ "$(id -u)" != 0 ]; then
        "$@"
    else
        python3 -c 'import os, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534); os.execv(sys.argv[1], sys.argv[1:])' "$@"
    fi
}

# refuses_places COMMAND...: the command plus -o or --logits as its last word refuses folders that are missing,
# that are files, that are read-only, and a full device.
refuses_places() {
    mkdir -p places/locked
    : >places/file
    refuses 1 "places/missing/x" "$@" places/missing/x
    refuses 1 "places/file/x" "$@" places/file/x
    refuses 1 "places" "$@" places
    [ -c /dev/full ] && refuses 1 "/dev/full" "$@" /dev/full
    chmod 555 places/locked
    if unprivileged sh -c ': >places/locked/probe' 2>/dev/null; then
        skip "read-only folder: this user may write everywhere"
    else
        refuses 1 "places/locked/x" unprivileged "$@" places/locked/x
    fi
    checks=$((checks + 1))
    ls -A places/locked places >"$logs/out"
    grep -q 'tmp\|^x' "$logs/out" && fail "a refused save left a file"
    return 0
}

skip() { echo "skipped: $*"; }

finish() {
    echo "$checks checks, $failures failed"
    [ "$failures" = 0 ] && [ "$checks" -gt 0 ]
    exit $?
}
