#!/bin/sh
# Builds the extension and runs the tests that need neither torch nor mlx, with Debian's
# python3-dev, python3-numpy and python3-pytest: no pip, no setuptools.
# debian.sh PYTHON: the same with another one that has numpy and pytest.
set -eu
python=${1:-/usr/bin/python3}
complete() {
    command -v cc >/dev/null && $python -c '
import os, sysconfig, numpy, pytest
assert os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h"))' 2>/dev/null
}
if ! complete; then
    packages="gcc libc6-dev python3-dev python3-numpy python3-pytest"
    if [ "$(id -u)" != 0 ]; then
        echo "please run: sudo apt-get install -y $packages"
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $packages >/dev/null
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
$python -m tools.export "$work"
suffix=$($python -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
include=$($python -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
cc -std=c11 -O3 -Wall -Wextra -Werror -fPIC -shared -fvisibility=hidden -D_GNU_SOURCE \
    -I"$include" csrc/core/*.c csrc/bind/*.c -o "$work/torch2mlx/_core$suffix" -lpthread -lm
cd "$work"
PYTHONDONTWRITEBYTECODE=1 TORCH2MLX_BARE_TESTS=1 $python -m pytest -p no:cacheprovider -rs
