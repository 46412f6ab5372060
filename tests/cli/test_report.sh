# cnn-opt --report and --explain: files that say what was done, the same for the same command.
. "$2/tests/cli/lib.sh"

report() {
    checks=$((checks + 1))
    python3 "$cli/check_report.py" "$@" >"$logs/out" 2>"$logs/err" || fail "check_report.py $*"
}

cat >tiny.cfg <<'CFG'
image = input(height=28, width=28, channels=1)
conv1 = conv(image, out=16, kernel=5, stride=2)
bn1 = bn(conv1)
relu1 = relu(bn1)
pool1 = maxpool(relu1, kernel=2)
fc1 = linear(pool1, out=32)
relu2 = relu(fc1)
fc2 = linear(relu2, out=10)
CFG
succeeds "$train" --data synth --model tiny.cfg --epochs 0.5 --quiet

# The same facts on every way: channels, blocks, single weights; with INT8 and without; each packing.
succeeds "$opt" --prune 0.5 --int8 --finetune 0.1 --report report.json
says "report: report.json"
report json report.json model-opt.cnn
cp report.json once.json
succeeds "$opt" --prune 0.5 --int8 --finetune 0.1 --report report.json
report same once.json report.json
succeeds "$opt" --int8 --report int8.json --quiet
report json int8.json model-opt.cnn
succeeds "$opt" --prune 0.5 --structure block --finetune 0 --pack raw --report block.json --quiet
report json block.json model-opt.cnn
succeeds "$opt" --prune 0.9 --structure weight --global --criterion taylor --finetune 0 --int8 --pack smallest \
    --report weight.JSON --quiet
report json weight.JSON model-opt.cnn

# The page: it stands alone, is the same for the same command but for the times, and shows all its parts.
page="--prune 0.5 --int8 --finetune 0.1 --report page.html"
succeeds "$opt" $page
report html page.html "model-opt.cnn is" "Passes" "fine-tune 0.1 epochs" "Layers" "What each layer bears" \
    "50 % of its channels pruned" "How exact INT8 is" "Weights" "What is taken for what" "answered otherwise" "cnn-opt $page"
cp page.html once.html
succeeds "$opt" $page
report same once.html page.html
succeeds "$opt" --prune 0.9 --structure weight --finetune 0 --report weight.HTML --quiet
report html weight.HTML "90 % of its weights pruned" "sparse" "Right before, wrong now"

# A search: its points stand in both forms.
succeeds "$opt" --target-size 9000 --int8 --finetune 0 --report search.json --quiet
succeeds "$opt" --target-size 9000 --int8 --finetune 0 --report search.html --explain --quiet
says "It is one of"
report html search.html "The models that were tried" "chosen" "point 0"
succeeds cat search.json
has_keys points[0].file_bytes points[1].drop_at_most points[1].share=0

# Names that would break a page; one class is blank for XML, and a picture is in colour.
files shapes shapes 20
mv shapes/"$(ls shapes | head -1)" "shapes/a <b> & \"c\" 'd' ]]>"
succeeds "$train" --model lenet300 --data png:shapes --image-size 8 --epochs 1 --quiet -o 'm <&> "é".cnn'
succeeds "$opt" --int8 --data png:shapes --report names.html --quiet -o "o'&lt;.cnn" 'm <&> "é".cnn'
report html names.html 'm <&> "é".cnn' "o'&lt;.cnn" "a <b> & \"c\" 'd' ]]>" "'m <&> \"é\".cnn'"

# Too few images to hold some out: nothing is said of accuracy.
mkdir few
for class in shapes/*; do
    mkdir "few/${class#shapes/}"
    for picture in "$class"/*; do
        cp "$picture" "few/${class#shapes/}"
        break
    done
done
mkdir part && mv few part/train && cp -r part/train part/test
succeeds "$opt" --int8 --data png:part --report few.html --explain --quiet -o few.cnn 'm <&> "é".cnn'
says "No images"
report html few.html "No images were held out"
succeeds "$opt" --int8 --data png:part --report few.json --json --quiet -o few.cnn 'm <&> "é".cnn'
has_keys after.file_bytes

# What was removed, in words, and nothing else on standard output with --json.
succeeds "$opt" --prune 0.5 --int8 --finetune 0 --explain
says "Pruning took"
says "Next,"
succeeds "$opt" --int8 --explain --json --quiet
has_keys before.accuracy after.file_bytes
says '"explanation": "Nothing was removed: weights and activations became 8-bit integers.'

# A report changes nothing in the model, and is not written over it.
succeeds "$opt" --int8 --quiet -o plain.cnn
succeeds "$opt" --int8 --quiet -o reported.cnn --report other.json --explain
same plain.cnn reported.cnn

# Names that cannot be: refused before any work.
refuses 2 "--report|'report.txt'|.html|.json" "$opt" --int8 --report report.txt
refuses 2 "--report|'.json'" "$opt" --int8 --report .json
refuses 2 "--report|--output|'both.json'" "$opt" --int8 -o both.json --report both.json
refuses 1 "missing/report.json" "$opt" --int8 --report missing/report.json
cp report.json before.json
refuses 1 "model-opt.cnn" limited "$opt" --int8 --report report.json --quiet
same before.json report.json
no_leftovers "after a full disk"
finish
