# Every request for memory of a tool made to fail in turn, in each of its modes: memory.sh BIN SOURCES TOOL.
# OOM_EVERY=K takes each K-th request only (the standard is below; 1: all of them).
. "$2/tests/faults/lib.sh"
harness=oom_$tool
every=${OOM_EVERY:-16}

case $tool in
cnn-train)
    short="--model net.cfg --data synth --epochs 0.03 --threads 1 --quiet"
    survives --output model.cnn --output model.cnn.ckpt -- $short
    survives --output model.cnn --output model.cnn.ckpt -- $short --adversarial --adversarial-steps 1
    survives --output old --output old.ckpt --output run.jsonl -- $short --amp --schedule one-cycle --augment 1 --json \
        --label-smoothing 0.1 --nesterov --clip-norm 1 --ema 0.9 --log run.jsonl -o old
    survives --output model.cnn --output model.cnn.ckpt -- --model net.cfg --data mnist --data-dir data --epochs 0.5 \
        --threads 2 --quiet
    files shapes shapes 12
    survives --output own.cnn --output own.cnn.ckpt -- --model lenet300 --data png:shapes --image-size 8 --threads 1 --quiet \
        -o own.cnn
    # A run whose last words could not be written keeps its checkpoint: one to go on from.
    "$train" $short --epochs 2 --checkpoint kept.ckpt -o resumed.cnn >/dev/full 2>"$logs/err"
    [ -f kept.ckpt ] || fail "no checkpoint to go on from"
    survives --output resumed.cnn --output kept.ckpt -- $short --epochs 2 --checkpoint kept.ckpt --resume -o resumed.cnn
    ;;
cnn-opt)
    survives --output old.onnx -- model.cnn -o old.onnx
    "$bin/cnn-opt" model.cnn -o given.onnx >"$logs/out"
    survives --output old -- given.onnx --normalize 0.5,0.5 -o old
    "$bin/cnn-opt" model.cnn -o given.safetensors >"$logs/out"
    survives --output old -- --from-torch given.safetensors --model net.cfg -o old
    survives --output old.safetensors -- model.cnn -o old.safetensors
    echo "old" >old
    survives --output old -- --int8 --data mnist --data-dir data --threads 1 --json -o old
    survives --output model-opt.cnn --output r.html -- --prune 0.5 --finetune 0.2 --amp --data mnist --data-dir data \
        --threads 1 --verbose --report r.html
    survives --output old --output r.json -- --int8 --data mnist --data-dir data --threads 1 --report r.json --explain -o old
    survives --output old -- --prune 0.5 --structure weight --criterion taylor --prune-schedule cubic --prune-steps 2 \
        --finetune 0.5 --pack smallest --data mnist --data-dir data --threads 1 -o old
    if "$opt" --keygen me >"$logs/out" 2>"$logs/err"; then
        survives --output old -- model.cnn --sign me.key -o old
    fi
    ;;
cnn-infer)
    files png seven seven.png
    files png plus plus.png
    ln -s old link
    survives -- -m model.cnn --threads 1 plus.png seven.png
    survives -- -m model.cnn --threads 1 --topk 4 --json seven.png
    survives --output old -- -m model.cnn --threads 1 --test --logits link
    survives -- -m model.cnn --threads 2 --test --data mnist --data-dir data --device ref --batch 7
    survives -- -m model.cnn --threads 1 --test --images 9 --attack pgd --attack-steps 2 --sanitize --attack-sanitized --batch 4
    "$opt" model.cnn --int8 --data synth --quiet -o int8.cnn >"$logs/out"
    survives -- -m int8.cnn --threads 1 --test --images 9 --attack fgsm --attack-from model.cnn --batch 4
    survives -- -m model.cnn --threads 1 --compare ref
    survives -- -m model.cnn --threads 1 --dump-program
    survives -- -m model.cnn --threads 1 --bench --device cpu,ref --quiet
    if "$opt" --keygen me >"$logs/out" 2>"$logs/err"; then
        "$opt" model.cnn --sign me.key -o signed.cnn >"$logs/out"
        survives -- -m signed.cnn --require-signature me.pub --threads 1 --dump-program
    fi
    survives -- --help
    ;;
esac
finish
