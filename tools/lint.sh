#!/bin/sh
# lint.sh PYTHON: formatting and static checks; warnings are errors.
set -eu
py=$1
"$py" -m ruff check .
"$py" -m ruff format --check .
files=$(find csrc fuzz tests -name '*.c' -o -name '*.h' -o -name '*.def' | sort)
# .def files are tables, aligned by hand
"$py" -m clang_format --dry-run -Werror $(printf '%s\n' $files | grep -v '\.def$') 2>/dev/null ||
    "$(dirname "$py")/clang-format" --dry-run -Werror $(printf '%s\n' $files | grep -v '\.def$')
flags="-std=c11 -O2 -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -fsyntax-only"
for file in csrc/core/*.c; do cc $flags "$file"; done
include=$("$py" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
for file in csrc/bind/*.c; do cc $flags -I"$include" "$file"; done
for cross in aarch64-linux-gnu-gcc; do
    if command -v $cross >/dev/null 2>&1; then
        for file in csrc/core/*.c; do $cross $flags "$file"; done
    else
        echo "lint: $cross is not installed, arm64 was not compiled"
    fi
done
for script in dev .ci/run tools/*.sh; do sh -n "$script"; done
echo "lint: clean"
