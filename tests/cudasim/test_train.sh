# cnn-train on --device cudasim: losses as the CPU's, the loss scaler's account, and the same bits whatever the order
# of threads, what new memory holds and when the device does its work.
. "$2/tests/cudasim/lib.sh"

# trains NAME DEVICE OPTION...: NAME.cnn and NAME.log.
trains() {
    name=$1
    device=$2
    shift 2
    succeeds "$train" --batch 16 --device "$device" --quiet --log-every 1 --log "$name.log" -o "$name.cnn" "$@"
}

# 50 steps, and a few of bf16. At the standard learning rate the narrow net's losses depend so much on roundings (which
# of two values that are almost equal a pooling takes) that cpu and ref part ways as well; not so at a lower one.
for model in lenet5 narrow.cfg; do
    rate=
    [ "$model" = lenet5 ] || rate="--lr 0.001"
    for row in "fp32 1e-4 50 0.22223 $rate" "fp16 1e-2 50 0.22223 --amp --lr 0.001" "bf16 1e-2 4 0.01778 --amp=bf16"; do
        set -- $row
        precision=$1 limit=$2 steps=$3 epochs=$4
        shift 4
        for device in cpu cudasim; do
            trains "$model-$precision-$device" "$device" --data synth --model "$model" --epochs "$epochs" "$@"
        done
        agree losses "$model-$precision-cudasim.log" "$model-$precision-cpu.log" "$limit" "$steps"
    done
done

# A loss scale that starts too high.
for device in cpu cudasim; do
    trains scale-$device $device --data mnist --data-dir data --model narrow.cfg --epochs 0.6 --amp --loss-scale-start 16777216
done
agree scaler scale-cudasim.log scale-cpu.log

# Six steps, enqueued and replayed: the same file, each time.
bits() {
    trains "$1" "$2" --data mnist --data-dir data --model narrow.cfg --epochs 0.35 --augment 1 $amp
    [ "$1" = once ] || same once.cnn "$1.cnn"
}
for amp in --amp ""; do
    bits once cudasim
    bits greedy cudasim:3
    export CNN_CUDASIM_FILL=tame
    bits tame cudasim
    export CNN_CUDASIM_TIMING=early CNN_CUDASIM_FILL=nan
    bits early cudasim
    unset CNN_CUDASIM_FILL CNN_CUDASIM_TIMING
done
bits again cudasim

# CNN_CUDA_OWN=1 leaves the libraries out; kcheck_cuda depends on it.
dump() { succeeds "$train" --model narrow.cfg --data synth --amp --device cudasim --dump-program; }
dump
says "by cnn_cuda_conv_cudnn"
says "by cnn_cuda_linear_cublaslt"
export CNN_CUDA_OWN=1
dump
checks=$((checks + 1))
grep -qE "by cnn_cuda_[a-z_]*(cudnn|cublaslt)" "$logs/out" && fail "CNN_CUDA_OWN=1 leaves libraries in"
says "by cnn_cuda_conv,"
unset CNN_CUDA_OWN
finish
