# cnn-train: what it prints and writes, reproducibility, the loss scaler's account, bad input.
. "$2/tests/cli/lib.sh"

cat >tiny.cfg <<'CFG'
image = input(height=28, width=28, channels=1)
conv1 = conv(image, out=4, kernel=5, stride=2)
bn1 = bn(conv1)
relu1 = relu(bn1)
pool1 = maxpool(relu1, kernel=2)
fc1 = linear(pool1, out=10)
CFG
set -- "$train" --data synth --model tiny.cfg --epochs 0.25 # what most runs below begin with

succeeds "$@" --json --quiet -o json.cnn
has_keys test_accuracy val_accuracy loss epochs images_per_s skipped_steps=0 loss_scale_min loss_scale_max
checks=$((checks + 1))
[ -s "$logs/err" ] && fail "--quiet prints to standard error"
succeeds "$@" --quiet
succeeds "$infer" -m model.cnn --test --quiet

# Progress goes to standard error, the result to standard output.
succeeds "$@" --verbose
checks=$((checks + 1))
grep -q "test accuracy" "$logs/out" || fail "no result on standard output"
grep -q "seed\|images" "$logs/err" || fail "no remarks on standard error"

# The same seed gives the same file, whatever the thread count; another seed another file.
for amp in "" --amp --amp=bf16; do
    succeeds "$@" $amp --seed 3 --threads 1 --quiet -o one.cnn
    succeeds "$@" $amp --seed 3 --threads 2 --quiet -o two.cnn
    same one.cnn two.cnn
done
succeeds "$@" --amp=bf16 --seed 4 --quiet -o two.cnn
checks=$((checks + 1))
cmp -s one.cnn two.cnn && fail "another seed gives the same model"

# Augmentation: the same file whatever the thread count; without a share nothing changes.
succeeds "$@" --quiet -o plain.cnn
succeeds "$@" --augment 0 --quiet -o one.cnn
same plain.cnn one.cnn
succeeds "$@" --augment 0.5 --threads 1 --quiet -o one.cnn
succeeds "$@" --augment 0.5 --threads 2 --verbose -o two.cnn
says "augmentation of 50 % of the images: "
same one.cnn two.cnn
checks=$((checks + 1))
cmp -s plain.cnn one.cnn && fail "--augment 0.5 gives the same model"
refuses 2 "--augment|'1.5'|from 0 to 1" "$@" --augment 1.5
refuses 2 "--augmentation|--augment 0.5" "$@" --augmentation shift
refuses 2 "'sheer' is not known|shear" "$@" --augment 1 --augmentation shift,sheer --quiet
refuses 2 "rotate=200|degrees|0 to 180" "$@" --augment 1 --augmentation rotate=200 --quiet
refuses 2 "serif|1s and 7s" "$@" --augment 1 --augmentation serif --quiet

# A loss scale that starts too high backs off, skips steps and says so.
succeeds "$@" --amp --loss-scale-start 16777216
says "backed off"
says "skipped"
succeeds "$@" --amp --loss-scale-start 16777216 --json
has_keys loss_scale_max=16777216 skipped_steps loss_scale_min
checks=$((checks + 1))
python3 -c 'import json, sys
r = json.load(sys.stdin)
sys.exit(not (r["skipped_steps"] >= 1 and r["loss_scale_min"] == 2.0 ** (24 - r["skipped_steps"])))' <"$logs/out" ||
    fail "the account does not add up"

# Recipes: the same bits with any number of threads.
recipe="--nesterov --clip-norm 1 --label-smoothing 0.1 --ema 0.9 --weight-decay 1e-3"
for amp in "" --amp; do
    succeeds "$@" $recipe $amp --threads 1 --quiet -o one.cnn
    succeeds "$@" $recipe $amp --threads 2 --quiet -o two.cnn
    same one.cnn two.cnn
