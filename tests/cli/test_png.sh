# Pictures of one's own: two commands train and read them; shrinking; what is left out and what is refused.
. "$2/tests/cli/lib.sh"

files shapes shapes 120
set -- --data png:shapes --model lenet5 --lr 0.02 --batch 16 --epochs 12
succeeds "$train" "$@"
says "lenet5 is made for these data: input 28x28x3 (height, width, channels), 4 outputs"
says "png:shapes: 389 images to train on, 43 held out"
succeeds "$infer" "shapes/red disc/000.png" "shapes/blue cross/000.png"
says "red disc"
says "blue cross"

# The saved model knows its classes by name, and nine of ten pictures that it never saw.
right_enough() {
    checks=$((checks + 1))
    python3 -c 'import json, sys; sys.exit(json.load(sys.stdin)["accuracy"] < 0.9)' <"$logs/out" ||
        fail "$1: accuracy below 0.9"
}
succeeds "$infer" --test --data png:shapes --json --quiet
has_keys accuracy images=48
right_enough "trained"
for threads in 1 2; do
    succeeds "$train" --data png:shapes --model lenet5 --epochs 0.5 --threads $threads -o threads$threads.cnn --quiet
done
same threads1.cnn threads2.cnn

# Smaller, and the names are still there.
refuses 2 "model.cnn|--data png:DIR" "$opt" --prune 0.5 --int8
succeeds "$opt" --prune 0.5 --int8 --data png:shapes --finetune 4 --quiet
succeeds "$infer" --test --data png:shapes --json --quiet
right_enough "halved, in INT8"
succeeds "$infer" --json "shapes/red square/001.png"
has_keys 'results[0].label=red square'
refuses 2 "model-opt.cnn|--data png:DIR" "$infer" --test

# Data that do not suit: another name, another number of classes, another size is no matter.
mkdir other few && cp -r shapes/* other && mv "other/red disc" "other/rot"
refuses 1 "model.cnn with --data png:other|class 2|'red disc'|'red square'" "$opt" --int8 --data png:other model.cnn
refuses 1 "model.cnn with --data png:other|class 2" "$infer" -m model.cnn --test --data png:other
cp -r "shapes/red disc" "shapes/blue disc" few
refuses 1 "model.cnn with --data png:few|4 classes|has 2" "$opt" --int8 --data png:few model.cnn
refuses 1 "model.cnn with --data synth|28x28x3" "$infer" -m model.cnn --test --data synth

# A network of one's own says what it reads: its size is taken, other classes are refused with what to write.
cat >own.cfg <<'CFG'
image = input(height=12, width=16, channels=1)
conv1 = conv(image, out=8, kernel=3, stride=2)
relu1 = relu(conv1)
fc1 = linear(relu1, out=2)
CFG
succeeds "$train" --data png:few --model own.cfg --epochs 1 --quiet -o own.cnn
succeeds "$infer" -m own.cnn --test --data png:few --quiet
succeeds "$infer" -m own.cnn "shapes/red disc/000.png"
refuses 1 "own.cfg|fc1|4 classes|out=4" "$train" --data png:shapes --model own.cfg --quiet
refuses 2 "--image-size 20|own.cfg|12x16|height=20, width=20" "$train" --data png:few --model own.cfg --image-size 20
refuses 1 "own.cfg|12x16x1|image = input(height=28, width=28, channels=1)" "$train" --data synth --model own.cfg --quiet
succeeds "$train" --data png:few --model lenet5 --image-size 20x24 --epochs 0.5 -o size.cnn
says "input 20x24x3"
refuses 1 "8x8x3|lenet5|conv2" "$train" --data png:few --model lenet5 --image-size 8

# Digits are prepared as MNIST was, in training and when a picture is read.
mkdir drawn drawn/one drawn/seven
files png seven drawn/seven/00.png
files png plus drawn/one/00.png
for i in 01 02 03 04 05 06 07 08 09; do
    cp drawn/one/00.png drawn/one/$i.png
    cp drawn/seven/00.png drawn/seven/$i.png
done
succeeds "$train" --data png:drawn --prepare digit --model lenet5 --epochs 40 --batch 4 --quiet -o drawn.cnn
succeeds "$infer" -m drawn.cnn --json drawn/seven/00.png drawn/one/00.png
has_keys 'results[0].label=seven' 'results[1].label=one'
files png white white.png
refuses 1 "white.png|nothing is drawn" "$infer" -m drawn.cnn white.png
refuses 2 "digits|28x28" "$train" --data png:drawn --prepare digit --image-size 32
refuses 2 "--prepare|png:DIR" "$train" --data synth --prepare digit
refuses 2 "--image-size|png:DIR" "$train" --image-size 20 --data synth
refuses 2 "--prepare|'crop'" "$train" --data png:drawn --prepare crop
for size in 0 28.5 28x 28x28x3 5000 x28 -4; do
    refuses 2 "--image-size" "$train" --data png:drawn --image-size $size
done

# Broken pictures are named, the first few, and left out; other files are counted.
for i in 1 2 3 4 5; do
    echo "no picture" >"few/red disc/broken$i.png"
done
echo "notes" >few/notes.txt
succeeds "$train" --data png:few --model lenet5 --epochs 0.2 -o few.cnn
says "few/red disc/broken"
says "not a PNG file"
says "more pictures cannot be used and are left out"
says "1 file is passed over"
checks=$((checks + 1))
[ "$(grep -c 'passed over' "$logs/err")" = 1 ] || fail "the same note is shown twice"

# Folders that are refused.
refuses 2 "png:DIR" "$train" --data png:
refuses 1 "missing: is no folder" "$train" --data png:missing
refuses 1 "own.cfg: is no folder" "$train" --data png:own.cfg
mkdir -p empty single/a locked/a locked/b
refuses 1 "empty: has no sub-folder" "$train" --data png:empty
refuses 1 "single|only one sub-folder, 'a'" "$train" --data png:single
cp drawn/one/0*.png locked/a
refuses 1 "locked/b|no PNG picture" "$train" --data png:locked
chmod 000 locked/b
refuses 1 "locked/b|ermission" unprivileged "$train" --data png:locked -o /dev/null
chmod 755 locked/b
refuses 2 "'png'|png:DIR" "$train" --data png
finish
