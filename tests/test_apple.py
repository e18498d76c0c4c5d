"""What no Apple GPU runs is told with its line, and nothing that runs there is."""

from pathlib import Path

import pytest

from torch2mlx.common.apple import CPU_LINALG, places

ROOT = Path(__file__).parent.parent / "torch2mlx"
HEAD = "import mlx.core as mx\n"


def told(code, head=HEAD):
    return [(place.line, place.what) for place in places(head + code)]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("y = mx.linalg.inv(x)\n", [(2, "mx.linalg.inv")]),
        ("y = mx.linalg.inv(x, stream=mx.cpu)\n", []),
        ("y = mx.linalg.inv(x, **options)\n", []),
        ("q, r = mx.linalg.qr(\n    x,\n)\n", [(2, "mx.linalg.qr")]),
        ("y = mx.linalg.norm(x)\nz = mx.linalg.cross(x, y)\n", []),
        ("y = mx.linalg.norm(x, ord='nuc')\n", [(2, "mx.linalg.norm")]),
        ("y = mx.linalg.norm(x, 2, (0, 1))\n", [(2, "mx.linalg.norm")]),
        ("y = mx.linalg.norm(x, 2, -1)\ny = mx.linalg.norm(x, 'fro', (0, 1))\n", []),
        ("y = x.astype(mx.float64)\n", [(2, "mx.float64")]),
        ("y = mx.zeros(3, dtype=mx.float64) + mx.ones(3, mx.float64)\n", [(2, "mx.float64")]),
        ("y = mx.zeros(3, dtype=mx.float32)\n", []),
        ("if x.dtype == mx.float64 or x.dtype in (mx.float64,):\n    pass\n", []),
        ("if (x.astype(mx.float64) > 0).all():\n    pass\n", [(2, "mx.float64")]),
        ("with mx.stream(mx.cpu):\n    y = mx.linalg.det(x.astype(mx.float64))\n", []),
        ("with mx.stream(mx.gpu):\n    y = mx.linalg.det(x)\n", [(3, "mx.linalg.det")]),
        ("mx.set_default_device(mx.cpu)\ny = mx.linalg.det(x)\n", []),
        ("y = linalg.inv(x)\n", []),
        ("y = x.float64\nz = mx.fft.fft(x)\n", []),
    ],
)
def test_places(code, expected):
    assert told(code) == expected


def test_other_names_of_imports():
    code = "y = inv(x)\nz = la.svd(x)\nw = float64\n"
    head = "from mlx.core.linalg import inv\nimport mlx.core.linalg as la\n"
    assert told(code, head) == [(3, "inv"), (4, "la.svd")]
    assert told("y = np.linalg.inv(x)\n", "import numpy as np\n") == []


def test_a_place_says_what_to_do():
    (place,) = places(HEAD + "y = mx.linalg.solve(a, b)\n")
    assert str(place) == (
        "T2M115 line 2, mx.linalg.solve: MLX has this on the CPU alone: pass stream=mx.cpu"
    )


@pytest.mark.parametrize("folder", ["kit", "templates"])
def test_our_own_layers_run_on_a_mac(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert len(files) > 3
    for file in files:
        assert places(file.read_text()) == (), file


def test_the_names_are_those_of_mlx():
    from tests.support import need

    (mx,) = need("mlx.core")
    missing = {name for name in CPU_LINALG if not hasattr(mx.linalg, name)}
    assert missing <= {"det", "slogdet"}  # newer than some versions