done
succeeds "$@" --nesterov --clip-norm 1 --label-smoothing 0.1 --weight-decay 1e-3 --amp --quiet -o two.cnn
checks=$((checks + 1))
cmp -s one.cnn two.cnn && fail "the averaged weights are not those saved"
succeeds "$@" --optimizer adam --amp --threads 1 --quiet -o one.cnn
succeeds "$@" --optimizer adam --amp --threads 2 --quiet -o two.cnn
same one.cnn two.cnn
refuses 2 "--optimizer|'adan'|adam" "$@" --optimizer adan
refuses 2 "--momentum|--optimizer sgd|adamw" "$@" --optimizer adamw --momentum 0.9
refuses 2 "--beta2|--optimizer adam" "$@" --beta2 0.99
refuses 2 "--nesterov|--momentum" "$@" --nesterov --momentum 0
refuses 2 "--ema|'1'" "$@" --ema 1
refuses 2 "--label-smoothing|'1'" "$@" --label-smoothing 1
refuses 2 "--clip-norm|'0'" "$@" --clip-norm 0

# Starting from a trained model: what it took, what it cannot.
succeeds "$@" --quiet -o base.cnn
succeeds "$train" --init base.cnn --epochs 0.1 -o on.cnn
says "taken from base.cnn: conv1, bn1, fc1; new: none"
sed 's/fc1 =/head =/' tiny.cfg >other.cfg
succeeds "$train" --init base.cnn --model other.cfg --epochs 0.1 -o on.cnn
says "conv1, bn1; new: head"
sed 's/out=4/out=6/' tiny.cfg >wide.cfg
refuses 1 "--init base.cnn|conv1|6x5x5x1|4x5x5x1" "$@" --init base.cnn --model wide.cfg
refuses 1 "none.cnn" "$@" --init none.cnn

# Freezing layers of it.
succeeds "$train" --data synth --init base.cnn --freeze all --epochs 0.1 -o frozen.cnn
says "frozen: conv1, bn1; 1,450 of 1,570 weights are trained"
succeeds "$train" --data synth --init base.cnn --freeze bn1 --ema 0.9 --amp --epochs 0.1 -o frozen.cnn
refuses 2 "--freeze|'conv2'|conv1, bn1, fc1" "$train" --data synth --init base.cnn --freeze conv1,conv2
refuses 2 "--freeze|nothing of tiny to train" "$train" --data synth --init base.cnn --freeze all,fc1
refuses 2 "--freeze|head|base.cnn" "$train" --data synth --init base.cnn --model other.cfg --freeze conv1,head
refuses 2 "--freeze conv1|--init" "$@" --freeze conv1

# Schedules, and options of one that another has no use for.
for schedule in "cosine --warmup 0.1" "step --lr-step 0.1 --lr-gamma 0.5" "one-cycle --warmup 0.05"; do
    succeeds "$@" --schedule $schedule --quiet --json
done
refuses 2 "--schedule|'linear'|one-cycle" "$@" --schedule linear
refuses 2 "--lr-step|--schedule step|cosine" "$@" --schedule cosine --lr-step 1
refuses 2 "--lr-gamma|'1.5'" "$@" --schedule step --lr-gamma 1.5
refuses 2 "--warmup 0.25|--epochs" "$@" --warmup 0.25

# The command line.
refuses 2 "--batch|'0'|from 1 to" "$@" --batch 0
refuses 2 "--batch|'-3'" "$@" --batch -3
refuses 2 "--epochs|'0'|above 0" "$@" --epochs 0
refuses 2 "--epochs|'nan'" "$@" --epochs nan
refuses 2 "--epochs|'inf'" "$@" --epochs inf
refuses 2 "--epochs|'1x'" "$@" --epochs 1x
refuses 2 "--lr|'-0.1'" "$@" --lr -0.1
refuses 2 "--amp|'fp8'|fp16 or bf16" "$@" --amp=fp8
refuses 2 "--epcohs|--epochs" "$@" --epcohs 3
succeeds "$train" --model lenet5 --data synth --amp --batch 8 --dump-program -o none.cnn
says "training of lenet5, batch 8"
says "conv_wgrad src=f16"
says "loss_scale"
[ ! -e none.cnn ] || fail "--dump-program trained"
refuses 2 "--device|'tpu'|auto, cuda, cpu or ref" "$@" --device tpu
refuses 2 "'model.cnn'" "$@" model.cnn
refuses 2 "--output|needs a value" "$@" --output
refuses 2 "'nonsense'|mnist" "$train" --data nonsense --model tiny.cfg
refuses 1 "'nonsense'|lenet5" "$train" --data synth --model nonsense

