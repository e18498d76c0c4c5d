#!/bin/sh
# arm64.sh PYTHON: the core, compiled for arm64 and run by qemu-user: every reader over the seeds
# of the fuzzers, and every kernel, whose results have to be those of this machine, bit for bit.
set -eu
py=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
top=$(pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags="-std=c11 -O2 -D_GNU_SOURCE -Wall -Wextra -Werror"
# programs NAME COMPILER...: compiles the core once, and links both programs with it
programs() {
    name=$1
    shift
    mkdir "$work/$name"
    (cd "$work/$name" && "$@" $flags -c "$top"/csrc/core/*.c)
    for program in kernels leaks; do
        "$@" $flags "tests/core/$program.c" "$work/$name"/*.o -lpthread -lm \
            -o "$work/$name/$program"
    done
}
programs here cc
programs arm64 aarch64-linux-gnu-gcc -static
"$work/here/kernels" >"$work/here.txt"
qemu-aarch64 "$work/arm64/kernels" >"$work/arm64.txt"
diff "$work/here.txt" "$work/arm64.txt"
"$py" -m fuzz.seeds "$work/seeds"
qemu-aarch64 "$work/arm64/leaks" "$work"/seeds/*/*
results=$(wc -l <"$work/arm64.txt")
files=$(find "$work/seeds" -type f | wc -l)
echo "arm64: $results results of kernels as here, readers ran over $files files and parts of them"
