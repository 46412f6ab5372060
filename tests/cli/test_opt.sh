# cnn-opt: what it prints and writes, bad models, bad options, places that cannot be written.
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

succeeds "$opt" --prune 0.5 --int8 --finetune 0.2 --json --quiet
has_keys before.accuracy before.file_bytes before.weights before.macs before.ms_per_image after.accuracy \
    after.file_bytes after.weights after.macs after.ms_per_image
checks=$((checks + 1))
python3 -c 'import json, sys
r = json.load(sys.stdin)
before, after = r["before"], r["after"]
sys.exit(not (after["file_bytes"] < before["file_bytes"] / 4 and after["macs"] < 0.6 * before["macs"]
              and after["weights"] < 0.6 * before["weights"] and len(r["layers"]) > 0))' <"$logs/out" ||
    fail "half the channels in INT8 are not a quarter of the file"
succeeds "$infer" -m model-opt.cnn --test

succeeds "$opt" --int8 -o int8.cnn model.cnn
says "accuracy"
says "INT8 suits all layers; the least exact is"
succeeds "$opt" --int8 --verbose -o int8.cnn model.cnn
says "SQNR"
succeeds "$opt" --int8 --json --quiet -o int8.cnn model.cnn
checks=$((checks + 1))
python3 -c 'import json, sys
layers = json.load(sys.stdin)["layers"]
sys.exit(not (all(layer["sqnr_db"] > 20 and 0.99 < layer["cosine"] <= 1.000001 and layer["clipped"] < 0.1
                  and layer["dead"] is False for layer in layers) and layers[-1]["observer"] is None
              and all(layer["observer"] and layer["scale"] > 0 for layer in layers[:-1])))' <"$logs/out" ||
    fail "the layers of --json do not tell how exact INT8 is"
succeeds "$opt" --prune 0.3 --finetune 0 -o pruned.cnn
succeeds "$opt" --prune 0.4 --global --finetune 0 --quiet -o global.cnn
for criterion in l1 l2 bn taylor random; do
    succeeds "$opt" --prune 0.5 --criterion $criterion --finetune 0 -o $criterion.cnn
done
succeeds "$opt" --prune 0.5 --criterion bn --finetune 0 -o bn.cnn
says "criterion bn: fc1 has no batch norm behind it, so l2 took its place"
for observer in max percentile entropy mse auto; do
    succeeds "$opt" --int8 --observer $observer --quiet -o $observer.cnn
done
succeeds "$opt" --int8 --bias-correction off --quiet -o auto.cnn
# Single weights: a share that is exact, zeros that survive training and INT8, a smaller file.
succeeds "$opt" --prune 0.9 --structure weight --finetune 0.2 --int8 --json -o sparse.cnn
has_keys before.accuracy after.file_bytes
checks=$((checks + 1))
python3 -c 'import json, sys
r = json.load(sys.stdin)
weights = {"conv1": 16 * 25, "fc1": 32 * 16 * 36, "fc2": 320}
sys.exit(not all(l["nonzeros"] <= weights[l["name"]] - int(weights[l["name"]] * 0.9 + 0.5) for l in r["layers"]))' \
    <"$logs/out" || fail "more than a tenth of the weights is left"
says "0 now: that gives the smallest file and no speed"
succeeds "$infer" -m sparse.cnn --test
for pack in raw auto smallest; do
    succeeds "$opt" --prune 0.9 --structure weight --global --finetune 0 --int8 --pack $pack --quiet -o $pack.cnn
done
checks=$((checks + 1))
[ "$(wc -c <raw.cnn)" -gt $((3 * $(wc -c <auto.cnn))) ] && [ "$(wc -c <auto.cnn)" -gt "$(wc -c <smallest.cnn)" ] ||
    fail "packing: $(wc -c raw.cnn auto.cnn smallest.cnn)"
succeeds "$infer" -m smallest.cnn --test
# Blocks of weights: three quarters of fc1's are 0, the layers that have no whole block stay as they are.
for schedule in one-shot cubic; do
    succeeds "$opt" --prune 0.75 --structure block --prune-schedule $schedule --finetune 0.2 --int8 --json -o block.cnn
    checks=$((checks + 1))
    python3 -c 'import json, sys
