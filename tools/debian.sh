#!/bin/sh
# Builds the extension and runs the tests that need neither torch nor mlx, with Debian's
# python3-dev, python3-numpy, libpython3-dev and python3-pytest: no pip, no setuptools.
set -eu
python=/usr/bin/python3
if ! $python -c 'import numpy, pytest' 2>/dev/null || ! command -v python3-config >/dev/null; then
    if [ "$(id -u)" != 0 ]; then
        echo "please run: sudo apt-get install -y gcc python3-dev python3-numpy libpython3-dev python3-pytest"
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq gcc python3-dev python3-numpy \
        libpython3-dev python3-pytest >/dev/null
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r torch2mlx tests tools fuzz examples bench csrc docs setup.py pyproject.toml README.md \
    CHANGELOG.md "$work"
find "$work" -name '_core*.so' -delete
suffix=$($python -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
include=$($python -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
cc -std=c11 -O3 -Wall -Wextra -Werror -fPIC -shared -fvisibility=hidden -D_GNU_SOURCE \
    -I"$include" csrc/core/*.c csrc/bind/*.c -o "$work/torch2mlx/_core$suffix" -lpthread -lm
cd "$work"
PYTHONDONTWRITEBYTECODE=1 TORCH2MLX_BARE_TESTS=1 $python -m pytest -p no:cacheprovider -rs
