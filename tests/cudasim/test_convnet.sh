# Two FP16 steps of convnet, batch 16, on --device cudasim and cpu: the same losses.
. "$2/tests/cudasim/lib.sh"
for device in cpu cudasim; do
    succeeds "$train" --data mnist --data-dir data --model convnet --batch 16 --epochs 0.11852 --amp --device $device \
        --quiet --log-every 1 --log $device.log -o $device.cnn
done
agree losses cudasim.log cpu.log 1e-2 2
finish
