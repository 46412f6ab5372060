# cnn-infer: test set, scores, bench, pictures, bad models, bad pictures, places that cannot be written.
. "$2/tests/cli/lib.sh"

cat >tiny.cfg <<'CFG'
image = input(height=28, width=28, channels=1)
conv1 = conv(image, out=4, kernel=5, stride=2)
relu1 = relu(conv1)
fc1 = linear(relu1, out=10)
CFG
"$make_model" tiny.cfg synth model.cnn
"$make_model" tiny.cfg mnist digits.cnn

# The test set and its scores: their argmax is the accuracy that was printed.
succeeds "$infer" --test --json --quiet --logits scores --batch 7
has_keys accuracy images=1000 images_per_s correct
checks=$((checks + 1))
[ "$(wc -c <scores)" = 40000 ] || fail "--logits wrote $(wc -c <scores) bytes"
checks=$((checks + 1))
python3 -c 'import json, struct, sys
r, z = json.load(sys.stdin), open("scores", "rb").read()
rows = struct.iter_unpack("<10f", z)
right = sum(row.index(max(row)) == i % 10 for i, row in enumerate(rows))
sys.exit(right != r["correct"] or r["accuracy"] != right / 1000)' <"$logs/out" || fail "scores and accuracy disagree"
succeeds "$infer" --test --data synth --batch 1000
says "1,000"
run "$infer" -m digits.cnn --test --data synth
says "warning: digits.cnn was trained on mnist"
checks=$((checks + 1))
[ "$(wc -l <"$logs/out")" = 1 ] || fail "--test prints more than a line"

# Measuring and looking.
succeeds "$infer" --bench --device cpu:portable,ref --quiet
says "cnn_ref_linear"
succeeds "$infer" --bench --device cpu,ref --json
has_keys 'devices[1].ms_p50' 'devices[1].layers[0].kernel=cnn_ref_input'
succeeds "$infer" --bench --batch 3 --threads 1 --json
has_keys 'layers[0].layer=image' 'layers[0].share' 'layers[1].gmac_per_s' 'layers[1].macs'
has_keys batch=3 threads=1 ms_p50 ms_p90 ms_p99 images_per_s peak_rss_bytes
checks=$((checks + 1))
python3 -c 'import json, sys
r = json.load(sys.stdin)
sys.exit(not 0 < r["ms_p50"] <= r["ms_p90"] <= r["ms_p99"] or r["peak_rss_bytes"] < 1e5)' <"$logs/out" ||
    fail "the percentiles are not in order"
succeeds "$infer" --dump-program --batch 3
says "conv"
says "3,28,28,1"

# Two devices, layer by layer.
succeeds "$infer" --compare ref --images 5
says "cpu and ref agree in all"
succeeds "$infer" -m digits.cnn --data synth --device ref --compare cpu:portable --json
has_keys agrees=True diverges_in=None images=16 data=synth 'layers[0].unequal=0' 'layers[1].relative_rms' 'layers[1].allowed_rms'
"$make_model" tiny.cfg none anywhere.cnn
succeeds "$infer" -m anywhere.cnn --compare ref --quiet
says "random bytes"

# A small file that asks for 100 MB: what may be spent on it is for the user to say.
python3 - <<'PY'
import struct, zlib
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
side, packer = 3500, zlib.compressobj(9)
rows = b"".join(packer.compress(b"\0" + b"\xff" * 3 * side) for _ in range(side)) + packer.flush()
open("bomb.png", "wb").write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)) +
                            chunk(b"IDAT", rows) + chunk(b"IEND", b""))
PY
case ${ASAN_OPTIONS:-}${TSAN_OPTIONS:-}$(nm "$infer" 2>/dev/null | grep -c -m1 "__asan_init\|__tsan_init") in
0)
    refuses 1 "out of memory" "$infer" -m model.cnn --max-memory 60 bomb.png
    refuses 1 "out of memory" "$infer" -m model.cnn --max-memory 60 --sandbox bomb.png
    files png seven seven.png
    succeeds "$infer" -m model.cnn --max-memory 60 seven.png
    succeeds "$infer" -m model.cnn --max-memory 500 bomb.png
    ;;
