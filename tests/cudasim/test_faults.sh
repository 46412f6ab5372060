# cnn-train and cnn-infer on --device cudasim when requests for resources fail one after the other, when the device
# breaks down, and when its memory is small: one sentence that says where, exit code 1, nothing left behind.
# CUDASIM_EVERY=K takes each K-th request only (the standard is 5; 1: all of them).
. "$2/tests/cudasim/lib.sh"
every=${CUDASIM_EVERY:-5}
export ASAN_OPTIONS="exitcode=99:${ASAN_OPTIONS:-}"
echo "old" >old

# fails_in_turn VARIABLE STEP NAME COMMAND...: with VARIABLE=1, 1 + STEP, ... until the command succeeds ten times
# in a row: a library's request that fails may only mean that another of its ways is taken. The command writes to `out`, which must be as before or whole.
fails_in_turn() {
    variable=$1 step=$2 title=$3
    shift 3
    number=1
    good=0
    while :; do
        cp old out
        rm -f out.ckpt
        run env "$variable=$number" "$@"
        no_leftovers "after $variable=$number: $title"
        if [ "$code" = 0 ]; then
            good=$((good + 1))
            if [ "$good" = 10 ]; then
                [ "$number" -ge $((20 + 10 * step)) ] || fail "$title: only $number ways to fail"
                break
            fi
            number=$((number + step))
            continue
        fi
        good=0
        [ "$code" = 1 ] || fail "exit code $code with $variable=$number: $title"
        sed -i '/: warning: /d' "$logs/err" # the data set is small, a checkpoint is replaced
        [ "$(wc -l <"$logs/err")" = 1 ] || fail "not one line with $variable=$number: $title"
        grep -qE "^cnn-[a-z]+: (layer [a-z0-9-]+, .*|)(device cudasim: [A-Za-z]+(\([^)]*\)| of packed weights)? failed|device cudasim: [0-9]+ bytes of pinned|out of memory on device cudasim: [0-9.]+ (bytes|MB) were asked for)" \
            "$logs/err" || fail "does not say where with $variable=$number: $title"
        cmp -s old out || [ ! -s out.ckpt ] || succeeds "$infer" -m out --test --data mnist --data-dir data --quiet
        number=$((number + step))
    done
    echo "$title: $variable up to $number"
}

set -- --data mnist --data-dir data --device cudasim --quiet
fails_in_turn CNN_CUDASIM_FAIL "$every" "training" \
    "$train" "$@" --model tiny.cfg --amp --augment 1 --batch 90 --epochs 2 -o out
fails_in_turn CNN_CUDASIM_BREAK $((every * 10)) "training" \
    "$train" "$@" --model tiny.cfg --amp --augment 1 --batch 90 --epochs 2 -o out
succeeds "$train" "$@" --model tiny.cfg --device cpu --epochs 1 -o tiny.cnn
succeeds "$opt" tiny.cnn --int8 --data mnist --data-dir data --device cpu --quiet -o int8.cnn
fails_in_turn CNN_CUDASIM_FAIL "$every" "INT8 inference" "$infer" "$@" -m int8.cnn --test --batch 40 --logits out

# Little memory: the batch that is named does fit.
small() { run env CNN_CUDASIM_MEMORY=$1 "$train" --data mnist --data-dir data --device cudasim --quiet --model narrow.cfg --epochs 0.5 -o out --batch "$2"; }
small 12000000 135
[ "$code" = 1 ] || fail "exit code $code with little memory"
says "were asked for at batch 135"
says "of 12.0 MB are free"
fits=$(sed -n 's/.*; --batch \([0-9]*\) would fit$/\1/p' "$logs/err")
[ "${fits:-0}" -gt 1 ] || fail "no batch is named"
small 12000000 "${fits:-1}"
[ "$code" = 0 ] || fail "--batch $fits does not fit"
finish