layers = {l["name"]: l for l in json.load(sys.stdin)["layers"]}
sys.exit(not (layers["fc1"]["structure"] == "block" and layers["fc1"]["nonzeros"] <= 32 * 16 * 36 / 4 + 32
              and layers["conv1"]["structure"] == layers["fc2"]["structure"] == "dense"
              and layers["conv1"]["nonzeros"] > 16 * 25 / 2))' <"$logs/out" || fail "$schedule: not the blocks that were asked for"
    says "13,824 of 18,432 weights are 0 now, in whole blocks"
    says "conv1 and other layers stay whole"
done
succeeds "$infer" -m block.cnn --dump-program
says "]:block"
succeeds "$infer" -m block.cnn --compare ref
succeeds "$opt" --prune 0.5 --structure block --global --criterion taylor --finetune 0 --verbose -o block.cnn
says "structure"
says "block, 5"
# Exact widths, in any order, fine-tuned like a share; the same file whatever the thread count.
for threads in 1 2; do
    succeeds "$opt" --keep fc1=13,conv1=5 --finetune 1 --int8 --threads $threads --json --quiet -o keep-$threads.cnn
    checks=$((checks + 1))
    python3 -c 'import json, sys
r = json.load(sys.stdin)
sys.exit(not ([l["channels"] for l in r["layers"]] == [5, 13, 10] and
              [s["name"] for s in r["passes"]][1:3] == ["keep fc1=13,conv1=5", "fine-tune 1 epoch"]))' <"$logs/out" ||
        fail "not the widths that were asked for"
done
same keep-1.cnn keep-2.cnn
succeeds "$opt" --keep conv1=5 --criterion l1 --finetune 0 --explain -o keep.cnn
says "Pruning took"
# 2:4: half of the weights without being asked, in groups; the same file whatever the thread count.
for threads in 1 2; do
    succeeds "$opt" --structure 2:4 --criterion l2 --finetune 0.2 --int8 --pack auto --threads $threads --json -o 2of4-$threads.cnn
    checks=$((checks + 1))
    python3 -c 'import json, sys
layers = {l["name"]: l for l in json.load(sys.stdin)["layers"]}
sys.exit(not (layers["fc1"]["structure"] == layers["fc2"]["structure"] == "2:4" and layers["conv1"]["structure"] == "dense"
              and layers["fc1"]["nonzeros"] <= 32 * 16 * 36 / 2 and layers["fc2"]["nonzeros"] <= 160))' <"$logs/out" ||
        fail "not 2:4"
    says "9,376 of 18,752 weights are 0 now, 2 of every 4: the file gets smaller, but only sparse tensor cores gain speed"
    says "conv1 stays whole: a group has 4 inputs, and it is narrower"
done
same 2of4-1.cnn 2of4-2.cnn
checks=$((checks + 1))
[ "$(wc -c <2of4-1.cnn)" -lt "$(wc -c <int8.cnn)" ] || fail "2:4 makes no smaller file"
succeeds "$infer" -m 2of4-1.cnn --compare ref
# Unpacked, its layers are compressed as sparse tensor cores take them, and run as any other.
succeeds "$opt" --structure 2:4 --finetune 0 --int8 --pack raw --quiet -o 2of4-raw.cnn
succeeds "$opt" --int8 --pack raw --quiet -o int8-raw.cnn
checks=$((checks + 1))
[ "$(wc -c <2of4-raw.cnn)" -lt "$(($(wc -c <int8-raw.cnn) * 3 / 4))" ] || fail "2:4 is not compressed"
succeeds "$infer" -m 2of4-raw.cnn --compare ref
# In steps, with training between them or while it goes on: the share at the end is the one that was asked for.
succeeds "$opt" --prune 0.5 --prune-schedule iterative --prune-steps 2 --finetune 0.4 --augment 0.5 --json --quiet
checks=$((checks + 1))
python3 -c 'import json, sys
sys.exit([l["channels"] for l in json.load(sys.stdin)["layers"]] != [8, 16, 10])' <"$logs/out" ||
    fail "two steps do not end where one does"
