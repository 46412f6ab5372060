#!/bin/sh
# scripts/fuzz with programs that only look like targets: what it adds up, and what it says of a finding.
set -eu
source=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
    echo "test_script: $1" >&2
    exit 1
}

mkdir -p "$work/scripts" "$work/docs" "$work/tests/fuzz/corpus/good" "$work/tests/fuzz/corpus/bad" "$work/made/bin"
cp "$source/scripts/fuzz" "$work/scripts/"
cp "$source/docs/fuzzing.md" "$work/docs/"
# of rows of other runs only the sum is left
sed -i -e '/^| [a-z]* | [0-9]/d' "$work/docs/fuzzing.md"
echo '| all | 0.00 | 0 | 0 | 0 | | | |' >>"$work/docs/fuzzing.md"
touch "$work/tests/fuzz/fuzz_good.c" "$work/tests/fuzz/fuzz_bad.c"
cat >"$work/made/bin/fuzz_good" <<'END'
#!/usr/bin/env python3
import sys, time
while time.process_time() < 1:
    pass
print("stat::number_of_executed_units: 1000", file=sys.stderr)
END
cat >"$work/made/bin/fuzz_bad" <<'END'
#!/bin/sh
echo "==1==ERROR: AddressSanitizer: heap-buffer-overflow" >&2
echo "artifact_prefix='x'; Test unit written to build/fuzz-found/bad/crash-1234" >&2
exit 77
END
chmod +x "$work/made/bin/"*
cd "$work"
row() { sed -n "s/^| $1 |//p" docs/fuzzing.md; }

scripts/fuzz --build made --minutes 0.1 --jobs 2 good >out || fail "a run without a finding fails"
row good | grep -q '| 2000 | 0 |' || fail "two processes of 1000 executions are not 2000: $(row good)"
scripts/fuzz --build made --minutes 0.1 --jobs 1 good >out
row good | grep -q '| 3000 | 0 |' || fail "a second run is not added: $(row good)"
row all | grep -q '| 3000 | 0 |' || fail "the sum is wrong: $(row all)"
[ "$(row good | awk -F' *[|] *' '{print $2}')" -ge 3 ] || fail "processor time is not added up: $(row good)"
if scripts/fuzz --build made --minutes 0.1 --jobs 1 >out 2>error; then
    fail "a finding is no failure"
fi
grep -q 'bad: found build/fuzz-found/bad/crash-1234' error || fail "the file is not named: $(cat error)"
row bad | grep -q '| 0 | 1 |' || fail "the finding is not counted: $(row bad)"
row all | grep -q '| 4000 | 1 |' || fail "the sum of both is wrong: $(row all)"
[ "$(grep -c '^| good |' docs/fuzzing.md)" = 1 ] || fail "a target has two rows"
if scripts/fuzz --build made nothing 2>error; then
    fail "an unknown target is accepted"
fi
if scripts/fuzz --build made --minutes 0 good 2>error; then
    fail "no time is accepted"
fi
