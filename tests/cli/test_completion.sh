# Completion in bash: the script that each tool prints, run as bash would run it.
. "$2/tests/cli/lib.sh"

command -v bash >/dev/null 2>&1 || { skip "no bash here"; exit 0; }
mkdir "some folder" pictures
: >one.cnn
: >two.cnn
: >net.cfg
: >"a digit.png"
: >notes.txt

# completes TOOL EXPECTED WORD...: the last word, which may be empty, completes to exactly these (sorted, one a line).
completes() {
    tool=$1
    expected=$2
    shift 2
    succeeds bash -c 'source <("$1" --completion bash)
        shift
        COMP_WORDS=("$@")
        COMP_CWORD=$(($# - 1))
        _${1//-/_}
        printf "%s\n" "${COMPREPLY[@]}" | LC_ALL=C sort -u | paste -sd "|"' bash "$bin/$tool" "$tool" "$@"
    checks=$((checks + 1))
    [ "$(cat "$logs/out")" = "$expected" ] || fail "$tool $*: not '$expected'"
    checks=$((checks + 1))
    [ -s "$logs/err" ] && fail "$tool $*: bash complains"
    return 0
}

completes cnn-train "--epochs" --ep
completes cnn-train "--seed" --data synth --see
completes cnn-train "lenet300|lenet5|lenet5-caffe" --model le
completes cnn-train "net.cfg" -m n
completes cnn-train "bf16|fp16" --amp = ""
completes cnn-train "fp16" --amp = f
completes cnn-train "--amp" --am
completes cnn-train "mnist" --data m
completes cnn-train "pictures" --data png : pic
completes cnn-train "some folder" --data-dir s
completes cnn-train "portable" --device cpu : p
completes cnn-train "training" --help = tr
completes cnn-train "constant|cosine" --schedule co
completes cnn-opt "one.cnn|pictures|some folder|two.cnn" ""
completes cnn-opt "" --prune ""
completes cnn-infer "a digit.png|pictures|some folder" --topk 3 ""
completes cnn-infer "notes.txt" --logits no
completes cnn-infer "one.cnn" -m on
completes cnn-infer "ref" --compare r
completes cnn-infer "cpu" --compare = c
refuses 2 "--completion|bash" "$infer" --completion fish
finish
