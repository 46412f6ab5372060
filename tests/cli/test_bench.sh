# The measuring programs of bench/ that are C: they link with what the library needs, run, and tell.
. "$2/tests/cli/lib.sh"
build=$(dirname "$1")

succeeds "$train" --data synth --model lenet5 --epochs 0.05 --quiet
succeeds "$opt" --int8 --quiet -o small.cnn
succeeds "$2/bench/coder" --build "$build" small.cnn
says "fc1"
succeeds "$2/bench/step" --build "$build" --model lenet5 --steps 1
says "images/s"
succeeds "$2/bench/pool" --build "$build" --model lenet5 --steps 1
says "region starts"
succeeds "$2/bench/validation" --build "$build" model.cnn small.cnn
says "their loss"
says "small.cnn"
checks=$((checks + 1))
"$2/bench/step" --build nowhere >"$logs/out" 2>&1 && fail "bench/step runs without a library"
says "there is no nowhere/libcnn.a"
finish
