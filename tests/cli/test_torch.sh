# Weights in safetensors with the tools: written, read for a network, refused.
. "$2/tests/cli/lib.sh"

cat >tiny.cfg <<'CFG'
image = input(height=28, width=28, channels=1)
conv1 = conv(image, out=8, kernel=5, stride=2, bias=0)
bn1 = bn(conv1)
relu1 = relu(bn1)
pool1 = maxpool(relu1, kernel=2)
fc1 = linear(pool1, out=10)
CFG
succeeds "$train" --data synth --model tiny.cfg --epochs 0.5 --quiet
succeeds "$infer" --model model.cnn --test --logits a.f32

# Out and back: the same answers bit for bit; the second file is the first.
succeeds "$opt" model.cnn -o w.safetensors
says "w.safetensors: model.cnn as FP32"
succeeds "$opt" --from-torch w.safetensors --model tiny.cfg --data synth -o back.cnn
says "--normalize MEAN,DEVIATION says otherwise"
succeeds "$infer" --model back.cnn --test --logits b.f32
same a.f32 b.f32
succeeds "$opt" back.cnn -o again.safetensors
same w.safetensors again.safetensors
succeeds "$opt" --from-torch w.safetensors --model tiny.cfg --data synth --normalize 0.5,0.5 --prune 0.5 --finetune 0.1 --int8 \
    --quiet -o small.onnx
succeeds "$infer" --model small.onnx --test
succeeds "$train" --init w.safetensors --model tiny.cfg --data synth --epochs 0.1 --quiet -o more.cnn

refuses 2 "holds weights without a network|--from-torch" "$infer" --model w.safetensors --test
refuses 2 "holds weights without a network" "$opt" w.safetensors --int8 -o x.cnn
refuses 2 "give --model with it" "$opt" --from-torch w.safetensors -o x.cnn
refuses 2 "--model tiny.cfg names the network of --from-torch" "$opt" --model tiny.cfg --int8 -o x.cnn
refuses 2 "two models" "$opt" model.cnn --from-torch w.safetensors --model tiny.cfg -o x.cnn
refuses 2 "takes a .safetensors file" "$opt" --from-torch model.cnn --model tiny.cfg -o x.cnn
refuses 2 "--normalize|give --init FILE" "$train" --model tiny.cfg --data synth --normalize 0.5,0.5 --epochs 0.1 -o x.cnn
refuses 2 "give --model with it" "$train" --init w.safetensors --data synth --epochs 0.1 -o x.cnn
refuses 2 "without a network" "$train" --data synth --epochs 0.1 -o x.safetensors
refuses 1 "layer conv1: weight must be [6,1,5,5]" "$opt" --from-torch w.safetensors --model lenet5 -o x.cnn
refuses 1 "there is no such file" "$opt" --from-torch missing.safetensors --model tiny.cfg -o x.cnn
succeeds "$opt" model.cnn --int8 --quiet -o int8.cnn
refuses 1 "INT8" "$opt" int8.cnn -o x.safetensors
head -c 900 w.safetensors >cut.safetensors
refuses 1 "truncated" "$opt" --from-torch cut.safetensors --model tiny.cfg -o x.cnn
refuses 1 "missing/x.safetensors" "$opt" model.cnn -o missing/x.safetensors
echo old >kept.safetensors
refuses 1 "kept.safetensors" limited "$opt" model.cnn -o kept.safetensors
checks=$((checks + 1))
[ "$(cat kept.safetensors)" = old ] || fail "a save that failed changed the old file"
no_leftovers "behind conversions"
[ ! -e x.cnn ] && [ ! -e x.safetensors ] || fail "a refused command wrote its output"

finish
