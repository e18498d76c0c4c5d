#!/bin/sh
# lint.sh PYTHON: formatting and static checks; warnings are errors.
set -eu
py=$1
"$py" -m ruff check .
"$py" -m ruff format --check .
"$py" -m mypy
files=$(find csrc fuzz tests -name '*.c' -o -name '*.h' -o -name '*.def' | sort)
# .def files are tables, aligned by hand
"$py" -m clang_format --dry-run -Werror $(printf '%s\n' $files | grep -v '\.def$') 2>/dev/null ||
    "$(dirname "$py")/clang-format" --dry-run -Werror $(printf '%s\n' $files | grep -v '\.def$')
# compiled as users compile: some warnings are the optimiser's. -S: no assembler is needed
flags="-std=c11 -O3 -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -fvisibility=hidden"
compile() { xargs -P "$(getconf _NPROCESSORS_ONLN)" -n 1 "$@" $flags -S -o /dev/null; }
include=$("$py" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
printf '%s\n' csrc/core/*.c | compile cc
printf '%s\n' csrc/bind/*.c | compile cc -fPIC -I"$include"
cross=aarch64-linux-gnu-gcc
if command -v $cross >/dev/null 2>&1; then
    printf '%s\n' csrc/core/*.c | compile $cross
else
    echo "lint: $cross is not installed, arm64 was not compiled"
fi
for script in dev .ci/run tools/*.sh; do sh -n "$script"; done
"$py" -m tools.ledger check
echo "lint: clean"
