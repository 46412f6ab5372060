# What the tests of the tools on --device cudasim share: networks, data, comparisons. Sourced by each with
# "$1" = folder of the tools, "$2" = folder of the sources.
here=$(cd "$2/tests/cudasim" && pwd) || exit 1
. "$2/tests/cli/lib.sh"
unset CNN_CUDASIM_FAIL CNN_CUDASIM_BREAK CNN_CUDASIM_MEMORY CNN_CUDASIM_FILL CNN_CUDASIM_TIMING CNN_PLUGIN_DIR CNN_CUDA_OWN

cat >narrow.cfg <<'CFG'
image = input(height=28, width=28, channels=1)
conv1 = conv(image, out=16, kernel=5, pad=2, bias=0)
bn1 = bn(conv1)
relu1 = relu(bn1)
pool1 = maxpool(relu1, kernel=2)
conv2 = conv(pool1, out=32, kernel=5, pad=2, bias=0)
bn2 = bn(conv2)
relu2 = relu(bn2)
pool2 = maxpool(relu2, kernel=2)
fc1 = linear(pool2, out=64)
relu3 = relu(fc1)
fc2 = linear(relu3, out=10)
CFG
cat >tiny.cfg <<'CFG'
image = input(height=28, width=28, channels=1)
conv1 = conv(image, out=16, kernel=5, stride=3, bias=0)
bn1 = bn(conv1)
relu1 = relu(bn1)
pool1 = maxpool(relu1, kernel=2)
conv2 = conv(pool1, out=16, kernel=3)
relu2 = relu(conv2)
fc1 = linear(relu2, out=10)
CFG
mkdir data # 270 images to train, 30 held out, 100 to test: of a run of few steps the most part should be steps
files mnist data

# agree WHAT ARGUMENT...: see compare.py.
agree() {
    run python3 "$here/compare.py" "$@"
    [ "$code" = 0 ] && echo "$*: $(cat "$logs/out")" || fail "$*"
}

# trains_alike MODEL EPOCHS STEPS: both devices train it with FP16 and find the same losses: DEVICE.cnn and DEVICE.log.
trains_alike() {
    for device in cpu cudasim; do
        succeeds "$train" --data mnist --data-dir data --model "$1" --batch 16 --epochs "$2" --amp --device $device --quiet \
            --log $device.log --log-every 1 -o $device.cnn
    done
    agree losses cudasim.log cpu.log 1e-2 "$3"
}

# logits "DEVICE..." MODEL OPTION...: DEVICE.logits of the test images.
logits() {
    devices=$1 model=$2
    shift 2
    for device in $devices; do
        succeeds "$infer" -m "$model" --test "$@" --device $device --logits $device.logits --quiet
    done
}

# is_alike MODEL: its losses and its FP32 logits on cudasim are close to the CPU's; pruned and in INT8 it has the CPU's bits.
is_alike() {
    trains_alike "$1" 0.6 11
    succeeds "$opt" cudasim.cnn --prune 0.5 --int8 --finetune 0.3 --batch 16 --data mnist --data-dir data --device cudasim --quiet \
        -o int8.cnn
    logits "cpu cudasim ref" int8.cnn --data mnist --data-dir data
    same cudasim.logits cpu.logits
    same ref.logits cpu.logits
    logits "cpu cudasim" cpu.cnn --data mnist --data-dir data
    agree logits cudasim.logits cpu.logits 1e-5
}