*) skip "--max-memory: sanitizers take memory of their own" ;;
esac
refuses 2 "--max-memory" "$infer" -m model.cnn --max-memory 5 seven.png

# The sandbox changes no answer.
files png seven seven.png
for threads in 1 2; do
    succeeds "$infer" -m model.cnn --threads $threads --json seven.png
    mv "$logs/out" plain.json
    run env ASAN_OPTIONS=detect_leaks=0 "$infer" -m model.cnn --threads $threads --json --sandbox seven.png
    if [ "$code" = 1 ] && grep -q "offers no sandbox" "$logs/err"; then
        skip "no sandbox on this system"
    else
        [ "$code" = 0 ] || fail "exit code $code with --sandbox"
        mv "$logs/out" inside.json
        same plain.json inside.json
        ASAN_OPTIONS=detect_leaks=0 refuses 1 "none.png" "$infer" -m model.cnn --sandbox none.png
    fi
done
refuses 2 "--sandbox" "$infer" --test --sandbox

# Pictures.
for kind in plus seven sevens joined white huge truncated; do
    files png $kind $kind.png
done
succeeds "$infer" plus.png seven.png
says "seven.png"
succeeds "$infer" --topk 10 --json -m digits.cnn seven.png ./plus.png
has_keys 'results[0].file=seven.png' 'results[1].file=./plus.png' 'results[1].topk[9].probability'
checks=$((checks + 1))
python3 -c 'import json, sys
for r in json.load(sys.stdin)["results"]:
    p = [k["probability"] for k in r["topk"]]
    assert r["label"] == r["topk"][0]["label"] and r["label"] in list("0123456789")
    assert p == sorted(p, reverse=True) and abs(sum(p) - 1) < 1e-12' <"$logs/out" || fail "no probabilities"
# Pictures are prepared side by side; what is said of them, and its order, does not depend on it.
for threads in 1 3; do
    "$infer" -m digits.cnn --json --threads $threads plus.png truncated.png sevens.png missing.png seven.png plus.png \
        >threads$threads.out 2>threads$threads.err
done
same threads1.out threads3.out
same threads1.err threads3.err

# Two digits: a number, each digit as if it stood alone, in its place; the probability is the product.
succeeds "$infer" --json --topk 3 -m digits.cnn seven.png sevens.png joined.png
checks=$((checks + 1))
python3 -c 'import json, sys
one, two, joined = json.load(sys.stdin)["results"]
assert "digits" not in one and "touching" not in one
assert two["label"] == two["topk"][0]["label"] == 2 * one["label"], two
assert abs(two["probability"] - one["probability"] ** 2) < 1e-9
second = one["probability"] * one["topk"][1]["probability"]
assert abs(two["topk"][1]["probability"] - second) < 1e-9 and abs(two["topk"][2]["probability"] - second) < 1e-9
first, last = two["digits"]
assert first["label"] == last["label"] == one["label"] and first["probability"] == one["probability"]
assert all(abs(a - b) <= 2 for a, b in zip(first["box"], [20, 30, 66, 120])), first
assert all(abs(a - b) <= 2 for a, b in zip(last["box"], [120, 30, 66, 120])), last
assert joined["touching"] is True and "digits" not in joined' <"$logs/out" || fail "the number is not read digit by digit"
succeeds "$infer" -m digits.cnn sevens.png
says "; digits "
succeeds "$infer" -m digits.cnn joined.png
says "may be touching"

# An untrained network is unsure and names the two likeliest; --topk names more.
succeeds "$infer" -m digits.cnn seven.png
says "unsure, or "
checks=$((checks + 1))
[ "$(grep -o '(0\.' "$logs/out" | wc -l)" = 1 ] || fail "unsure does not name one other label"
succeeds "$infer" -m digits.cnn --topk 4 seven.png
checks=$((checks + 1))
[ "$(grep -o '(0\.' "$logs/out" | wc -l)" = 3 ] || fail "--topk 4 does not name three other labels"

