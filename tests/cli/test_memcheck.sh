# The three tools under valgrind's memcheck: no wrong access, no value that was never set, nothing lost. Too slow for every
# run: with CNNKIT_TESTS_ALL set, as scripts/test --all does. valgrind knows no AVX-512, so the CPU's AVX2 code runs.
[ -n "$CNNKIT_TESTS_ALL" ] || { echo "only with CNNKIT_TESTS_ALL set"; exit 77; }
command -v valgrind >/dev/null || { echo "there is no valgrind"; exit 77; }
. "$2/tests/cli/lib.sh"

# Blocks "possibly lost" are those that the C library keeps for threads of the pool.
checked() { succeeds valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite "$@"; }

cat >net.cfg <<'END'
image = input(height=28, width=28, channels=1)
conv1 = conv(image, out=8, kernel=5, pad=2, bias=0)
bn1 = bn(conv1)
relu1 = relu(bn1)
pool1 = maxpool(relu1, kernel=2)
conv2 = conv(pool1, out=8, kernel=3, pad=1)
sum = add(conv2, pool1)
relu2 = relu(sum)
pool2 = globalavgpool(relu2)
fc1 = linear(pool2, out=10)
END
checked "$train" --model net.cfg --data synth --epochs 0.02 --amp --augment 0.5 --threads 2 --quiet -o model.cnn
checked "$train" --init model.cnn --data synth --epochs 0.01 --threads 1 --log run.jsonl --quiet -o again.cnn
checked "$opt" model.cnn --data synth --prune 0.5 --int8 --finetune 0.01 --observer mse --report report.html --quiet -o small.cnn
checked "$opt" model.cnn -o model.onnx
checked "$opt" model.onnx --data synth --int8 --bits 4 --pack smallest --quiet -o packed.cnn
files png seven seven.png
files png plus plus.png
checked "$infer" -m small.cnn seven.png plus.png
checked "$infer" -m packed.cnn --test --data synth
checked "$infer" -m model.cnn --sanitize --json seven.png
checked "$infer" -m model.cnn --bench --batch 2 --json
finish
