# cnn-opt --max-drop, --target-size, --target-ms, --target-macs, --pick: searches that keep what they found.
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
succeeds "$train" --data synth --model tiny.cfg --epochs 1 --quiet

bytes() { wc -c <"$1"; }

# MACs of the model that the last command told about.
macs() { python3 -c 'import json, sys; print(json.load(sys.stdin)["after"]["macs"])' <"$logs/out"; }

# A target alone: the first model that meets it.
succeeds "$opt" --target-size 9000 --int8 --finetune 0.1 --threads 1
says "chosen"
says "validation images it answers"
checks=$((checks + 1))
[ "$(bytes model-opt.cnn)" -le 9000 ] || fail "the file has $(bytes model-opt.cnn) bytes"
cp model-opt.cnn one.cnn
cp model-opt-search/points.csv one.csv
# Channels and single weights went, from each point both; the list says which points no other one beats.
checks=$((checks + 1))
python3 -c 'import csv, sys
rows = list(csv.DictReader(open("one.csv").read().splitlines()[1:]))
kinds = {(row["from"], row["structure"]) for row in rows}
figures = [(-float(row["accuracy"]), float(row["file_bytes"]), float(row["ms_per_image"])) for row in rows]
best = [not any(all(x <= y for x, y in zip(a, b)) and a != b for a in figures) for b in figures]
sys.exit(not ({("-1", "none"), ("0", "channel"), ("0", "weight")} <= kinds and len(kinds) == len(rows)
              and best == [row["front"] == "1" for row in rows]))' || fail "points.csv is not the list of the points"

# Other threads, the same file; the same command again computes nothing anew.
succeeds "$opt" --target-size 9000 --int8 --finetune 0.1 --threads 2 -o other.cnn
same one.cnn other.cnn
succeeds "$opt" --target-size 9000 --int8 --finetune 0.1 --verbose
says "point 1 is known"
same one.csv model-opt-search/points.csv
same one.cnn model-opt.cnn

# Interrupted: a search that lost its last points finds the same ones again.
head -5 one.csv >model-opt-search/points.csv
succeeds "$opt" --target-size 9000 --int8 --finetune 0.1 --quiet
same one.cnn model-opt.cnn

# --pick takes any point; the given model is point 0 when nothing is removed.
succeeds "$opt" --pick 0 --int8 --finetune 0.1 --quiet -o model-opt.cnn --json
has_keys before.accuracy after.file_bytes
says '"search": [{"number": 0, "from": -1, "structure": "none", "step": 0, "share": 0'
succeeds "$opt" --int8 --quiet -o plain.cnn
same plain.cnn model-opt.cnn
refuses 2 "--pick 63|model-opt-search" "$opt" --pick 63 --int8 --finetune 0.1

# A promise that the images cannot keep is not made, and no file is touched.
cp model-opt.cnn before.cnn
refuses 1 "cannot promise|0 points" "$opt" --max-drop 0 --int8 --finetune 0 --search drop --quiet --structure channel
same before.cnn model-opt.cnn
succeeds "$opt" --max-drop 90 --int8 --finetune 0 --search drop --json --quiet --structure channel
says '"drop_at_most"'
checks=$((checks + 1))
grep -q ",weight," drop/points.csv && fail "--structure channel took weights"
refuses 1 "no model met the goals|--pick" "$opt" --target-size 100 --int8 --finetune 0 --search drop --quiet \
    --structure channel
succeeds "$opt" --target-ms 1000 --finetune 0 --quiet --search time
succeeds "$opt" --target-macs 30000 --finetune 0 --quiet --json --search macs
checks=$((checks + 1))
[ "$(macs)" -le 30000 ] || fail "the model has $(macs) MACs"
checks=$((checks + 1))
grep -q ",weight," macs/points.csv && fail "--target-macs took weights"
# With a promise to keep it is a search among single weights, too.
succeeds "$opt" --target-size 9000 --max-drop 90 --structure weight --int8 --finetune 0 --quiet --search both

# The smallest file of single weights: a number of bytes is met, with one thread and with two, and the file runs.
succeeds "$opt" --target-size 700 --structure weight --int8 --pack smallest --finetune 3 --threads 1 -o small.cnn
says "weights take"
checks=$((checks + 1))
[ "$(bytes small.cnn)" -le 700 ] && [ "$(bytes small.cnn)" -ge 560 ] || fail "the file has $(bytes small.cnn) bytes"
succeeds "$opt" --target-size 700 --structure weight --int8 --pack smallest --finetune 3 --threads 2 -o small2.cnn \
    --bits 3 --quiet
same small.cnn small2.cnn
succeeds "$opt" --target-size 700 --structure weight --int8 --pack smallest --finetune 3 --lr 0.004 --quiet -o quick.cnn
checks=$((checks + 1))
cmp -s small.cnn quick.cnn && fail "--lr changes nothing"
succeeds "$infer" -m small.cnn --test --json
succeeds "$infer" -m small.cnn --compare ref
succeeds "$opt" --target-size 900 --target-macs 26000 --structure weight --int8 --pack smallest --finetune 3 --json -o \
    fast.cnn
checks=$((checks + 1))
[ "$(macs)" -le 26000 ] || fail "the model has $(macs) MACs"
checks=$((checks + 1))
for width in $(sed -n 's/^narrow to \([0-9-]*\):.*/\1/p' "$logs/err" | tr - ' '); do
    [ $((width % 4)) = 0 ] || fail "a width of $width is no multiple of 4"
done
says "narrow to "
refuses 1 "--target-macs 10|4 channels" "$opt" --target-size 900 --target-macs 10 --structure weight --int8 \
    --finetune 1 --quiet
refuses 2 "--search" "$opt" --target-size 900 --structure weight --int8 --search drop
refuses 2 "--target-ms|--target-macs" "$opt" --target-size 900 --target-ms 1 --structure weight --int8
refuses 2 "--target-size 100|150" "$opt" --target-size 100 --structure weight --int8

# What goes with a search, and what does not.
refuses 2 "model-opt-search|--search" "$opt" --target-size 9000 --finetune 0.1
refuses 2 "--prune" "$opt" --target-size 9000 --prune 0.5
refuses 2 "--search" "$opt" --int8 --search drop
refuses 2 "--global" "$opt" --max-drop 1 --global
echo "nonsense" >model-opt-search/points.csv
refuses 1 "points.csv, line 1" "$opt" --target-size 9000 --int8 --finetune 0.1
no_leftovers "after searches"
finish
