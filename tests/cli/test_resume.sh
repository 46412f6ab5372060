# cnn-train: interrupted by Ctrl-C, SIGTERM and SIGKILL it goes on and ends with the same bytes; what it refuses to go
# on with; the log.
. "$2/tests/cli/lib.sh"

cat >tiny.cfg <<'CFG'
image = input(height=28, width=28, channels=1)
conv1 = conv(image, out=4, kernel=5, stride=2)
bn1 = bn(conv1)
relu1 = relu(bn1)
pool1 = maxpool(relu1, kernel=2)
fc1 = linear(pool1, out=10)
CFG
set -- "$train" --data synth --model tiny.cfg --epochs 2.5 --batch 8 --quiet # 1125 steps, 450 an epoch

# interrupt SIGNAL WHEN COMMAND...: see interrupt.py.
interrupt() { run python3 "$cli/interrupt.py" "$@"; }

# The log but for what a clock or the interruption itself puts there.
plain_log() {
    sed -e '/"event": "start"/d' -e '/"event": "resume"/d' -e 's/"time": "[^"]*"//' -e 's/"file": "[^"]*"//' \
        -e 's/"seconds": [^,}]*//' -e 's/"images_per_s": [^,}]*//' "$1"
}

# loses_nothing NAME OPTION...: killed again and again it ends with the bytes of an undisturbed run, and its log too.
# Where a kill falls depends on the machine, the result must not; that most of them fall into the run is checked.
kills=0
loses_nothing() {
    name=$1
    shift
    succeeds "$@" -o "$name-whole.cnn" --log "$name-whole.jsonl"
    for more in 1 2 6 3 2; do
        interrupt KILL "$name.jsonl:+$more" "$@" -o "$name.cnn" --log "$name.jsonl" --checkpoint-every 70 --resume
        [ "$code" = 137 ] && kills=$((kills + 1))
        [ "$code" = 137 ] || [ "$code" = 0 ] || fail "exit code $code: $name, killed after $more lines"
        [ ! -e "$name.cnn" ] || succeeds "$infer" -m "$name.cnn" --test --quiet
    done
    succeeds "$@" -o "$name.cnn" --log "$name.jsonl" --checkpoint-every 70 --resume
    same "$name-whole.cnn" "$name.cnn"
    plain_log "$name-whole.jsonl" >whole.log
    plain_log "$name.jsonl" >resumed.log
    same whole.log resumed.log
    checks=$((checks + 1))
    [ -e "$name.cnn.ckpt" ] && fail "$name: the checkpoint is still there after the end"
    return 0
}
loses_nothing fp32 "$@" --schedule cosine --weight-decay 0.001 --augment 0.5
loses_nothing fp16 "$@" --amp --loss-scale-start 16777216 --nesterov --clip-norm 1 --ema 0.99
checks=$((checks + 1))
grep -q '"skipped_steps": [1-9]' fp16.jsonl || fail "no step was skipped"
[ "$kills" -ge 3 ] || fail "only $kills of the kills came in time"
rm -f ./*.tmp-*

# Ctrl-C and SIGTERM: a checkpoint, one sentence, 130 and 143. Another number of threads may go on.
succeeds "$@" -o whole.cnn
for how in INT:130 TERM:143 HUP:129; do
    rm -f run.jsonl model.cnn
    interrupt "${how%:*}" run.jsonl:7 "$@" --log run.jsonl --threads 1
    [ "$code" = "${how#*:}" ] || fail "exit code $code after SIG$how"
    says "cnn-train: interrupted after step"
    says "of 1125"
    says "--resume goes on from model.cnn.ckpt"
    [ -s model.cnn.ckpt ] || fail "no checkpoint after SIG$how"
    no_leftovers "after SIG$how"
    succeeds "$@" --log run.jsonl --threads 2 --resume
    same whole.cnn model.cnn
done

# The second Ctrl-C ends at once: there is no sentence.
rm -f run.jsonl model.cnn
interrupt INT,INT run.jsonl:3 "$@" --log run.jsonl --checkpoint other.ckpt
[ "$code" = 130 ] || fail "exit code $code after two Ctrl-C"
rm -f other.ckpt* model.cnn*

# Where there is no checkpoint it says so and starts; an old one is replaced with a warning.
succeeds "$train" --data synth --model tiny.cfg --epochs 0.1 --batch 8 --resume
says "no checkpoint model.cnn.ckpt: starting from the beginning"
interrupt INT run.jsonl:+6 "$@" --log run.jsonl
succeeds "$train" --data synth --model tiny.cfg --epochs 0.1 --batch 8
says "warning: model.cnn.ckpt is of a run that was interrupted"

# Refusals. None of them touches the checkpoint.
rm -f run.jsonl
interrupt TERM run.jsonl:4 "$@" --log run.jsonl
cp model.cnn.ckpt kept.ckpt
set -- "$@" --resume
refuses 1 "model.cnn.ckpt|--batch 8, this one has 16|leave out --resume" "$@" --batch 16
refuses 1 "--epochs 2.5, this one has 3" "$@" --epochs 3
refuses 1 "--lr 0.01, this one has 0.02" "$@" --lr 0.02
refuses 1 "--momentum 0.9, this one has 0" "$@" --momentum 0
refuses 1 "--weight-decay 0, this one has 0.1" "$@" --weight-decay 0.1
refuses 1 "--schedule constant, this one has cosine" "$@" --schedule cosine
refuses 1 "--amp off, this one has fp16" "$@" --amp
refuses 1 "--seed 1, this one has 7" "$@" --seed 7
refuses 1 "--augment 0, this one has 0.5" "$@" --augment 0.5
refuses 1 "cpu|ref plain C|--device" "$@" --device ref
export CNN_CPU_ISA=portable
refuses 1 "CNN_CPU_ISA|cpu portable" "$@"
unset CNN_CPU_ISA
sed 's/out=4/out=5/' tiny.cfg >other.cfg
refuses 1 "another network|out=4|out=5|--model" "$@" --model other.cfg
cp tiny.cfg other.cfg
refuses 1 "another model|name" "$@" --model other.cfg
mkdir data
files mnist data
run "$@" --data mnist --data-dir data
[ "$code" = 1 ] || fail "exit code $code with other data"
says "trained on synth: 4000 images of 28x28x1 in 10 classes, this one on mnist: 300 images"
same kept.ckpt model.cnn.ckpt
head -c 1000 kept.ckpt >model.cnn.ckpt
refuses 1 "model.cnn.ckpt|1000 bytes|truncated" "$@"
(head -c 1000 kept.ckpt && printf '\377\377\377\377' && tail -c +1005 kept.ckpt) >model.cnn.ckpt
refuses 1 "model.cnn.ckpt|checksum" "$@"
echo "my notes" >model.cnn.ckpt
refuses 1 "model.cnn.ckpt|is not a checkpoint" "$@"
refuses 2 "--output and --checkpoint both name model.cnn" "$@" --checkpoint model.cnn
refuses 2 "--checkpoint and --log both name x" "$@" --checkpoint x --log x
refuses 2 "/dev/null is no file|--checkpoint" "$@" -o /dev/null
refuses 2 "--checkpoint-every|'0'" "$@" --checkpoint-every 0
cp kept.ckpt model.cnn.ckpt
succeeds "$@"
same whole.cnn model.cnn

# Data of the same shape with other values.
set -- "$train" --data mnist --data-dir data --model tiny.cfg --epochs 60 --batch 2 --quiet
rm -f run.jsonl
interrupt INT run.jsonl:4 "$@" --log run.jsonl
files idx data/train-labels-idx1-ubyte 1 300
run "$@" --resume
[ "$code" = 1 ] || fail "exit code $code with other labels"
says "labels are not those that the interrupted run trained on"
rm -f model.cnn.ckpt

# The log: refused early where it cannot be written, and where something else is.
set -- "$train" --data synth --model tiny.cfg --epochs 0.1 --quiet
echo "my notes" >notes
refuses 1 "notes|no log of cnn-train" "$@" --log notes
checks=$((checks + 1))
[ "$(cat notes)" = "my notes" ] || fail "notes were changed"
refuses 1 "missing/run.jsonl" "$@" --log missing/run.jsonl
refuses 1 "missing/x.ckpt" "$@" --checkpoint missing/x.ckpt
refuses 1 "/dev/null|no regular file" "$@" --log /dev/null
no_leftovers "after refused files"
succeeds "$@" --log run.jsonl
checks=$((checks + 1))
python3 - run.jsonl <<'PY' || fail "run.jsonl is not what it should be"
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
assert [line["event"] for line in lines] == ["start", "epoch", "end"], lines
assert lines[0]["options"]["batch"] == 64 and lines[0]["options"]["model"] == "tiny.cfg" and lines[0]["options"]["seed"] == 1
assert lines[1]["step"] == 6 and lines[1]["images"] == 360 and lines[1]["learning_rate"] == 0.01
assert lines[2]["val_accuracy"] == lines[1]["val_accuracy"]
PY
finish
