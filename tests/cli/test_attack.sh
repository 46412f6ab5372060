# Attacks: cnn-infer --attack, --sanitize and --held-out, cnn-train --adversarial, and what does not go together.
. "$2/tests/cli/lib.sh"

cat >tiny.cfg <<'CFG'
image = input(height=28, width=28, channels=1)
conv1 = conv(image, out=8, kernel=5, stride=2)
bn1 = bn(conv1)
relu1 = relu(bn1)
pool1 = maxpool(relu1, kernel=2)
fc1 = linear(pool1, out=10)
CFG
learn="$train --model tiny.cfg --data synth --epochs 0.3 --lr 0.05 --quiet"
succeeds $learn -o plain.cnn
succeeds $learn --adversarial=0.1 --threads 1 -o model.cnn
succeeds $learn --adversarial=0.1 --threads 2 -o two.cnn
same model.cnn two.cnn
succeeds "$opt" plain.cnn --int8 --quiet -o int8.cnn

# accuracy KEY: that number of the last command's JSON, as parts of ten thousand.
accuracy() { python3 -c 'import json, sys; print(round(1e4 * json.load(open(sys.argv[1]))[sys.argv[2]]))' "$logs/out" "$1"; }

# less A B WHAT: A is less than B.
less() {
    checks=$((checks + 1))
    [ "$1" -lt "$2" ] || fail "$3: $1 is not less than $2"
}

attack="--test --attack pgd --eps 0.1 --attack-steps 10 --attack-restarts 2 --images 200 --json --quiet"
succeeds "$infer" -m plain.cnn $attack --sanitize
has_keys images=200 attack=pgd eps=0.1 accuracy attacked_accuracy sanitize=bits=1 sanitized_accuracy flagged \
    attacked_sanitized_accuracy attacked_flagged images_per_s
plain=$(accuracy attacked_accuracy)
less "$plain" "$(accuracy accuracy)" "attacked accuracy"
less "$plain" "$(accuracy attacked_sanitized_accuracy)" "accuracy without sanitizing"
succeeds "$infer" -m plain.cnn $attack --threads 1
[ "$(accuracy attacked_accuracy)" = "$plain" ] || fail "another accuracy with 1 thread or without --sanitize"
succeeds "$infer" -m model.cnn $attack
less "$plain" "$(accuracy attacked_accuracy)" "accuracy without adversarial training"
succeeds "$opt" model.cnn --prune 0.3 --finetune 0.3 --adversarial=0.1 --quiet -o small.cnn
succeeds "$infer" -m small.cnn $attack
less "$plain" "$(accuracy attacked_accuracy)" "accuracy without adversarial training"
for from in "" "--attack-from plain.cnn" "--attack-from model.cnn"; do
    succeeds "$infer" -m int8.cnn $attack $from
    less "$(accuracy attacked_accuracy)" "$(accuracy accuracy)" "attacked accuracy of INT8 $from"
done
succeeds "$infer" -m plain.cnn --test --attack fgsm --images 50
says "fgsm, eps 0.1"
succeeds "$infer" -m plain.cnn --test --attack pgd --attack-start image --attack-step 0.02 --eps 0.05 --images 50 --sanitize=median,bits=2
says "flagged"
succeeds "$infer" -m plain.cnn --test --sanitize=bits=3,centre --json
has_keys images=1000 sanitize=bits=3,centre sanitized_accuracy flagged

# Images that training held out.
succeeds "$infer" -m plain.cnn --test --held-out --json
has_keys images=400 accuracy
succeeds "$infer" -m plain.cnn --test --held-out
says "held-out images right"

# Pictures.
files png seven seven.png
succeeds "$infer" -m plain.cnn --sanitize --json seven.png
has_keys "results[0].changed=False"
succeeds "$infer" -m plain.cnn --sanitize=median,centre --show seven.png

# Who knows of sanitizing gets further.
succeeds "$infer" -m plain.cnn $attack --sanitize
unaware=$(accuracy attacked_sanitized_accuracy)
for model in plain int8; do
    succeeds "$infer" -m $model.cnn $attack --sanitize --attack-sanitized
    has_keys attack_sanitized=True
    less "$(accuracy attacked_sanitized_accuracy)" "$unaware" "accuracy of $model under an attack that knows"
done

# What does not go together.
for options in "--attack pgd seven.png" "--test --eps 0.1" "--test --attack-steps 3" "--test --attack fgsm --attack-steps 3" \
    "--test --attack pgd --attack-start image --attack-restarts 2" "--test --attack pgd --logits x" "--test --sanitize --logits x" \
    "--bench --sanitize" "--bench --held-out" "--test --attack pgd --eps 0" "--test --attack cw" "--test --sanitize=blur" \
    "--test --sanitize=bits=9" "--test --images 3" "--test --attack fgsm --attack-sanitized" "--test --sanitize --attack-sanitized"; do
    refuses 2 "" "$infer" -m plain.cnn $options
done
refuses 2 "--finetune" "$opt" plain.cnn --int8 --adversarial -o x.cnn
refuses 2 "--augment" "$opt" plain.cnn --prune 0.5 --adversarial --augment 0.5 -o x.cnn
refuses 2 "leave out --augmentation" "$opt" plain.cnn --prune 0.5 --adversarial --augmentation shift -o x.cnn
refuses 1 "none.cnn" "$infer" -m plain.cnn --test --attack fgsm --attack-from none.cnn
refuses 2 "--augment" $learn --adversarial=0.1 --augment 0.5 -o x.cnn
refuses 2 "--adversarial=0.1" $learn --adversarial-steps 2 -o x.cnn
finish
