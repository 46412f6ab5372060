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