for schedule in iterative cubic; do
    succeeds "$opt" --prune 0.9 --structure weight --prune-schedule $schedule --finetune 0.4 --json --quiet
    checks=$((checks + 1))
    python3 -c 'import json, sys
weights = {"conv1": 16 * 25, "fc1": 32 * 16 * 36, "fc2": 320}
kept = {name: count - int(count * 0.9 + 0.5) for name, count in weights.items()} # less what dead units bring down
sys.exit(any(not 0.5 * kept[l["name"]] <= l["nonzeros"] <= kept[l["name"]] for l in json.load(sys.stdin)["layers"]))' <"$logs/out" || fail "$schedule: not the share that was asked for"
done
# Fine-tuning changes images as training did, unless it is told otherwise; small networks get 10 epochs.
succeeds "$train" --data synth --model tiny.cfg --epochs 0.2 --augment 0.5 --augmentation shift=2,rotate=5 -o moved.cnn
succeeds "$opt" --prune 0.5 --finetune 0.2 --data synth -o as-trained.cnn moved.cnn
says "fine-tuning changes 50 % of the images, as training did"
for augment in 0 0.5; do
    succeeds "$opt" --prune 0.5 --finetune 0.2 --augment $augment -o told.cnn moved.cnn
    checks=$((checks + 1))
    grep -q "as training did" "$logs/out" "$logs/err" && fail "--augment $augment is not what training did"
    checks=$((checks + 1))
    cmp as-trained.cnn told.cnn >/dev/null 2>&1 && fail "--augment $augment changes nothing"
done
# How they change can be said as well, with the share of training or another one.
succeeds "$opt" --prune 0.5 --finetune 0.2 --data synth --augmentation rotate=5,shift=2 -o same.cnn moved.cnn
says "fine-tuning changes 50 % of the images, as many as training did"
checks=$((checks + 1))
cmp -s as-trained.cnn same.cnn || fail "--augmentation as training had it makes another file"
succeeds "$opt" --prune 0.5 --finetune 0.2 --data synth --augmentation cutout=4 -o cut.cnn moved.cnn
checks=$((checks + 1))
cmp -s as-trained.cnn cut.cnn && fail "--augmentation changes nothing"
succeeds "$opt" --prune 0.5 --finetune 0.2 --data synth --augment 0.5 --augmentation cutout=4 -o cut-half.cnn moved.cnn
checks=$((checks + 1))
cmp -s cut.cnn cut-half.cnn || fail "--augment with the share of training makes another file"
succeeds "$opt" --prune 0.5 --optimizer adam --lr 0.0001 --batch 1024 -o long.cnn moved.cnn
says "fine-tune 10 epochs"
# Fine-tuning may listen to the model as it was given.
succeeds "$opt" --prune 0.5 --finetune 0.2 --distill --quiet -o taught.cnn
succeeds "$opt" --prune 0.5 --finetune 0.2 --quiet -o alone.cnn
checks=$((checks + 1))
cmp taught.cnn alone.cnn >/dev/null 2>&1 && fail "--distill changes nothing"
succeeds "$opt" --prune 0.9 --structure weight --prune-schedule cubic --finetune 0.2 --distill=0.9 --temperature 2 \
    --int8 --bits 3 --amp --quiet -o taught.cnn
