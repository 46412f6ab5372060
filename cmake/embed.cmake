# Writes the built-in network descriptions as C: run as
#   cmake -DOUTPUT=builtin_models.inc -DFOLDER=models "-DNAMES=convnet lenet5" -P embed.cmake
# Each file becomes an array of bytes (string literals have a length limit) and a row {name, bytes, length}.
string(REPLACE " " ";" names "${NAMES}")
set(arrays "")
set(rows "")
foreach(name IN LISTS names)
    file(READ "${FOLDER}/${name}.cfg" hex HEX)
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
    string(MAKE_C_IDENTIFIER "cfg_${name}" symbol)
    string(APPEND arrays "static const unsigned char ${symbol}[] = {${bytes}};\n")
    string(APPEND rows "    {\"${name}\", (const char *)${symbol}, sizeof ${symbol}},\n")
    string(APPEND list "    \"${name}\",\n")
endforeach()
file(WRITE "${OUTPUT}" "${arrays}static const builtin_model builtin_models[] = {\n${rows}};\n"
     "static const char *const builtin_names[] = {\n${list}    NULL,\n};\n")
