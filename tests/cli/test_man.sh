# Manual pages: made of the option tables, so that each option that --help all shows is there, and clean roff.
. "$2/tests/cli/lib.sh"

# has_line TEXT FILE: the file has that line, word for word.
has_line() {
    checks=$((checks + 1))
    grep -qxF -- "$1" "$2" || fail "$2 has no line '$1'"
}

for tool in "$train" "$opt" "$infer"; do
    name=${tool##*/}
    succeeds "$tool" --help=man
    cp "$logs/out" "$name.1"
    for section in NAME SYNOPSIS OPTIONS ENVIRONMENT "EXIT STATUS" EXAMPLES "SEE ALSO"; do
        has_line ".SH $section" "$name.1"
    done
    "$tool" --help all >help
    # Every option, with its letter: "  -o, --output=FILE" and "      --json" are "\fB\-\-output\fR" and so on.
    sed -n 's/^  \(-.,\|   \) --\([a-z0-9-]*\).*/\2/p' help | sort >options
    sed -n 's/.*\\fB\\-\\-\([a-z0-9\\-]*\)\\fR.*/\1/p' "$name.1" | tr -d '\\' | sort >described
    [ "$(wc -l <options)" -gt 15 ] || fail "$name --help all shows $(wc -l <options) options"
    same options described
    checks=$((checks + 1))
    LC_ALL=C grep -q "[^ -~]" "$name.1" && fail "$name.1 holds other characters than ASCII"
    # Requests are those of man(7), and no line of text begins like one.
    checks=$((checks + 1))
    grep "^['.]" "$name.1" | grep -vq "^\.\(TH\|SH\|SS\|TP\|br\)\( \|$\)" && fail "$name.1 has a line that is no request"
    if command -v groff >/dev/null; then
        succeeds groff -man -Tascii -ww -rLL=78n "$name.1"
        checks=$((checks + 1))
        [ -s "$logs/err" ] && fail "groff warns of $name.1"
        succeeds env MANPAGER=cat groff -man -Tascii -P-cbou -rLL=78n "$name.1"
        says "--threads=N"
        says "cnnkit $("$tool" --version | sed -n '1s/.* //p')"
    else
        skip "groff is not here: $name.1 is not formatted"
    fi
    if command -v mandoc >/dev/null; then
        succeeds mandoc -Tlint -Werror "$name.1"
    fi
done
has_line ".SS Mixed precision" cnn-train.1

finish