# Or to another model, of INT8 too, which answers what augmentation makes of the images.
succeeds "$opt" --int8 --quiet -o teacher.cnn
succeeds "$opt" --prune 0.5 --finetune 0.2 --augment 0.5 --distill --quiet -o taught.cnn
succeeds "$opt" --prune 0.5 --finetune 0.2 --augment 0.5 --distill --teacher teacher.cnn --quiet -o changed.cnn
checks=$((checks + 1))
cmp taught.cnn changed.cnn >/dev/null 2>&1 && fail "--teacher changes nothing"
refuses 2 "--teacher|--distill" "$opt" --prune 0.5 --teacher teacher.cnn
refuses 1 "--teacher|missing.cnn|no such file" "$opt" --prune 0.5 --distill --teacher missing.cnn
refuses 2 "--distill|--finetune" "$opt" --int8 --distill
refuses 2 "--distill|'1.5'" "$opt" --prune 0.5 --distill=1.5
refuses 2 "--temperature|--distill" "$opt" --prune 0.5 --temperature 2
# At last on the images that were held out, too, which is said wherever their accuracy is.
succeeds "$opt" --prune 0.5 --finetune 0.2 --all-images -o changed.cnn
says "all images are trained on"
says "validation images, which it was trained on, it is right"
checks=$((checks + 1))
cmp changed.cnn alone.cnn >/dev/null 2>&1 && fail "--all-images changes nothing"
succeeds "$opt" --prune 0.5 --finetune 0.2 --all-images --json -o changed.cnn
says '"trained_on_val": true'
refuses 2 "--all-images|--finetune" "$opt" --int8 --all-images
refuses 2 "--all-images|search" "$opt" --max-drop 1 --all-images
for option in "--schedule one-cycle" --nesterov "--weight-decay 0.1" "--label-smoothing 0.1"; do
    # shellcheck disable=SC2086
    succeeds "$opt" --prune 0.5 --finetune 0.2 $option --quiet -o changed.cnn
    cmp changed.cnn alone.cnn >/dev/null 2>&1 && fail "$option changes nothing"
    # shellcheck disable=SC2086
    refuses 2 "${option%% *}|--finetune" "$opt" --int8 $option
done
refuses 2 "--label-smoothing|'1'" "$opt" --prune 0.5 --label-smoothing 1
refuses 2 "--nesterov|--optimizer sgd" "$opt" --prune 0.5 --nesterov --optimizer adam
for option in "--weight-decay 0.1" "--optimizer adamw" "--criterion l1"; do
    refuses 2 "recipe|leave out ${option% *}" "$opt" --target-size 2000 --structure weight --int8 $option
done
# A model that lost weights can lose channels as well.
succeeds "$opt" --prune 0.9 --structure weight --finetune 0 --quiet -o sparse-float.cnn
succeeds "$opt" --prune 0.5 --finetune 0 --quiet -o both.cnn sparse-float.cnn
succeeds "$infer" -m pruned.cnn --test --quiet

# Fake quantization and the INT8 program agree exactly on a whole test set.
succeeds "$bin/verify_fake_quant" int8.cnn
says " 0 differ"
refuses 1 "model.cnn|INT8" "$bin/verify_fake_quant" model.cnn

# The same model and seed give the same file, whatever the thread count.
succeeds "$opt" --prune 0.5 --int8 --finetune 0.2 --threads 1 --quiet -o one.cnn
succeeds "$opt" --prune 0.5 --int8 --finetune 0.2 --threads 2 --quiet -o two.cnn
same one.cnn two.cnn

# The command line.
for ratio in 0 1 1.5 nan -0.5 inf 50%; do
    refuses 2 "--prune|'$ratio'|above 0 and below 1" "$opt" --prune "$ratio" --int8
