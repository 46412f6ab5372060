# Keys, signatures, and who asks for them.
. "$2/tests/cli/lib.sh"

cp "$cli/../fuzz/corpus/cnn/tiny-int8.cnn" model.cnn

if ! "$opt" --keygen me >/dev/null 2>"$logs/err" && grep -q libsodium "$logs/err"; then
    refuses 1 "made without libsodium" "$opt" model.cnn --sign me.key -o signed.cnn
    refuses 1 "made without libsodium" "$infer" -m model.cnn --bench --require-signature me.pub
    finish
fi

refuses 1 "me.key: exists already" "$opt" --keygen me
succeeds "$opt" --keygen you --json
says '"key": "you"'
succeeds "$opt" model.cnn --sign me.key -o signed.cnn
says "signed.cnn: model.cnn, signed with me.key"
succeeds "$infer" -m signed.cnn --bench --require-signature me.pub --verbose
says "signed by me.pub"
succeeds "$infer" -m signed.cnn --bench
cp signed.cnn elsewhere.cnn
succeeds "$infer" -m elsewhere.cnn --bench --require-signature=me.pub

refuses 1 "model.cnn: is refused: it is not signed" "$infer" -m model.cnn --bench --require-signature me.pub
refuses 1 "signed.cnn: is refused: it is signed by another key than you.pub" "$infer" -m signed.cnn --bench --require-signature you.pub
head -c 300 signed.cnn >cut.cnn
refuses 1 "cut.cnn: is refused" "$infer" -m cut.cnn --bench --require-signature me.pub
(head -c 60 signed.cnn; printf x; tail -c +62 signed.cnn) >changed.cnn
refuses 1 "changed.cnn: is refused: it was changed" "$infer" -m changed.cnn --bench --require-signature me.pub
echo "no model" >text.cnn
refuses 1 "text.cnn: is refused: it is not signed" "$infer" -m text.cnn --bench --require-signature me.pub
refuses 1 "net.onnx: is refused: only .cnn files are signed" "$infer" -m net.onnx --bench --require-signature me.pub
refuses 1 "no such file" "$infer" -m signed.cnn --bench --require-signature none.pub

# What is made of a signed model is another one.
succeeds "$opt" signed.cnn -o model.onnx
says "signed.cnn is signed"
succeeds "$opt" model.onnx --sign me.key -o back.cnn
says "back.cnn is signed with me.key"
succeeds "$infer" -m back.cnn --bench --require-signature me.pub
succeeds "$opt" back.cnn --sign you.key -o back.cnn --json
says '"output": "back.cnn"'
succeeds "$infer" -m back.cnn --bench --require-signature you.pub

refuses 2 "--keygen makes a key" "$opt" --keygen them --int8
refuses 2 "--sign is for .cnn files" "$opt" model.cnn --sign me.key -o x.onnx
refuses 2 "--pack is for passes" "$opt" model.cnn --sign me.key --pack raw -o x.cnn
refuses 1 "me.pub: is not a secret key" "$opt" model.cnn --sign me.pub -o x.cnn
refuses 1 "none.key: there is no such file" "$opt" model.onnx --sign none.key -o x.cnn

# In the sandbox, too.
succeeds "$opt" signed.cnn --sign me.key -o signed.cnn
python3 -c '
header = "{\"descr\": \"|u1\", \"fortran_order\": False, \"shape\": (1, 4, 4, 1), }"
header += " " * (63 - (10 + len(header)) % 64) + "\n"
open("one.npy", "wb").write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(16))'
if "$infer" -m model.cnn --input one.npy --sandbox >/dev/null 2>&1; then
    succeeds "$infer" -m signed.cnn --input one.npy --sandbox --require-signature me.pub
    refuses 1 "it is signed by another key" "$infer" -m signed.cnn --input one.npy --sandbox --require-signature you.pub
fi

finish
