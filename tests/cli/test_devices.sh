# --device cuda where there is no plug-in, no library or no driver says what is missing; --device auto then takes the CPU.
. "$2/tests/cli/lib.sh"
set -- --data synth --model lenet300 --epochs 0.02 --quiet
export CNN_PLUGIN_DIR=/nonexistent
refuses 1 "device cuda|there is no libcnn-cuda.so beside the tools|--device cpu" "$train" "$@" --device cuda
succeeds "$train" "$@" --device auto
checks=$((checks + 1))
[ -s "$logs/err" ] && fail "--device auto speaks of the GPU that is not there"
unset CNN_PLUGIN_DIR
if [ -e "$bin/../lib/libcnn-cuda.so" ] && [ ! -e /dev/nvidiactl ]; then
    refuses 1 "device cuda|NVIDIA|--device cpu" "$train" "$@" --device cuda
    succeeds "$train" "$@" --device auto
    checks=$((checks + 1))
    [ -s "$logs/err" ] && fail "--device auto speaks of the GPU that is not there"
    # One of its libraries is not installed: it asks for a name that no machine has.
    mkdir plugins
    sed 's/libcudnn\.so\.9/libcudnx.so.9/g' "$bin/../lib/libcnn-cuda.so" >plugins/libcnn-cuda.so
    export CNN_PLUGIN_DIR=$PWD/plugins
    refuses 1 "device cuda|the library libcudnx.so.9 is missing|cuDNN 9|LD_LIBRARY_PATH|--device cpu" "$train" "$@" --device cuda
    succeeds "$train" "$@" --device auto
    checks=$((checks + 1))
    [ -s "$logs/err" ] && fail "--device auto speaks of the library that is not there"
    unset CNN_PLUGIN_DIR
else
    skip "no plug-in here, or a GPU"
fi
finish
