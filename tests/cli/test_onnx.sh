# ONNX files with the three tools: written, read, trained on, refused.
. "$2/tests/cli/lib.sh"
corpus=$cli/../fuzz/corpus/onnx

cat >tiny.cfg <<'CFG'
image = input(height=28, width=28, channels=1)
conv1 = conv(image, out=8, kernel=5, stride=2)
bn1 = bn(conv1)
relu1 = relu(bn1)
pool1 = maxpool(relu1, kernel=2)
fc1 = linear(pool1, out=10)
CFG
succeeds "$train" --data synth --model tiny.cfg --epochs 0.5 --quiet

# Converting: no data, no passes, and the same answers bit for bit.
succeeds "$opt" -o model.onnx
says "model.onnx: model.cnn as FP32"
succeeds "$opt" model.onnx -o back.cnn
succeeds "$infer" -m model.cnn --test --logits a.f32
succeeds "$infer" -m back.cnn --test --logits b.f32
same a.f32 b.f32
succeeds "$infer" -m model.onnx --test --logits c.f32
says "model.onnx: "
same a.f32 c.f32
succeeds "$opt" model.cnn -o MODEL.ONNX --json
has_keys file_bytes weights macs
same model.onnx MODEL.ONNX

# Passes: what goes in and comes out is ONNX; the file says on which data.
succeeds "$opt" model.onnx --prune 0.5 --finetune 0.2 --int8 --quiet -o small.onnx
succeeds "$infer" -m small.onnx --test --logits a.f32
succeeds "$opt" model.onnx --prune 0.5 --finetune 0.2 --int8 --quiet -o small.cnn
succeeds "$infer" -m small.cnn --test --logits b.f32
same a.f32 b.f32
succeeds "$opt" small.cnn -o small2.onnx
same small.onnx small2.onnx
refuses 1 "small.onnx is already INT8" "$opt" small.onnx --int8 -o x.cnn
succeeds "$opt" model.cnn --prune 0.3 --finetune 0 --json --quiet -o pruned.onnx
checks=$((checks + 1))
python3 -c 'import json, os, sys
sys.exit(json.load(sys.stdin)["after"]["file_bytes"] != os.path.getsize("pruned.onnx"))' <"$logs/out" ||
    fail "the size of pruned.onnx is not the one that is told"

files shapes pictures 12
# Training goes on from one, and writes one.
succeeds "$train" --init model.onnx --epochs 0.1 --quiet -o more.onnx
succeeds "$train" --init "$corpus/torch-script-11.onnx" --normalize 0.1307,0.3081 --data png:pictures --epochs 1 --quiet
succeeds "$infer" -m more.onnx --test
says "more.onnx: "

# A softmax at the end: scores are those before it, and it comes back from both kinds of files.
{ cat tiny.cfg; echo 'prob = softmax(fc1)'; } >soft.cfg
succeeds "$train" --data synth --model tiny.cfg --epochs 0.1 --quiet -o plain.cnn
succeeds "$train" --data synth --model soft.cfg --epochs 0.1 --quiet -o soft.cnn
succeeds "$infer" -m plain.cnn --test --logits a.f32
succeeds "$infer" -m soft.cnn --test --logits b.f32
same a.f32 b.f32
succeeds "$opt" soft.cnn -o soft.onnx
succeeds "$opt" soft.onnx -o soft-back.cnn
same soft.cnn soft-back.cnn
checks=$((checks + 1))
grep -q probabilities soft.onnx || fail "the output of soft.onnx is not called probabilities"

# Files of other tools say nothing of pixels and data.
torch=$corpus/torch-script-11.onnx
succeeds "$opt" "$torch" -o torch.cnn
says "does not say how pixels are normalized"
succeeds "$opt" "$torch" --normalize 0.1307,0.3081 -o torch.cnn
checks=$((checks + 1))
grep -q "does not say" "$logs/err" && fail "--normalize was given, and still the tool asks for it"
refuses 2 "does not say which data it was trained on" "$opt" "$torch" --int8 --quiet -o x.cnn
for wrong in 0.5 0.5, ,0.5 0.5,0 0.5,-1 a,b 0.5,0.5,0.5 0.1/0.2/0.3/0.4/0.5,1 nan,1; do
    refuses 2 "--normalize|MEAN,DEVIATION" "$opt" "$torch" --normalize $wrong -o x.cnn
done
refuses 2 "leave out --normalize" "$opt" model.cnn --normalize 0.5,0.5 -o x.onnx

# What cannot be.
refuses 2 "nothing to do" "$opt" model.cnn -o x.cnn
refuses 2 "--pack is for .cnn files" "$opt" model.cnn --pack smallest -o x.onnx
refuses 2 "--report tells what was done" "$opt" model.cnn --report r.html -o x.onnx
cp model.cnn wrong.onnx
refuses 1 "is a cnnkit model, not an ONNX file" "$infer" -m wrong.onnx --test
echo hello >text.onnx
refuses 1 "no ONNX file" "$opt" text.onnx -o x.cnn
refuses 1 "there is no such file" "$opt" missing.onnx -o x.cnn
head -c 1000 model.onnx >cut.onnx
refuses 1 "damaged or truncated" "$infer" -m cut.onnx --test
echo old >kept.onnx
refuses 1 "kept.onnx" limited "$opt" model.cnn -o kept.onnx
checks=$((checks + 1))
[ "$(cat kept.onnx)" = old ] || fail "a save that failed changed the old file"
refuses_places "$opt" model.onnx --quiet -o
no_leftovers "behind conversions"
[ ! -e x.cnn ] && [ ! -e x.onnx ] || fail "a refused command wrote its output"

finish