# --show: 14 lines of 28 columns above each table, ASCII or blocks as the locale has it, no colours when not a terminal.
for locale in C C.UTF-8; do
    LC_ALL=$locale
    export LC_ALL
    succeeds "$infer" --show -m digits.cnn seven.png sevens.png
    checks=$((checks + 1))
    LC_ALL=C.UTF-8 python3 -c 'import sys
lines = open(sys.argv[1], encoding="utf-8").read().split("\n")
blocks = sys.argv[2] == "C.UTF-8"
assert [len(line) for line in lines[:14]] == [28] * 14 and [len(line) for line in lines[16:30]] == [58] * 14
drawn = "".join(lines[:14] + lines[16:30])
assert ("\u2588" if blocks else "@") in drawn and "\033" not in drawn
assert blocks or drawn.isascii()
assert lines[14].startswith("file") and lines[15].startswith("seven.png") and lines[31].startswith("sevens.png")' \
        "$logs/out" "$locale" || fail "--show in the locale $locale"
done
unset LC_ALL
sed 's/channels=1/channels=3/' tiny.cfg >colour.cfg
"$make_model" colour.cfg none colour.cnn
succeeds "$infer" --show -m colour.cnn plus.png
says "plus.png"

echo "hello" >text.png
: >empty.png
for bad in missing empty text huge truncated; do
    refuses 1 "$bad.png" "$infer" $bad.png
done
refuses 1 "huge.png|100000" "$infer" huge.png
refuses 1 "white.png" "$infer" -m digits.cnn white.png
refuses 1 "$folder/work" "$infer" "$folder/work"
# A broken one among others: it is named, the others are read.
run "$infer" --json plus.png text.png seven.png
has_keys 'results[0].file=plus.png' 'results[1].file=seven.png'
checks=$((checks + 1))
[ "$code" = 1 ] || fail "exit code $code with one broken picture"
[ "$(wc -l <"$logs/err")" = 1 ] || fail "one broken picture is not one line"
says "text.png"
run "$infer" "$(printf 'new\nline.png')"
checks=$((checks + 1))
[ "$(wc -l <"$logs/err")" = 1 ] || fail "a newline in a file name breaks the line"

# The command line.
refuses 2 "picture|--test" "$infer"
refuses 2 "--batch|'0'|from 1 to" "$infer" --test --batch 0
refuses 2 "--batch|'64.5'" "$infer" --test --batch 64.5
refuses 2 "--threads|'0'" "$infer" --test --threads 0
refuses 2 "--threads|'many'" "$infer" --test --threads many
refuses 2 "--show|--json" "$infer" --show --json plus.png
refuses 2 "--show|pictures" "$infer" --show --test
refuses 2 "--topk|'0'" "$infer" --topk 0 plus.png
refuses 2 "--seed|'-1'" "$infer" --bench --seed -1
refuses 2 "--device|'gpu'|auto, cuda, cpu or ref" "$infer" --test --device gpu
refuses 2 "--device|cpu:avx3|cpu:portable" "$infer" --test --device cpu:avx3
refuses 2 "--device|--bench" "$infer" --test --device cpu,ref
refuses 2 "--test|'plus.png'" "$infer" --test plus.png
refuses 2 "--test|--bench" "$infer" --test --bench
refuses 2 "--compare|'gpu'|auto, cuda, cpu or ref" "$infer" --compare gpu
refuses 2 "--compare|one device" "$infer" --compare cpu,ref
refuses 2 "--images|--compare" "$infer" --test --images 3
refuses 2 "--bench|--compare" "$infer" --bench --compare ref
refuses 2 "--logits|--test" "$infer" --logits scores plus.png
refuses 2 "--logits|FILE" "$infer" --test --logits ""
refuses 2 "--tset|--test" "$infer" --tset
refuses 2 "-Z" "$infer" -Z
refuses 2 "did you mean --data mnist" "$train" mnist
refuses 2 "did you mean --model lenet5" "$train" lenet5
refuses 2 "did you mean --amp=bf16" "$train" --amp bf16
refuses 2 "--lr|'0,01'|point" "$train" --lr 0,01
refuses 2 "--prune|'50'|write 0.5" "$opt" --prune 50
refuses 2 "--prune|'30%'|write 0.3" "$opt" --prune 30%
refuses 2 "--quantize|perhaps you mean --int8" "$opt" --quantize
refuses 2 "--learning-rate|perhaps you mean --lr" "$train" --learning-rate 1
refuses 2 "--compare|such as cpu or ref" "$infer" --compare
refuses 2 "--quiet|--verbose" "$infer" --quiet --verbose --test
refuses 2 "--json" "$infer" --json=yes --test
refuses 2 "'nonsense'|mnist" "$infer" --test --data nonsense
CNN_CPU_ISA=sse2
export CNN_CPU_ISA
refuses 2 "CNN_CPU_ISA|sse2|portable" "$infer" --test
unset CNN_CPU_ISA

