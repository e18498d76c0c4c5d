#!/bin/sh
# fuzz.sh SECONDS [TARGET...]: every reader under libFuzzer with asan and ubsan. Fails on a finding.
set -eu
seconds=$1
shift
work=.cache/fuzz
mkdir -p "$work"
rm -f "$work"/*.log
python3 -m fuzz.seeds "$work/corpus"
targets=${*:-json safetensors zip pickle archive legacy keys}
for target in $targets; do
    clang -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
        -D_GNU_SOURCE "fuzz/$target.c" csrc/core/*.c -lpthread -lm -o "$work/$target"
done
printf '%s\n' $targets | xargs -P "$(getconf _NPROCESSORS_ONLN)" -I{} sh -c '
    cd "$1" && mkdir -p "findings/$2" &&
    "./$2" -max_total_time="$3" -timeout=10 -rss_limit_mb=512 -malloc_limit_mb=256 -max_len=65536 \
        -artifact_prefix="findings/$2/" -print_final_stats=1 "corpus/$2" >"$2.log" 2>&1 &&
    echo "fuzz: $2 clean, $(grep -o "number_of_executed_units: [0-9]*" "$2.log")" ||
    { echo "fuzz: $2 FOUND SOMETHING, see $1/$2.log"; exit 1; }' sh "$work" {} "$seconds"
files=$(sed -n 's/.*number_of_executed_units: *//p' "$work"/*.log | awk '{ n += $1 } END { printf "%d", n }')
echo "fuzz: $(echo $targets | wc -w) readers clean after $files files"
