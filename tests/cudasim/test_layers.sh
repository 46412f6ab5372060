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
is_alike layers.cfg
finish
