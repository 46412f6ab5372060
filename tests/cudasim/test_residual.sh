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
is_alike residual.cfg

# Weight gradients of few channels over many pixels are sums that our own kernel slices; cuDNN has those over few pixels.
ours() { grep -c 'by cnn_cuda_conv_wgrad_mma,' "$logs/out"; }
for batch in 64 1; do
    succeeds "$train" --model resnet20 --data synth --amp --batch $batch --device cudasim --dump-program
    [ $batch = 64 ] && wanted=6 || wanted=0 # conv1 has a kernel of its own, the first stage 6 convolutions
    [ "$(ours)" = $wanted ] || fail "$(ours) weight gradients of resnet20 are ours in batches of $batch, not $wanted"
done
finish
