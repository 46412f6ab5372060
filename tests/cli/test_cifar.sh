# CIFAR-10 from its files and from its archive, through all three tools, and photographs afterwards.
. "$2/tests/cli/lib.sh"

cat >tiny.cfg <<'CFG'
image = input(height=32, width=32, channels=3)
conv1 = conv(image, out=8, kernel=5, stride=2)
bn1 = bn(conv1)
relu1 = relu(bn1)
pool1 = maxpool(relu1, kernel=2)
fc1 = linear(pool1, out=10)
CFG
mkdir -p data/cifar10 packed/cifar-10-batches-bin
files cifar10 data/cifar10
cp data/cifar10/*.bin data/cifar10/batches.meta.txt packed/cifar-10-batches-bin
tar -C packed -czf packed/cifar-10-binary.tar.gz cifar-10-batches-bin && rm -r packed/cifar-10-batches-bin

set -- "$train" --data cifar10 --model tiny.cfg --epochs 3 --batch 16 --lr 0.05
succeeds "$@" --data-dir data --json -o model.cnn
has_keys test_accuracy val_accuracy epochs=3
says "200 training images, while CIFAR-10 has 50000"
succeeds "$@" --data-dir packed --quiet -o packed.cnn
same model.cnn packed.cnn

"$make_model" lenet5 none gray.cnn

# The model knows its data, also for cnn-opt and cnn-infer, and its classes.
succeeds "$opt" model.cnn --int8 --data-dir data --quiet -o small.cnn
for model in model.cnn small.cnn; do
    for dir in data packed; do
        succeeds "$infer" -m $model --test --data-dir $dir --logits $dir.logits
        says "cifar10 test images"
    done
    same data.logits packed.logits
done
succeeds "$infer" -m model.cnn --test --data-dir data --logits logits --quiet --json
has_keys images=40 accuracy

# A picture of the size that the network reads is taken as it is: the scores are those of the test image.
succeeds "$infer" -m model.cnn data/cifar10/photo.png --json
has_keys "results[0].topk[0].probability"
checks=$((checks + 1))
python3 -c 'import json, math, struct, sys
scores = struct.unpack("<10f", open("logits", "rb").read(40))
classes = "airplane automobile bird cat deer dog frog horse ship truck".split()
best = max(range(10), key=lambda k: scores[k])
probability = 1 / sum(math.exp(score - scores[best]) for score in scores)
found = json.load(sys.stdin)["results"][0]
assert found["label"] == classes[best], (found, best)
assert abs(found["probability"] - probability) < 1e-5, (found, probability)' <"$logs/out" 2>>"$logs/err" ||
    fail "the picture's scores are not those of the test image"

# The same as NumPy arrays: images in, scores out.
files npy images.npy data/cifar10/test_batch.bin 40
succeeds "$infer" -m model.cnn --input images.npy --logits array
same logits array
succeeds "$infer" -m model.cnn --test --data-dir data --logits test.npy
succeeds "$infer" -m model.cnn --input images.npy --logits scores.npy --json
has_keys images=40
same test.npy scores.npy
checks=$((checks + 1))
python3 -c 'import ast
data = open("scores.npy", "rb").read()
assert data[:8] == b"\x93NUMPY\1\0" and data[8] == 118 and data[9] == 0
header = ast.literal_eval(data[10:128].decode())
assert header == {"descr": "<f4", "fortran_order": False, "shape": (40, 10)}, header
assert data[128:] == open("logits", "rb").read()' 2>"$logs/err" || fail "scores.npy is no array of the scores"
succeeds "$infer" -m model.cnn --input images.npy --topk 2
says "images.npy[39]"
refuses 1 "images.npy|(40, 32, 32, 3)|28x28x1" "$infer" -m gray.cnn --input images.npy
refuses 2 "--input|--test" "$infer" -m model.cnn --input images.npy --test
refuses 2 "--logits|--topk" "$infer" -m model.cnn --input images.npy --logits x.npy --topk 2
head -c 1000 images.npy >cut.npy
refuses 1 "cut.npy|872 bytes|122880" "$infer" -m model.cnn --input cut.npy
refuses 1 "none.npy" "$infer" -m model.cnn --input none.npy

# Others are fitted into it, and nothing looks for ink.
succeeds "$infer" -m small.cnn data/cifar10/photo-large.png data/cifar10/photo.png --json
has_keys "results[1].probability"
files png white white.png
succeeds "$infer" -m model.cnn white.png

# The standard augmentation of photographs, and what has no use for them.
succeeds "$@" --data-dir data --augment 1 --verbose -o augmented.cnn
says "augmentation of 100 % of the images: flip=0.5,crop=4"
checks=$((checks + 1))
cmp -s model.cnn augmented.cnn && fail "--augment 1 gives the same model"
succeeds "$@" --data-dir data --augment 1 --augmentation flip,crop,cutout --verbose -o augmented.cnn
says "flip=0.5,crop=4,cutout=8"
run "$@" --data-dir data --augment 1 --augmentation serif
[ "$code" = 2 ] || fail "serifs on photographs: exit code $code"
says "handwritten 1s and 7s"

# Depthwise convolutions and ReLU6: trained in mixed precision, pruned, quantized, to ONNX and back.
succeeds "$train" --data cifar10 --data-dir data --model mobilenet-small --amp --epochs 1 --batch 32 --quiet -o mobile.cnn
succeeds "$opt" mobile.cnn --prune 0.5 --int8 --data-dir data --finetune 1 --quiet --json -o mobile8.cnn
has_keys after.accuracy before.weights=278730
succeeds "$opt" mobile8.cnn -o mobile8.onnx --quiet
for model in mobile8.cnn mobile8.onnx; do
    succeeds "$infer" -m $model --test --data cifar10 --data-dir data --logits $model.logits --quiet
done
same mobile8.cnn.logits mobile8.onnx.logits

# What does not suit.
sed 's/channels=3/channels=1/' tiny.cfg >gray.cfg
run "$train" --data cifar10 --data-dir data --model gray.cfg
[ "$code" = 1 ] || fail "a network that reads gray images: exit code $code"
says "its input is 32x32x1 (height, width, channels), but the images are 32x32x3"
refuses 1 "model.cnn|32x32x3|28x28x1|synth" "$infer" -m model.cnn --test --data synth

# Damaged files: one sentence.
set -- "$train" --data cifar10 --model tiny.cfg --epochs 1 --quiet
head -c 5000 data/cifar10/data_batch_2.bin >part && mv part data/cifar10/data_batch_2.bin
refuses 1 "data_batch_2.bin|5000 bytes|3073" "$@" --data-dir data
head -c 20000 packed/cifar-10-binary.tar.gz >part && mv part packed/cifar-10-binary.tar.gz
refuses 1 "cifar-10-binary.tar.gz|ends at byte" "$@" --data-dir packed
printf 'no archive' >packed/cifar-10-binary.tar.gz
refuses 1 "cifar-10-binary.tar.gz" "$@" --data-dir packed
finish
