# SIGKILL at random moments: kill_resume.sh TOOLS SOURCES [KILLS [SEED [OPTION...]]]
#
# A run of lenet5 is killed KILLS times (10, or as $KILLS says), each time after a random time of up to a third of what an
# undisturbed run takes, goes on each time, and must end with the same bytes, as must every run that ends before its
# moment; at every kill model.cnn must be whole. With CNN_DATA set it is trained on MNIST, else on "synth". The moments
# follow from SEED (1), the machine does the rest. Kills between two system calls of a save are in tests/faults/calls.sh.
#   CNN_DATA=... sh tests/cli/kill_resume.sh build/release/bin . 20
data_dir=${CNN_DATA:-}
. "$2/tests/cli/lib.sh"
kills=${3:-${KILLS:-10}}
seed=${4:-1}
[ $# -gt 4 ] && shift 4 || set --
[ $# -gt 0 ] || set -- --amp --schedule cosine --ema 0.99 --augment 0.3
if [ -n "$data_dir" ]; then
    set -- --data mnist --data-dir "$data_dir" --epochs 1.2 --checkpoint-every 40 "$@"
else
    set -- --data synth --epochs 0.7 --batch 32 --checkpoint-every 10 "$@"
fi
set -- "$train" --model lenet5 --quiet "$@"
echo "seed $seed: $*"

started=$(date +%s.%N)
succeeds "$@" -o whole.cnn
seconds=$(echo "$started $(date +%s.%N)" | awk '{ print $2 - $1 }')
echo "an undisturbed run takes $seconds s"

# Kills until enough fell into a run: one that ends before its moment makes the next begin from the start.
hits=0
tries=0
for moment in $(awk -v n=$((4 * kills)) -v seed="$seed" -v most="$seconds" \
    'BEGIN { srand(seed); for (i = 0; i < n; i++) printf "%.3f ", rand() * most / 3 }'); do
    [ "$hits" -lt "$kills" ] || break
    tries=$((tries + 1))
    run python3 "$cli/interrupt.py" KILL "$moment" "$@" --resume
    case $code in
    137) hits=$((hits + 1)) && echo "killed after $moment s" ;;
    0) same whole.cnn model.cnn ;;
    *) fail "exit code $code: to be killed after $moment s" ;;
    esac
    [ ! -e model.cnn ] || succeeds "$infer" -m model.cnn --test --data synth --quiet
done
checks=$((checks + 1))
[ "$hits" -ge $(((kills + 1) / 2)) ] || fail "only $hits of $kills kills fell into a run"
succeeds "$@" --resume
same whole.cnn model.cnn
checks=$((checks + 1))
[ ! -e model.cnn.ckpt ] || fail "the checkpoint is still there"
left=$(find . -name '*.tmp-*' | wc -l)
echo "$hits kills in $tries tries; $left temporary files are left"
finish
