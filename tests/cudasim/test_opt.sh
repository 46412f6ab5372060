# cnn-opt, cnn-infer and cnn-train --resume on --device cudasim: INT8 logits of 1,000 images with the CPU's bits, FP32
# logits close to the CPU's, an interrupted run that ends with the same bytes.
. "$2/tests/cudasim/lib.sh"

succeeds "$train" --model lenet5 --data mnist --data-dir data --batch 16 --epochs 3 --device cpu --quiet -o trained.cnn
succeeds "$opt" trained.cnn --int8 --data mnist --data-dir data --device cpu --quiet -o int8.cnn
succeeds "$train" --model tiny.cfg --data mnist --data-dir data --batch 16 --epochs 2 --device cpu --quiet -o tiny.cnn
succeeds "$opt" tiny.cnn --prune 0.5 --int8 --finetune 0.3 --batch 16 --data mnist --data-dir data --device cudasim \
    --quiet -o pruned.cnn

logits "cpu cudasim" int8.cnn --batch 64 --data synth
same cudasim.logits cpu.logits
for batch in 1 64; do
    logits "cpu cudasim" pruned.cnn --batch $batch --data mnist --data-dir data
    same cudasim.logits cpu.logits
done
logits "cpu cudasim" int8.cnn --batch 1 --data mnist --data-dir data
same cudasim.logits cpu.logits
logits "cpu cudasim" trained.cnn --batch 64 --data mnist --data-dir data
agree logits cudasim.logits cpu.logits 1e-5

# Interrupted behind its third step.
set -- "$train" --model tiny.cfg --data mnist --data-dir data --batch 16 --epochs 0.6 --amp --augment 1 --device cudasim --quiet
succeeds "$@" -o whole.cnn
run python3 "$cli/interrupt.py" TERM run.jsonl:4 "$@" --log run.jsonl --log-every 1 -o resumed.cnn
[ "$code" = 143 ] || fail "exit code $code after SIGTERM"
succeeds "$@" --log run.jsonl --log-every 1 -o resumed.cnn --resume
same whole.cnn resumed.cnn
finish
