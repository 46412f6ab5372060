# Two FP16 steps of convnet, batch 16, on --device cudasim and cpu: the same losses.
. "$2/tests/cudasim/lib.sh"
trains_alike convnet 0.11852 2
finish