done
refuses 2 "--prune" "$opt"
refuses 2 "--prune" "$opt" --global --int8
refuses 2 "--prune-steps|iterative" "$opt" --prune 0.5 --prune-steps 3
refuses 2 "--prune-steps|'1'" "$opt" --prune 0.5 --prune-schedule iterative --prune-steps 1
refuses 2 "cubic|--structure block or weight" "$opt" --prune 0.5 --prune-schedule cubic
refuses 2 "iterative|--finetune" "$opt" --prune 0.5 --prune-schedule iterative --finetune 0
refuses 2 "--augment|--finetune" "$opt" --int8 --augment 0.5
refuses 2 "--augmentation|--finetune" "$opt" --int8 --augmentation shift
refuses 2 "--augmentation|--augment 0.5" "$opt" --prune 0.5 --augmentation shift --augment 0
refuses 2 "'spin'|flip, scale" "$opt" --prune 0.5 --augmentation spin --augment 0.5
refuses 2 "--structure|'filter'|channel|block" "$opt" --prune 0.5 --structure filter
refuses 2 "--structure|--prune" "$opt" --int8 --structure weight
refuses 2 "bn|weight" "$opt" --prune 0.5 --structure weight --criterion bn
refuses 2 "bn|block" "$opt" --prune 0.5 --structure block --criterion bn
refuses 2 "no layer 'relu1'|conv1, fc1" "$opt" --keep relu1=3
refuses 2 "conv1|17|16" "$opt" --keep conv1=17
refuses 2 "'conv1:3' is no width" "$opt" --keep conv1:3
for option in "--prune 0.5" --global "--structure weight" "--prune-schedule iterative" "--max-drop 1" "--pick 0"; do
    refuses 2 "--keep|${option%% *}" "$opt" --keep conv1=3 $option
done
refuses 2 "lamp|channels" "$opt" --keep conv1=3 --criterion lamp
refuses 2 "2:4|--prune 0.7" "$opt" --prune 0.7 --structure 2:4
refuses 2 "2:4|--global" "$opt" --structure 2:4 --global
refuses 2 "2:4|--prune-schedule cubic" "$opt" --structure 2:4 --prune-schedule cubic
refuses 2 "2:4|search" "$opt" --structure 2:4 --max-drop 1
refuses 2 "bn|2:4" "$opt" --structure 2:4 --criterion bn
refuses 2 "--pack|'zip'|smallest" "$opt" --int8 --pack zip
refuses 2 "--criterion|'l3'|taylor" "$opt" --prune 0.5 --criterion l3
refuses 2 "--criterion|--prune" "$opt" --int8 --criterion l1
refuses 2 "--batch|'0'" "$opt" --prune 0.5 --batch 0
refuses 2 "--finetune|'-1'" "$opt" --prune 0.5 --finetune -1
refuses 2 "--observer|'mean'|max" "$opt" --int8 --observer mean
refuses 2 "--percentile|mse" "$opt" --int8 --observer mse --percentile 99
refuses 2 "--bias-correction|--int8" "$opt" --prune 0.5 --bias-correction off
refuses 2 "--int9|--int8" "$opt" --int9
refuses 2 "'b.cnn'" "$opt" --int8 a.cnn b.cnn
refuses 1 "int8.cnn|INT8" "$opt" --int8 -o again.cnn int8.cnn
refuses 1 "int8.cnn|INT8" "$opt" --prune 0.5 -o again.cnn int8.cnn

# Models that cannot be read.
refuses 1 "missing.cnn" "$opt" --int8 missing.cnn
: >empty.cnn
refuses 1 "empty.cnn" "$opt" --int8 empty.cnn
head -c 500 model.cnn >short.cnn
refuses 1 "short.cnn" "$opt" --int8 short.cnn
for share in 0 0.02 0.3 0.7 0.999; do
    cp model.cnn flipped.cnn
    files flip flipped.cnn $share
    refuses 1 "flipped.cnn" "$opt" --int8 flipped.cnn
done
cp model.cnn newer.cnn
files version newer.cnn
refuses 1 "newer.cnn|version" "$opt" --int8 newer.cnn
refuses 1 "places" "$opt" --int8 places
sed 's/out=10/out=7/' tiny.cfg >seven.cfg
"$make_model" seven.cfg synth seven.cnn
refuses 1 "seven.cnn|7|10" "$opt" --int8 --quiet seven.cnn
"$make_model" tiny.cfg none none.cnn
refuses 2 "none.cnn|--data" "$opt" --int8 --quiet none.cnn

# Saving: nowhere to write, and a disk that gets full. What was there stays whole.
cp "$opt" cnn-opt
refuses_places ./cnn-opt --int8 --quiet model.cnn -o
cp model-opt.cnn before.cnn
refuses 1 "model-opt.cnn" limited "$opt" --int8 --quiet
same before.cnn model-opt.cnn
no_leftovers "after a full disk"
finish
