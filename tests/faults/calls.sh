# Every system call that reads or writes a file made to fail in turn, in each mode of a tool: calls.sh BIN SOURCES TOOL.
# Disks that are full, short reads and writes, and SIGKILL, too. IO_EVERY=K takes each K-th call only (the standard is
# below; 1: all of them).
. "$2/tests/faults/lib.sh"
harness=io_$tool
every=${IO_EVERY:-48}

# withstands OPTION... -- ARGUMENT...: calls that fail, a full disk, short reads and writes.
withstands() {
    survives "$@"
    survives --fault full "$@"
    survives --fault short "$@"
}

echo "old" >other
case $tool in
cnn-train)
    short="--model net.cfg --data synth --epochs 0.03 --threads 1 --quiet"
    withstands --output model.cnn --output model.cnn.ckpt -- $short
    withstands --output old --output old.ckpt --output run.jsonl -- $short --amp --ema 0.9 --augment 1 --json \
        --checkpoint-every 20 --log run.jsonl -o old
    withstands --output model.cnn --output model.cnn.ckpt -- --model net.cfg --data mnist --data-dir data --epochs 0.5 \
        --threads 1 --quiet
    files cifar10 data
    sed 's/height=28, width=28, channels=1/height=32, width=32, channels=3/' net.cfg >color.cfg
    survives --output own.cnn --output own.cnn.ckpt -- --model color.cfg --data cifar10 --data-dir data --epochs 0.5 --threads 1 \
        --quiet -o own.cnn
    files shapes shapes 4
    survives --output own.cnn --output own.cnn.ckpt -- --model lenet300 --data png:shapes --image-size 8 --threads 1 --quiet -o own.cnn
    # A run that was killed, goes on, and ends with the same bytes.
    survives --fault kill --output model.cnn --output model.cnn.ckpt -- --model net.cfg --data mnist --data-dir data --batch 32 \
        --epochs 2 --threads 1 --quiet --checkpoint-every 2 --resume --adversarial=0.1 --adversarial-steps 1
    "$train" $short --epochs 2 --checkpoint kept.ckpt -o resumed.cnn >/dev/full 2>"$logs/err"
    [ -f kept.ckpt ] || fail "no checkpoint to go on from"
    withstands --output resumed.cnn --output kept.ckpt -- $short --epochs 2 --checkpoint kept.ckpt --resume -o resumed.cnn
    ;;
cnn-opt)
    withstands --output old -- --int8 --data mnist --data-dir data --threads 1 -o old
    survives --fault kill --output old -- --int8 --data mnist --data-dir data --threads 1 -o old
    withstands --output model-opt.cnn --output r.html --output r.json -- --prune 0.5 --finetune 0.2 --data mnist --data-dir data \
        --threads 1 --report r.html --report r.json
    cp other o.onnx
    withstands --output o.onnx -- model.cnn -o o.onnx
    "$opt" model.cnn -o given.onnx >"$logs/out"
    withstands --output old -- given.onnx --normalize 0.5,0.5 -o old
    cp other o.safetensors
    withstands --output o.safetensors -- model.cnn -o o.safetensors
    "$opt" model.cnn -o given.safetensors >"$logs/out"
    withstands --output old -- --from-torch given.safetensors --model net.cfg -o old
    if "$opt" --keygen me >"$logs/out" 2>"$logs/err"; then
        withstands --output old -- model.cnn --sign me.key -o old
    fi
    ;;
cnn-infer)
    files png seven seven.png
    files png plus plus.png
    withstands --output - -- -m model.cnn --threads 1 plus.png seven.png
    "$opt" model.cnn --int8 --data synth --quiet >"$logs/out"
    withstands --output - -- --threads 2 --json --topk 2 seven.png
    withstands --output old -- -m model.cnn --threads 1 --test --data mnist --data-dir data --logits old
    cp other scores.npy
    withstands --output scores.npy -- -m model.cnn --threads 1 --test --data mnist --data-dir data --logits scores.npy
    python3 - >images.npy <<'PY'
import sys
head = "{'descr': '|u1', 'fortran_order': False, 'shape': (3, 28, 28, 1), }".ljust(117) + "\n"
sys.stdout.buffer.write(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + bytes(3 * 28 * 28))
PY
    withstands --output - -- -m model.cnn --threads 1 --input images.npy
    survives -- -m model.cnn --threads 1 --compare ref
    survives -- -m model.cnn --threads 1 --bench --quiet
    if "$opt" --keygen me >"$logs/out" 2>"$logs/err"; then
        "$opt" model.cnn --sign me.key -o signed.cnn >"$logs/out"
        withstands --output - -- -m signed.cnn --require-signature me.pub --threads 1 --input images.npy
    fi
    survives -- --help
    ;;
esac
finish
