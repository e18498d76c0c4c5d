#!/bin/sh
# wheel.sh PYTHON: the sdist and, from it, the wheel; each installed where nothing else of the
# project is, every module imported, every verb of the command line run. The suite of examples/tested
# runs beside the wheel, with torch, mlx and pytest borrowed; with numpy alone there is no pytest.
# PYTHON has the frameworks: the new environments borrow its libraries, but not its torch2mlx.
set -eu
py=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
unset PYTHONPATH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$py" -m tools.export "$work/tree"
"$py" -m build --outdir "$work/dist" "$work/tree" >"$work/build.log" 2>&1 ||
    { cat "$work/build.log"; exit 1; }
"$py" -m tools.shipped "$work/dist"
cp tools/installed.py "$work"
libraries=$("$py" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
mkdir "$work/numpy"
for part in "$libraries"/numpy "$libraries"/numpy.libs "$libraries"/numpy-*; do
    [ ! -e "$part" ] || ln -s "$part" "$work/numpy"
done

# try PACKAGE NAME LIBRARIES [--bare]: an environment with PACKAGE and what LIBRARIES holds
try() {
    made=$work/$2
    "$py" -m venv --without-pip "$made"
    "$py" -m pip --python "$made/bin/python" install -q --disable-pip-version-check --no-deps "$1"
    site=$("$made/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
    echo "$3" >"$site/borrowed.pth"
    mkdir "$work/cwd-$2" "$work/home-$2"
    (cd "$work/cwd-$2" && HOME=$work/home-$2 "$made/bin/python" "$work/installed.py" ${4:-})
    echo "wheel: $2 works"
}
try "$work"/dist/*.whl from-wheel "$libraries"
# the suite of an example project, with the fixtures that the installed plugin gives pytest
cp -r examples/tested "$work/tested"
(cd "$work/tested" && HOME=$work/home-from-wheel "$work/from-wheel/bin/python" -m pytest -q \
    -W ignore -p no:cacheprovider) >"$work/tested.log" 2>&1 || { cat "$work/tested.log"; exit 1; }
echo "wheel: examples/tested passes: $(tail -1 "$work/tested.log")"
try "$work"/dist/*.tar.gz from-sdist "$libraries"
try "$work"/dist/*.whl with-numpy-alone "$work/numpy" --bare
