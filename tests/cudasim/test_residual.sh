# A residual network with padded and average pools on --device cudasim: the losses of FP16 steps as on the CPU, pruned and INT8 logits
# with the CPU's bits, FP32 logits close to the CPU's.
. "$2/tests/cudasim/lib.sh"
cat >residual.cfg <<'CFG'
image = input(height=28, width=28, channels=1)
conv1 = conv(image, out=16, kernel=5, stride=2, pad=1, bias=0)
bn1 = bn(conv1)
relu1 = relu(bn1)
pool1 = maxpool(relu1, kernel=3, stride=2, pad=1)
conv2 = conv(pool1, out=16, kernel=3, pad=1, bias=0)
bn2 = bn(conv2)
add2 = add(bn2, pool1)
relu2 = relu(add2)
conv3 = conv(relu2, out=32, kernel=3, stride=2, pad=1, bias=0)
bn3 = bn(conv3)
short = conv(relu2, out=32, kernel=1, stride=2, bias=0)
bns = bn(short)
add3 = add(bn3, bns)
relu3 = relu(add3)
pool4 = avgpool(relu3, kernel=2, stride=1)
pool5 = globalavgpool(pool4)
fc = linear(pool5, out=10)
CFG
for device in cpu cudasim; do
    succeeds "$train" --model residual.cfg --data mnist --data-dir data --batch 16 --epochs 0.6 --amp --device $device --quiet \
        --log $device.log --log-every 1 -o $device.cnn
done
agree losses cudasim.log cpu.log 1e-2 11

succeeds "$opt" cudasim.cnn --prune 0.5 --int8 --finetune 0.3 --batch 16 --data mnist --data-dir data --device cudasim --quiet -o int8.cnn
for device in cpu cudasim ref; do
    succeeds "$infer" -m int8.cnn --test --data mnist --data-dir data --device $device --logits $device.logits --quiet
done
same cudasim.logits cpu.logits
same ref.logits cpu.logits
for device in cpu cudasim; do
    succeeds "$infer" -m cpu.cnn --test --data mnist --data-dir data --device $device --logits $device.logits --quiet
done
agree logits cudasim.logits cpu.logits 1e-5
finish
