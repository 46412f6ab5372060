# Layers of small networks on --device cudasim: the losses of FP16 steps as on the CPU, INT8 logits of a pruned network with the CPU's
# bits, FP32 logits close to the CPU's.
. "$2/tests/cudasim/lib.sh"
cat >layers.cfg <<'CFG'
image = input(height=28, width=28, channels=1)
conv1 = conv(image, out=16, kernel=3, stride=2, pad=1, bias=0)
bn1 = bn(conv1)
relu1 = relu(bn1, max=6)
deep2 = conv(relu1, out=16, kernel=3, stride=2, pad=1, bias=0, groups=16)
bn2 = bn(deep2)
relu2 = relu(bn2, max=2)
wide2 = conv(relu2, out=32, kernel=1, bias=0)
bnw2 = bn(wide2)
reluw2 = relu(bnw2)
two = conv(reluw2, out=32, kernel=3, groups=2)
relu3 = leaky_relu(two, slope=0.1)
side = maxpool(reluw2, kernel=3, stride=1)
cat = concat(relu3, side)
pool = globalavgpool(cat)
drop = dropout(pool, rate=0.2)
fc = linear(drop, out=10)
CFG
for device in cpu cudasim; do
    succeeds "$train" --model layers.cfg --data mnist --data-dir data --batch 16 --epochs 0.6 --amp --device $device --quiet \
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
