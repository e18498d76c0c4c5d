#!/bin/sh
# sanitize.sh PYTHON: the tests that reach the core under asan and ubsan, then the core under valgrind.
set -eu
py=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
work=.cache/sanitize
rm -rf "$work"
"$py" -m tools.export "$work"
cd "$work"
suffix=$("$py" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
include=$("$py" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
cc -std=c11 -O1 -g -fPIC -shared -fvisibility=hidden -D_GNU_SOURCE -Wall -Wextra -Werror \
    -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer \
    -I"$include" csrc/core/*.c csrc/bind/*.c -o "torch2mlx/_core$suffix" -lpthread -lm
preload=$(cc -print-file-name=libasan.so):$(cc -print-file-name=libubsan.so)
preload=$preload:$(cc -print-file-name=libstdc++.so)
# Python and torch keep memory for themselves, so leaks are left to valgrind below
LD_PRELOAD=$preload ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=$(pwd) "$py" -c '
import os, torch2mlx._core as core
assert core.__file__.startswith(os.getcwd()), f"{core.__file__} is not the sanitized build"'
LD_PRELOAD=$preload ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
    TORCH2MLX_SANITIZED=1 PYTHONPATH=$(pwd) OMP_NUM_THREADS=1 "$py" -m pytest -p no:cacheprovider -n auto \
    --dist worksteal -q -o tmp_path_retention_policy=failed tests/core tests/checkpoint tests/analysis \
    tests/catalog tests/test_inspector.py tests/test_optimizer_state.py tests/test_collecting.py
cc -std=c11 -g -O1 -D_GNU_SOURCE -Wall -Wextra -Werror tests/core/leaks.c csrc/core/*.c \
    -lpthread -lm -o leaks
"$py" -m fuzz.seeds seeds
valgrind -q --error-exitcode=1 --leak-check=full --show-leak-kinds=all ./leaks seeds/*/*
echo "sanitize: clean"
