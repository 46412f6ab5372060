# INT8 is a specification: the scores are the same bits on every device and instruction set, at any batch size and
# thread count. A float model gives the same bits at any thread count; its sums may be split by the batch size.
. "$2/tests/cli/lib.sh"

succeeds "$train" --data synth --model lenet5 --epochs 0.5 --lr 0.1 --quiet
succeeds "$opt" --int8 --quiet

set -- "$infer" --test --quiet -m model.cnn --logits
for batch in 1 64; do
    succeeds "$@" one --threads 1 --batch $batch
    succeeds "$@" two --threads 2 --batch $batch
    same one two
done

set -- "$infer" --test --quiet --logits
succeeds "$@" model-opt.scores
for setting in "--threads 1 --batch 1" "--threads 2 --batch 1" "--threads 1 --batch 64" "--threads 2 --batch 64"; do
    succeeds "$@" scores $setting
    same model-opt.scores scores
done

set -- "$infer" --test --quiet --logits scores
levels=0
for level in portable avx2 avxvnni avx512 avx512vnni amx; do
    run env CNN_CPU_ISA=$level "$@"
    if [ "$code" != 0 ]; then
        if grep -q "CNN_CPU_ISA=$level: this \(CPU lacks\|build has no\)\|CNN_CPU_ISA=$level: the system does not" "$logs/err"; then
            skip "$(cut -d: -f2- "$logs/err")"
        else
            fail "exit code $code: CNN_CPU_ISA=$level"
        fi
        continue
    fi
    levels=$((levels + 1))
    same model-opt.scores scores
    succeeds env CNN_CPU_ISA=$level "$@" --threads 2 --batch 1
    same model-opt.scores scores
done
checks=$((checks + 1))
[ "$levels" -ge 1 ] || fail "not one level of the CPU could run"

succeeds "$@" --device ref
same model-opt.scores scores
succeeds "$@" --device ref --threads 1 --batch 3
same model-opt.scores scores
finish