# Network descriptions: the sentence names the line and the layer.
refuses 1 "missing.cfg" "$@" --model missing.cfg
sed 's/maxpool/maxpol/' tiny.cfg >bad.cfg
refuses 1 "bad.cfg|line 5|'pool1'|maxpol" "$@" --model bad.cfg
sed 's/stride=2/strid=2/' tiny.cfg >bad.cfg
refuses 1 "bad.cfg|line 2|'conv1'|strid" "$@" --model bad.cfg
sed 's/stride=2/stride=0/' tiny.cfg >bad.cfg
refuses 1 "bad.cfg|line 2|'conv1'|stride" "$@" --model bad.cfg
sed 's/kernel=2/kernel=20/' tiny.cfg >bad.cfg
refuses 1 "bad.cfg|line 5|'pool1'|20" "$@" --model bad.cfg
sed 's/relu(bn1)/relu(bn7)/' tiny.cfg >bad.cfg
refuses 1 "bad.cfg|line 4|'relu1'|bn7" "$@" --model bad.cfg
: >bad.cfg
refuses 1 "bad.cfg" "$@" --model bad.cfg
sed 's/out=10/out=7/' tiny.cfg >seven.cfg
refuses 1 "7|10" "$@" --quiet --model seven.cfg
sed 's/height=28/height=20/' tiny.cfg >flat.cfg
refuses 1 "20x28|28x28" "$@" --quiet --model flat.cfg

# Data: truncated, mismatched, out of range.
mkdir data
files mnist data
set -- "$train" --data mnist --data-dir data --model tiny.cfg --epochs 1 --quiet
succeeds "$@" -o mnist.cnn
damage() { # damage FILE: restores the data, then makes FILE from standard input
    files mnist data
    cat >"data/$1.new"
    mv "data/$1.new" "data/$1"
}
head -c 5000 data/train-images-idx3-ubyte | damage train-images-idx3-ubyte
refuses 1 "train-images-idx3-ubyte|5000|235216" "$@"
head -c 9 data/t10k-labels-idx1-ubyte | damage t10k-labels-idx1-ubyte
refuses 1 "t10k-labels-idx1-ubyte|byte 9" "$infer" --test -m mnist.cnn --data-dir data
: | damage train-labels-idx1-ubyte
refuses 1 "train-labels-idx1-ubyte" "$@"
files mnist data
files idx data/train-labels-idx1-ubyte 1 299
refuses 1 "train-labels-idx1-ubyte|299|300" "$@"
files idx data/train-labels-idx1-ubyte 10 300
refuses 1 "train-labels-idx1-ubyte|10" "$@"
files mnist data
files idx data/train-images-idx3-ubyte 1 300 28 27
refuses 1 "train-images-idx3-ubyte|28x27|28x28" "$@"
printf 'GIF89a, not numbers' | damage train-images-idx3-ubyte
refuses 1 "train-images-idx3-ubyte" "$@"
files mnist data
gzip data/train-images-idx3-ubyte
succeeds "$@" -o gz.cnn
same mnist.cnn gz.cnn
head -c 20000 data/train-images-idx3-ubyte.gz >data/part
mv data/part data/train-images-idx3-ubyte.gz
refuses 1 "train-images-idx3-ubyte.gz" "$@"

# Saving: nowhere to write, and a disk that gets full. What was there stays whole.
set -- "$train" --data synth --model tiny.cfg --epochs 0.1 --quiet
cp "$train" cnn-train
refuses_places ./cnn-train --data synth --model tiny.cfg --epochs 0.1 --quiet -o
cp model.cnn before.cnn
refuses 1 "model.cnn" limited "$@"
same before.cnn model.cnn
no_leftovers "after a full disk"
finish
