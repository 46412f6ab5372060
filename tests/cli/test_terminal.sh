# On a terminal: bars that fit it, that are cleared before messages and at Ctrl-C; colour where it is wanted.
. "$2/tests/cli/lib.sh"

unset NO_COLOR
TERM=xterm
export TERM
escape=$(printf '\033')

# terminal COLUMNS TEXT COMMAND...: as terminal.py says.
terminal() { python3 "$cli/terminal.py" "$@"; }

# shows TEXT, hides TEXT: what the terminal was sent does, does not hold it.
shows() {
    checks=$((checks + 1))
    grep -qF -- "$1" "$logs/out" || fail "the terminal does not show '$1'"
}
hides() {
    checks=$((checks + 1))
    grep -qF -- "$1" "$logs/out" && fail "the terminal shows '$1'"
    return 0
}

# fits COLUMNS: no line, and nothing drawn over another, is that wide.
fits() {
    checks=$((checks + 1))
    python3 -c 'import re, sys
text = re.sub("\033\\[[0-9;]*[mK]", "", open(sys.argv[1], newline="").read())
sys.exit(max(map(len, re.split("[\r\n]", text))) >= int(sys.argv[2]))' "$logs/out" "$1" || fail "wider than $1 columns"
}

cat >tiny.cfg <<'CFG'
image = input(height=28, width=28, channels=1)
conv1 = conv(image, out=4, kernel=5, stride=2)
relu1 = relu(conv1)
fc1 = linear(relu1, out=10)
CFG
"$make_model" tiny.cfg synth model.cnn

# Measuring batches takes a second at least (single images of so small a network may not), so there is always a bar.
succeeds terminal 100 "" "$infer" --bench --batch 256
shows "bench cpu  ["
shows " left"
shows "${escape}[1m" # table headings
for columns in 48 30 12; do
    succeeds terminal $columns "" "$infer" --bench --batch 256 --json
    shows "bench cpu"
    grep -v '^{' "$logs/out" | sed 's/{.*//' >"$logs/bars"
    cp "$logs/bars" "$logs/out"
    fits $columns
done
succeeds terminal 100 "" "$infer" --bench --batch 256 --quiet --json
hides "$escape"

# Ctrl-C: the bar is gone before the message; a checkpoint is written.
run terminal 80 "left" "$train" --model tiny.cfg --data synth --epochs 1e6 -o long.cnn
checks=$((checks + 1))
[ "$code" = 130 ] || fail "Ctrl-C ended it with $code"
shows "${escape}[Kstopping after this step"
shows "${escape}[1;31mcnn-train: ${escape}[0minterrupted"

# Colour.
succeeds terminal 80 "" "$infer" --help
shows "${escape}[1mUsage:"
for tool in "$train" "$opt" "$infer"; do
    run terminal 80 "" "$tool" --nonsense
    shows "${escape}[1;31m${tool##*/}: ${escape}[0mthere is no option"
done
TERM=dumb
run terminal 80 "" "$infer" --nonsense
hides "$escape"
unset TERM
run terminal 80 "" "$infer" --nonsense
hides "$escape"
TERM=xterm NO_COLOR=1
export TERM NO_COLOR
run terminal 80 "" "$infer" --help
hides "$escape"
unset NO_COLOR
succeeds "$infer" --help
hides "$escape"
finish