# Models that cannot be read, or do not fit the data.
refuses 1 "missing.cnn" "$infer" --test -m missing.cnn
: >empty.cnn
refuses 1 "empty.cnn" "$infer" --test -m empty.cnn
for size in 3 40 1000; do
    head -c $size model.cnn >short.cnn
    refuses 1 "short.cnn" "$infer" --test -m short.cnn
done
for share in 0 0.02 0.3 0.7 0.999; do
    cp model.cnn flipped.cnn
    files flip flipped.cnn $share
    refuses 1 "flipped.cnn" "$infer" --test -m flipped.cnn
done
cp model.cnn newer.cnn
files version newer.cnn
refuses 1 "newer.cnn|version" "$infer" --test -m newer.cnn
refuses 1 "plus.png" "$infer" --test -m plus.png
sed 's/out=10/out=7/' tiny.cfg >seven.cfg
"$make_model" seven.cfg synth seven.cnn
refuses 1 "seven.cnn|7|10" "$infer" --test -m seven.cnn
sed 's/height=28/height=20/' tiny.cfg >flat.cfg
"$make_model" flat.cfg synth flat.cnn
refuses 1 "flat.cnn|20x28|28x28" "$infer" --test -m flat.cnn
"$make_model" tiny.cfg none none.cnn
refuses 2 "none.cnn|--data" "$infer" --test -m none.cnn

# Saving the scores: nowhere to write, a full disk, a full standard output.
cp "$infer" cnn-infer
refuses_places ./cnn-infer --test --quiet --logits
cp scores before
refuses 1 "scores" limited "$infer" --test --quiet --logits scores
same before scores
no_leftovers "after a full disk"
if [ -c /dev/full ]; then
    checks=$((checks + 1))
    "$infer" --test --json --quiet >/dev/full 2>"$logs/err" && fail "a full standard output is not noticed"
    grep -q "standard output" "$logs/err" || fail "a full standard output is not named"
fi

# --help and --version of every tool.
for tool in "$train" "$opt" "$infer"; do
    succeeds "$tool" --help
    says "Examples:"
    says "--help all"
    says "--json"
    checks=$((checks + 1))
    [ "$(wc -l <"$logs/out")" -le 60 ] || fail "${tool##*/} --help does not fit a screen"
    awk 'length > 80' "$logs/out" >"$logs/wide"
    succeeds "$tool" --help all
    for option in --help --version --json --quiet --verbose --threads --seed --device --data --data-dir --completion; do
        says "$option"
    done
    says "Exit status"
    awk 'length > 80' "$logs/out" >>"$logs/wide"
    checks=$((checks + 1))
    [ -s "$logs/wide" ] && fail "${tool##*/} --help is wider than 80 columns"
    succeeds "$tool" --help=RUNNING
    says "--threads"
    succeeds "$tool" --help seed
    says "random choices"
    refuses 2 "'nonsense'|running" "$tool" --help nonsense
    succeeds "$tool" --version
    says "${tool##*/} (cnnkit) "
    says "device ref"
done
finish
