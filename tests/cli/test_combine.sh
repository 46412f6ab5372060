# cnn-opt: every structure with every criterion and every schedule, and weights of few bits with them. What is accepted is
# checked by verify_pruned, from the float model to INT8; what makes no sense is refused in one sentence.
. "$2/tests/cli/lib.sh"

verify=$bin/verify_pruned
cat >tiny.cfg <<'CFG'
image = input(height=12, width=12, channels=3)
conv1 = conv(image, out=8, kernel=3, stride=2, pad=1)
bn1 = bn(conv1)
relu1 = relu(bn1)
conv2 = conv(relu1, out=16, kernel=3, pad=1, bias=0)
bn2 = bn(conv2)
relu2 = relu(bn2)
pool1 = maxpool(relu2, kernel=2)
conv3 = conv(pool1, out=16, kernel=3, pad=1)
bn3 = bn(conv3)
sum = add(bn3, pool1)
relu3 = relu(sum)
fc1 = linear(relu3, out=32)
relu4 = relu(fc1)
fc2 = linear(relu4, out=4)
CFG
files shapes shapes 16
succeeds "$train" --data png:shapes --model tiny.cfg --batch 8 --epochs 2 --quiet -o given.cnn

# Ways to quantize without training, one a line, taken in turn; tests/test_combine.c has each with every structure and
# criterion.
quantizers="--observer auto
--bits 2
--bits 3,conv1=6 --bias-correction off
--bits auto:3.5
--bits 3 --round adaptive
--codebook 1
--codebook 3 --round adaptive
--codebook 2 --equalization on
--bits 4 --equalization on --pack smallest"
turn=0

# Quantizes float.cnn in the next way.
quantize() {
    turn=$((turn % 9 + 1))
    succeeds "$opt" --data png:shapes --int8 $(echo "$quantizers" | sed -n ${turn}p) --quiet -o int8.cnn float.cnn
}

criteria="l1 l2 bn taylor random lamp"
schedules="one-shot iterative cubic"

# accepted STRUCTURE CRITERION SCHEDULE: whether the three belong together.
accepted() {
    case $1-$2-$3 in
    channel-*-cubic | channel-lamp-* | 2:4-*-iterative | 2:4-*-cubic | block-bn-* | weight-bn-* | 2:4-bn-*) return 1 ;;
    esac
}

# try STRUCTURE CRITERION SCHEDULE
try() {
    structure=$1 how="--structure $1 --criterion $2 --prune-schedule $3 --finetune 1 --batch 8"
    [ "$1" = 2:4 ] || how="$how --prune 0.6"
    if ! accepted "$@"; then
        refuses 2 "--" "$opt" --data png:shapes $how -o refused.cnn given.cnn
        return
    fi
    succeeds "$opt" --data png:shapes $how --quiet -o float.cnn given.cnn
    quantize
    succeeds "$verify" given.cnn float.cnn int8.cnn "$structure" 0.6
}

for structure in channel block weight 2:4; do
    for criterion in $criteria; do
        for schedule in $schedules; do
            try "$structure" "$criterion" "$schedule"
        done
    done
done

# Exact widths, by every criterion of channels.
for criterion in l1 l2 bn taylor random; do
    succeeds "$opt" --data png:shapes --keep conv1=5,conv3=9,fc1=11 --criterion $criterion --batch 8 --quiet -o float.cnn given.cnn
    succeeds "$opt" --data png:shapes --int8 --quiet -o int8.cnn float.cnn
    succeeds "$verify" given.cnn float.cnn int8.cnn channel 0
done

# Weights that come back: the share at the end is the same, by every criterion; other schedules know no such thing.
for structure in block weight; do
    for criterion in $criteria; do
        accepted $structure $criterion cubic || continue
        for threads in 1 2; do
            succeeds "$opt" --data png:shapes --structure $structure --criterion $criterion --prune-schedule cubic --batch 8 \
                --prune 0.6 --regrow 0.4 --finetune 1 --threads $threads --quiet -o regrown$threads.cnn given.cnn
        done
        same regrown1.cnn regrown2.cnn
        succeeds "$opt" --data png:shapes --int8 --quiet -o int8.cnn regrown1.cnn
        succeeds "$verify" given.cnn regrown1.cnn int8.cnn $structure 0.6
    done
done
for schedule in one-shot iterative; do
    refuses 2 "--regrow|cubic" "$opt" --structure weight --prune 0.6 --regrow 0.4 --prune-schedule $schedule given.cnn
done
refuses 2 "--regrow|cubic" "$opt" --structure 2:4 --regrow 0.4 given.cnn
refuses 2 "--regrow|cubic" "$opt" --int8 --regrow 0.4 given.cnn

# Weights of few bits, trained on their grid, pruned before and in the same run.
for structure in channel block weight 2:4; do
    for schedule in $schedules; do
        accepted $structure l1 $schedule || continue
        how="--structure $structure --prune-schedule $schedule --batch 8"
        [ $structure = 2:4 ] || how="$how --prune 0.6"
        succeeds "$opt" --data png:shapes $how --finetune 1 --quiet -o float.cnn given.cnn
        for bits in 2 5,conv2=3; do
            succeeds "$opt" --data png:shapes --int8 --bits $bits --finetune 1 --batch 8 --quiet -o int8.cnn float.cnn
            succeeds "$verify" given.cnn float.cnn int8.cnn $structure 0.6
            succeeds "$opt" --data png:shapes $how --finetune 1 --int8 --bits $bits --quiet -o int8.cnn given.cnn
            succeeds "$verify" given.cnn int8.cnn int8.cnn $structure 0.6
        done
    done
done

# The judge is awake: to a model that has lost channels and no weights, to fewer zeros than asked for, to another structure.
succeeds "$opt" --data png:shapes --prune 0.5 --finetune 0 --quiet -o float.cnn given.cnn
succeeds "$opt" --data png:shapes --int8 --quiet -o int8.cnn float.cnn
refuses 1 "0 layers have masks" "$verify" given.cnn float.cnn int8.cnn weight 0.5
succeeds "$opt" --data png:shapes --structure weight --prune 0.3 --finetune 0 --quiet -o float.cnn given.cnn
succeeds "$opt" --data png:shapes --int8 --quiet -o int8.cnn float.cnn
succeeds "$verify" given.cnn float.cnn int8.cnn weight 0.3
refuses 1 "weights are left" "$verify" given.cnn float.cnn int8.cnn weight 0.6
refuses 1 "structure" "$verify" given.cnn float.cnn int8.cnn 2:4 0.3
finish
