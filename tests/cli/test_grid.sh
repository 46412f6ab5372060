# cnn-opt --bits: weights of few bits, trained on their grid or rounded to it, with every way to prune.
. "$2/tests/cli/lib.sh"

cat >tiny.cfg <<'CFG'
image = input(height=28, width=28, channels=1)
conv1 = conv(image, out=16, kernel=5, stride=2)
bn1 = bn(conv1)
relu1 = relu(bn1)
pool1 = maxpool(relu1, kernel=2)
fc1 = linear(pool1, out=32)
relu2 = relu(fc1)
fc2 = linear(relu2, out=10)
CFG
succeeds "$train" --data synth --model tiny.cfg --epochs 0.5 --quiet

# Rounded alone, and trained: both run, and give the same answers on every device.
for bits in 2 3 5 8; do
    succeeds "$opt" --int8 --bits $bits --observer max -o rounded.cnn
    says "INT8, weights of $bits bits"
    succeeds "$opt" --int8 --bits $bits --observer max --finetune 0.2 --optimizer adam --lr 0.002 --quiet -o trained.cnn
    succeeds "$infer" -m rounded.cnn --compare ref
    succeeds "$infer" -m trained.cnn --compare ref
done
succeeds "$opt" --int8 --bits 2 --observer max --json --quiet -o rounded.cnn
cp "$logs/out" rounded.json
succeeds "$opt" --int8 --bits 2 --observer max --finetune 1 --augment 0.2 --amp --json --quiet -o trained.cnn
checks=$((checks + 1))
python3 -c 'import json, sys
rounded, trained = (json.load(open(f)) for f in sys.argv[1:])
sys.exit(not trained["after"]["accuracy"] > rounded["after"]["accuracy"])' rounded.json "$logs/out" ||
    fail "training on a grid of three levels is no better than rounding to one"

# Zeros stay zero through training on a grid, folding, INT8 and the file.
for schedule in one-shot iterative cubic; do
    succeeds "$opt" --prune 0.9 --structure weight --prune-schedule $schedule --finetune 0.3 --int8 --bits 3 \
        --observer max --json --quiet -o sparse.cnn
    checks=$((checks + 1))
    python3 -c 'import json, sys
weights = {"conv1": 16 * 25, "fc1": 32 * 16 * 36, "fc2": 320}
sys.exit(any(not 0 < l["nonzeros"] <= weights[l["name"]] - int(weights[l["name"]] * 0.9 + 0.5)
             for l in json.load(sys.stdin)["layers"]))' <"$logs/out" || fail "$schedule: pruned weights came back"
    succeeds "$infer" -m sparse.cnn --compare ref
done
succeeds "$opt" --prune 0.5 --structure block --finetune 0.1 --int8 --bits 4 --observer max --quiet -o block.cnn
succeeds "$infer" -m block.cnn --compare ref
succeeds "$opt" --prune 0.5 --prune-schedule iterative --prune-steps 2 --finetune 0.2 --int8 --bits 4 --observer max \
    --optimizer adamw --quiet -o channels.cnn
succeeds "$infer" -m channels.cnn --compare ref

# The same file whatever the thread count.
for threads in 1 2; do
    succeeds "$opt" --prune 0.8 --structure weight --prune-schedule cubic --finetune 0.2 --int8 --bits 3 \
        --optimizer adam --threads $threads --quiet -o threads$threads.cnn
done
same threads1.cnn threads2.cnn

# Mixed precision: what a list says, and what sensitivity shares out, rounded and trained; the account shows both.
bits_are() { # EXPRESSION over b, the bits of each layer, and w, the weights of each
    checks=$((checks + 1))
    python3 -c 'import json, sys
layers = json.load(sys.stdin)["layers"]
b, w = {l["name"]: l["bits"] for l in layers}, {l["name"]: l["weights"] for l in layers}
sys.exit(not eval(sys.argv[1]))' "$1" <"$logs/out" || fail "bits are not $1"
}
for finetune in 0 0.1; do
    succeeds "$opt" --int8 --bits 3,conv1=6 --observer max --finetune $finetune --json --quiet -o mixed.cnn
    bits_are 'b == {"conv1": 6, "fc1": 3, "fc2": 3}'
    succeeds "$infer" -m mixed.cnn --compare ref
    succeeds "$opt" --int8 --bits auto:3.5 --observer max --finetune $finetune --json --quiet -o auto.cnn
    bits_are 'len(set(b.values())) > 1 and sum(b[l] * w[l] for l in b) <= 3.51 * sum(w.values())'
    succeeds "$infer" -m auto.cnn --compare ref
done
succeeds "$opt" --int8 --bits fc1=2 --observer max --json --quiet -o mixed.cnn
bits_are 'b == {"conv1": 8, "fc1": 2, "fc2": 8}'
for threads in 1 2; do
    succeeds "$opt" --prune 0.5 --structure weight --int8 --bits auto:3 --finetune 0.1 --threads $threads -o threads$threads.cnn
    says "bits of weights, by sensitivity: conv1="
