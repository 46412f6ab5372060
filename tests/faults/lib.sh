# What memory.sh and calls.sh share; sourced with their arguments: BIN SOURCES TOOL.
. "$2/tests/cli/lib.sh"

tool=$3
FAULT_LOGS=$logs
export FAULT_LOGS
# A leak or a wrong access ends with a code of its own.
export ASAN_OPTIONS="exitcode=99:allocator_may_return_null=1:${ASAN_OPTIONS:-}"

# survives OPTION... -- ARGUMENT...: no run of "$harness" with these arguments breaks a promise.
survives() {
    checks=$((checks + 1))
    echo "$tool $*"
    "$bin/$harness" --every "$every" "$@" >"$logs/report" 2>&1 || {
        failures=$((failures + 1))
        cat "$logs/report"
    }
    tail -1 "$logs/report"
}

cat >net.cfg <<'CFG'
image = input(height=28, width=28, channels=1)
conv1 = conv(image, out=8, kernel=5, stride=2, bias=0)
bn1 = bn(conv1)
relu1 = relu(bn1)
conv2 = conv(relu1, out=8, kernel=3, pad=1)
sum = add(conv2, relu1)
relu2 = relu(sum)
pool2 = maxpool(relu2, kernel=2)
fc1 = linear(pool2, out=10)
CFG
"$make_model" net.cfg synth model.cnn
mkdir data
files mnist data
echo "old" >old