done
same threads1.cnn threads2.cnn

for bits in 1 9 0 three 33; do
    refuses 2 "--bits|'$bits'" "$opt" --int8 --bits $bits
done
refuses 2 "--bits|'conv9'|conv1, fc1, fc2" "$opt" --int8 --bits conv9=3
refuses 2 "--bits|conv1 has two" "$opt" --int8 --bits conv1=3,conv1=4
refuses 2 "--bits|'relu1'" "$opt" --int8 --bits 3,relu1=4
for bits in auto auto: auto:1.9 auto:8.1 auto:x auto:nan; do
    refuses 2 "--bits|'$bits'" "$opt" --int8 --bits $bits
done
refuses 2 "--bits auto|--target-size" "$opt" --int8 --bits auto:3 --structure weight --target-size 3000

# Adaptive rounding of few bits, without training.
for threads in 1 2; do
    succeeds "$opt" --int8 --bits 2,conv1=3 --round adaptive --observer max --threads $threads --json --quiet -o threads$threads.cnn
done
cp "$logs/out" adaptive.json
same threads1.cnn threads2.cnn
checks=$((checks + 1))
python3 -c 'import json, sys
rounded, adaptive = (json.load(open(f)) for f in sys.argv[1:])
sys.exit(not adaptive["after"]["accuracy"] > rounded["after"]["accuracy"] + 0.02)' rounded.json adaptive.json ||
    fail "adaptive rounding is no better than to the nearest"
succeeds "$infer" -m threads1.cnn --compare ref
refuses 2 "--round|--int8" "$opt" --prune 0.5 --round adaptive
refuses 2 "--round adaptive|grid" "$opt" --int8 --bits 4 --finetune 1 --round adaptive
refuses 2 "--round adaptive|grid" "$opt" --prune 0.5 --int8 --bits 4 --round adaptive
refuses 2 "--round|'up'|adaptive" "$opt" --int8 --round up
refuses 2 "--round|search" "$opt" --int8 --round adaptive --max-drop 1

# Codebooks: the layers have so few numbers, which files hold in less than the numbers alone would take.
for codebook in 1 2 3 4; do
    succeeds "$opt" --int8 --codebook $codebook --observer max --pack smallest --json --quiet -o book.cnn
    bits_are "set(b.values()) == {$codebook}"
    succeeds "$infer" -m book.cnn --compare ref
    checks=$((checks + 1))
    weights=$((16 * 25 + 32 * 576 + 320))
    [ "$(wc -c <book.cnn)" -lt $((weights * codebook / 8 + weights / 20 + 600)) ] || fail "$(wc -c <book.cnn) bytes for codebook $codebook"
done
for threads in 1 2; do
    succeeds "$opt" --prune 0.5 --structure weight --finetune 0.1 --int8 --codebook 2 --round adaptive --observer max \
        --threads $threads -o threads$threads.cnn
    says "INT8, codebooks of 4 numbers"
done
same threads1.cnn threads2.cnn
refuses 2 "--codebook|--int8" "$opt" --prune 0.5 --codebook 2
refuses 2 "--codebook|--bits" "$opt" --int8 --codebook 2 --bits 3
refuses 2 "--codebook|search" "$opt" --int8 --codebook 2 --max-drop 1
refuses 2 "--codebook|--target-size" "$opt" --int8 --codebook 2 --structure weight --target-size 3000
refuses 2 "--codebook|'5'" "$opt" --int8 --codebook 5

# Channels made even before INT8: another file, and answers that hold on every device.
succeeds "$opt" --int8 --observer max --equalization on -o even.cnn
says "channels between 2 pairs of layers equalized"
succeeds "$infer" -m even.cnn --compare ref
for threads in 1 2; do
    succeeds "$opt" --int8 --bits 4 --observer max --equalization on --threads $threads --quiet -o threads$threads.cnn
done
same threads1.cnn threads2.cnn
succeeds "$opt" --int8 --bits 4 --observer max --quiet -o threads2.cnn
checks=$((checks + 1))
cmp -s threads1.cnn threads2.cnn && fail "--equalization changes nothing"
refuses 2 "--equalization|--int8" "$opt" --prune 0.5 --equalization on
refuses 2 "--equalization|grid" "$opt" --int8 --bits 4 --finetune 1 --equalization on
refuses 2 "--equalization|search" "$opt" --int8 --equalization on --max-drop 1
refuses 2 "--equalization|grid" "$opt" --int8 --equalization on --structure weight --target-size 3000
refuses 2 "--bits|--int8" "$opt" --prune 0.5 --bits 3
refuses 2 "--bits|search" "$opt" --int8 --bits 3 --max-drop 1
refuses 2 "--optimizer|--finetune" "$opt" --int8 --optimizer adam
refuses 2 "--optimizer|'lion'|adamw" "$opt" --int8 --finetune 1 --optimizer lion
finish
