"""Markers that a stranger wrote: each is refused by name, or its answer is right."""

import copy
import json
import random
import struct

import numpy as np
import pytest

from tests.checkpoint.source.builders import entry, safetensors
from torch2mlx import convert, inspect, load_converted, revert
from torch2mlx.checkpoint.formats.schema import MAX_DEPTH
from torch2mlx.errors import CheckpointError, NotConvertedError, RevertError, Torch2MLXError


def drawn(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


TABLE = drawn(3, 2)
STATE = {
    "conv.weight_g": drawn(4, 1, 1),
    "conv.weight_v": drawn(4, 3, 2),
    "up.weight": drawn(4, 3, 2),
    "rnn.weight_ih_l0": drawn(6, 3),
    "rnn.weight_hh_l0": drawn(6, 2),
    "rnn.bias_ih_l0": drawn(6),
    "rnn.bias_hh_l0": drawn(6),
    "attention.in_proj_weight": drawn(6, 2),
    "embed.weight": TABLE,
    "head.weight": TABLE,
    "wide": drawn(5).astype(np.float64) / 3,
    "epoch": 3,
}
RULES = {
    **{"conv": "Conv1d", "up": {"type": "ConvTranspose1d", "groups": 2}, "rnn": "GRU"},
    "attention": "MultiheadAttention",
}


@pytest.fixture
def file(tmp_path):
    convert(STATE, tmp_path / "a.safetensors", rules=RULES)
    return tmp_path / "a.safetensors"


def marker_of(path):
    return json.loads(header_of(path)[0]["__metadata__"]["torch2mlx"])


def header_of(path):
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def write_marker(path, marker, **more):
    """The file with another marker (JSON value or text), or other metadata."""
    header, data = header_of(path)
    text = marker if isinstance(marker, str) else json.dumps(marker)
    header["__metadata__"].update({"torch2mlx": text, **more})
    path.write_bytes(safetensors(header, data))


def assert_same(found, expected=STATE):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, strict=hasattr(value, "dtype"))


def test_a_marker_that_is_whole(file):
    assert_same(revert(file, framework="numpy"))
    kinds = {entry[0] for entry in marker_of(file)["made"]}
    assert kinds == {"weight_norm", "gru_gates", "gru_new_gate"}
    write_marker(file, marker_of(file))
    assert_same(revert(file, framework="numpy"))


def tensor(marker, key):
    return next(entry for entry in marker["tensors"] if entry[0] == key)


def change(marker, key, place, value):
    tensor(marker, key)[place] = value


UP = ["l", "up.weight", "(g i) o k -> (g o) k i", {"g": 2, "i": 2, "o": 3, "k": 2}]
DAMAGES = {
    "no object": (lambda m: [1], "is no object"),
    "text": (lambda m: '"x"', "is no object"),
    "a version that is no number": (lambda m: {**m, "version": True}, "version: is no number"),
    "a later version": (lambda m: {**m, "version": 3}, "has format version 3; this .* 1 to 2"),
    "only a version": (lambda m: {"version": 2}, "lacks made, shared, sidecar, tensors"),
    "no ties": (lambda m: {**m, "ties": None}, "ties: is no object"),
    "ties that are a list": (lambda m: {**m, "ties": []}, "ties: is no object"),
    "ties to no text": (lambda m: {**m, "ties": {"a": 1}}, "ties: is no text"),
    "a tie to a tie": (lambda m: {**m, "ties": {"a": "b", "b": "c"}}, "'b', which is tied itself"),
    "values that are a number": (lambda m: {**m, "values": 5}, "values: is no object"),
    "deep values": (lambda m: {**m, "values": nested(MAX_DEPTH + 2)}, "values: nest more than"),
    "a writer that is a list": (lambda m: {**m, "writer": []}, "writer: is no text"),
    "a sidecar that is text": (lambda m: {**m, "sidecar": "x"}, "sidecar: is no object"),
    "a sidecar without a sum": (lambda m: {**m, "sidecar": {"a": 1}}, "no file name with a sha256"),
    **{
        f"a sidecar called {name!r:.20}": (
            lambda m, n=name: {**m, "sidecar": {"file": n, "sha256": "0" * 64}},
            "sidecar: .*(is no name of a file|is no text)",
        )
        for name in ("", ".", "..", "../a", "/etc/passwd", "a\\b", "a\0b", "C:x", "x" * 300, 7)
    },
    "a key that is a number": (lambda m: change(m, "up.weight", 0, 4), "tensors.2.: is no text"),
    "half a surrogate": (lambda m: change(m, "up.weight", 0, "\ud800"), "is no valid text"),
    "a key twice": (lambda m: m["tensors"].append(m["tensors"][0]), "'conv.weight_g': is there tw"),
    "an entry too short": (lambda m: m["tensors"].append(["x"]), r"tensors.*: is no list of 4"),
    "an unknown dtype": (lambda m: change(m, "wide", 1, "float13"), "'wide': has a dtype that"),
    "a dtype that is a list": (lambda m: change(m, "wide", 1, []), "'wide': has a dtype that"),
    "a shape that is a number": (lambda m: change(m, "wide", 2, 5), "'wide': is no list"),
    "a size below zero": (lambda m: change(m, "wide", 2, [-5]), "'wide': has a size"),
    "a size with a point": (lambda m: change(m, "wide", 2, [5.0]), "'wide': has a size"),
    "a size that is true": (lambda m: change(m, "wide", 2, [True]), "'wide': has a size"),
    "sizes that overflow": (lambda m: change(m, "wide", 2, [2**40] * 3), "larger than any file"),
    "sizes that overflow beside 0": (lambda m: change(m, "wide", 2, [0, 2**62, 4]), "larger than"),
    "too many dimensions": (lambda m: change(m, "wide", 2, [1] * 17), "more than 16 dimensions"),
    "another shape": (lambda m: change(m, "wide", 2, [4]), r"'wide' is \[5\], not \[4\]"),
    "another shape of a tied name": (
        lambda m: change(m, "head.weight", 2, [3, 3, 2]),
        r"'head.weight' is tied to 'embed.weight', which is \[3, 2\] float32, not \[3, 3, 2\]",
    ),
    "no recipe": (lambda m: change(m, "wide", 3, []), "'wide': has no recipe"),
    "an unknown recipe": (lambda m: change(m, "wide", 3, ["x", "wide"]), "'wide': has no recipe"),
    "a target that is a list": (lambda m: change(m, "wide", 3, ["t", ["wide"]]), "is no text"),
    "a target twice": (lambda m: change(m, "wide", 3, ["t", "up.weight"]), "a second time"),
    "a target joined with itself": (
        lambda m: change(m, "attention.in_proj_weight", 3, ["c", ["q"] * 3]),
        "'q' is used a second time",
    ),
    "a join of nothing": (lambda m: change(m, "wide", 3, ["c", []]), "joins 0 tensors"),
    "a join that does not divide": (lambda m: change(m, "wide", 3, ["c", ["p", "q"]]), "joins 2"),
    "a target that is absent": (lambda m: change(m, "wide", 3, ["t", "x"]), "'x' is missing"),
    "a layout that is none": (
        lambda m: change(m, "up.weight", 3, [*UP[:2], "a (b -> b a", UP[3]]),
        "'up.weight': malformed layout side",
    ),
    "a long layout": (
        lambda m: change(m, "up.weight", 3, [*UP[:2], "a" * 5000 + " -> " + "a" * 5000, {}]),
        "a layout of 10004 letters",
    ),
    "a layout of one letter twice": (
        lambda m: change(m, "up.weight", 3, [*UP[:2], "a a -> a a", {"a": 2}]),
        "each once",
    ),
    "sizes of other letters": (
        lambda m: change(m, "up.weight", 3, [*UP[:3], {**UP[3], "z": 1}]),
        "does not give the sizes",
    ),
    "sizes that do not fit": (
        lambda m: change(m, "up.weight", 3, [*UP[:3], {**UP[3], "g": 3}]),
        r"layout that does not fit \[4, 3, 2\]",
    ),
    "sizes with a point": (
        lambda m: change(m, "up.weight", 3, [*UP[:3], {**UP[3], "g": 2.0}]),
        "has a size",
    ),
    "made of a formula that is none": (lambda m: made(m, 0, "exec"), "a formula that torch2mlx"),
    "made along a dimension that is none": (lambda m: made(m, 1, 99), "a dimension that is none"),
    "made of what is not kept": (lambda m: made(m, 2, ["wide"]), "'wide', which is not there"),
    "made of itself": (lambda m: made(m, 2, [0]), "'0', which is not there"),
    "made of nothing": (lambda m: made(m, 2, []), "has no sources"),
    "made of one thing twice": (lambda m: made(m, 2, ["conv.weight_g"] * 2), "or one twice"),
    "made of too few": (lambda m: made(m, 2, ["conv.weight_v"]), "do not fit its formula weight_n"),
    "made of other shapes": (
        lambda m: made(m, 2, ["conv.weight_v", "rnn.bias_ih_l0"]),
        "do not fit its formula weight_norm",
    ),
    "one source of many": (
        lambda m: m["made"].extend(copy.deepcopy(m["made"][1]) for _ in range(3)),
        "is made from 'rnn.bias_|a second time",
    ),
    "shared by none": (lambda m: {**m, "shared": [["x", "y"]]}, "shared: names a tensor"),
    "part of a path": (
        lambda m: {"version": 2, "part_of": "../x"},
        "part_of: .* no name of a file",
    ),
    "part of a list": (lambda m: {"version": 2, "part_of": []}, "part_of: is no text"),
    "part of itself": (lambda m: {"version": 2, "part_of": "a.safetensors"}, "is one shard"),
}


def made(marker, place, value):
    marker["made"][0][place] = value


def nested(depth):
    value = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_marker_is_refused_by_name(name, file):
    edit, reason = DAMAGES[name]
    marker = marker_of(file)
    write_marker(file, edit(marker) or marker)
    with pytest.raises((NotConvertedError, RevertError), match=reason) as caught:
        revert(file, framework="numpy")
    assert "a.safetensors" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "damaged"),
        ("[" * 99_999, "damaged"),
        ('{"version": ' + "1" * 5_000 + "}", "damaged"),
        ('{"version": ' + "1" * 4_000 + "}", "format version 1000000"),
        ('{"version": 1e999}', "version: is no number"),
        ('{"version": NaN}', "NaN is no number"),
        ('{"version": 2, "version": 2}', "one name twice"),
        ('{"version": 2, "values": {"a": {"b": 1, "b": 2}}}', "one name twice"),
    ],
    ids=lambda text: text[:20],
)
def test_text_that_is_no_marker(text, reason, file):
    write_marker(file, text)
    for read in (revert, load_converted, inspect):
        with pytest.raises(NotConvertedError, match=reason):
            read(file)


def test_damaged_digests(file):
    marker = marker_of(file)
    for text, reason in (
        ("[]", "is no object"),
        ('{"conv.weight": 1}', "'conv.weight': is no list of 2"),
        ('{"conv.weight": ["float32", "zz"]}', "has no digest"),
        ('{"conv.weight": ["float33", "' + "0" * 32 + '"]}', "has a dtype"),
    ):
        write_marker(file, marker, **{"torch2mlx.digests": text})
        with pytest.raises(NotConvertedError, match=reason):
            revert(file)


def places(value, path=()):
    """All places in a JSON value."""
    yield path
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


ODD = [None, True, -1, 0, 2**63, 10**400, 1.5, "", "a", "wide", "\ud800", [], [[]], {}, {"a": 1}]


def mutated(marker, chance):
    """A marker with one place replaced, removed or doubled."""
    marker = copy.deepcopy(marker)
    *above, last = chance.choice([path for path in places(marker) if path])
    parent = marker
    for key in above:
        parent = parent[key]
    what = chance.randrange(3)
    if what == 0:
        parent[last] = chance.choice(ODD)
    elif what == 1 or isinstance(parent, dict):
        del parent[last]
    else:
        parent.insert(last, copy.deepcopy(parent[last]))
    return marker


def test_mutated_markers_are_refused_or_answered(file, tmp_path):
    chance, marker, answered = random.Random(0), marker_of(file), 0
    calls = (
        lambda: revert(file, framework="numpy"),
        lambda: inspect(revert(file, tmp_path / "back.safetensors", force=True)),
        lambda: load_converted(file, framework="numpy"),
        lambda: str(inspect(file)),
    )
    for _ in range(400):
        write_marker(file, mutated(marker, chance))
        for call in calls:
            try:
                call()
                answered += 1
            except Torch2MLXError as error:
                assert "a.safetensors" in str(error) or "a.torch" in str(error)
    assert 0 < answered < 1600


def one_tensor(path, marker):
    data = bytes(1 << 20)
    full = {"version": 1, "writer": "", "ties": {}, "sidecar": None, "values": {}, **marker}
    header = {
        "__metadata__": {"format": "mlx", "torch2mlx": json.dumps(full)},
        "a": entry("U8", (1 << 20,), 0, 1 << 20),
    }
    path.write_bytes(safetensors(header, data))


def test_a_tensor_that_is_tied_many_times_is_held_once(tmp_path):
    path = tmp_path / "a.safetensors"
    names = [f"k{i}" for i in range(8000)]
    tensors = [[name, "uint8", [1 << 20], ["t", name]] for name in names]
    one_tensor(path, {"tensors": tensors, "ties": dict.fromkeys(names, "a")})
    state = revert(path, framework="numpy")
    assert len({id(array) for array in state.values()}) == 1
    with pytest.raises(RevertError, match=r"tied.*write a \.pt"):
        revert(path, tmp_path / "b.safetensors")
    assert not (tmp_path / "b.safetensors").exists()
    one_tensor(path, {"tensors": tensors[:50], "ties": dict.fromkeys(names[:50], "a")})
    revert(path, tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors").stat().st_size > 50 << 20


def test_shards_that_do_not_belong_together(tmp_path):
    state = {"a": drawn(100, 10), "b": drawn(100, 10), "c": drawn(100, 10)}
    convert(state, tmp_path / "one", shard_size="4KB")
    first, second, third = sorted((tmp_path / "one").glob("model-*"))
    plan = marker_of(first)
    write_marker(second, {"version": 2, "part_of": third.name})
    with pytest.raises(CheckpointError, match=f"{second.name}: is no shard of the checkpoint"):
        revert(tmp_path / "one")
    write_marker(second, plan)
    with pytest.raises(CheckpointError, match=f"{second.name}: is no shard of the checkpoint"):
        load_converted(tmp_path / "one", framework="numpy")
    for shard in (first, second, third):
        write_marker(shard, {"version": 2, "part_of": second.name})
    with pytest.raises(NotConvertedError, match="is one shard"):
        revert(tmp_path / "one")


def as_version_1(path):
    marker = marker_of(path)
    del marker["made"], marker["shared"]
    marker["version"] = 1
    header, data = header_of(path)
    header["__metadata__"].pop("torch2mlx.digests", None)
    header["__metadata__"]["torch2mlx"] = json.dumps(marker)
    path.write_bytes(safetensors(header, data))


def test_files_of_version_1_come_back_and_trained_ones_are_refused(file):
    as_version_1(file)
    assert_same(revert(file, framework="numpy"))
    arrays = {k: np.array(v) for k, v in load_converted(file, framework="numpy").items()}
    assert_same(revert(arrays, like=file, framework="numpy"))
    for name in ("conv.weight", "rnn.b", "rnn.bhn"):
        trained = {**arrays, name: arrays[name] + 1}
        with pytest.raises(RevertError, match=rf"'{name}' was trained since, .* version 1"):
            revert(trained, like=file, framework="numpy")
    trained = {**arrays, "up.weight": arrays["up.weight"] * 2}
    expected = {**STATE, "up.weight": STATE["up.weight"] * 2}
    assert_same(revert(trained, like=file, framework="numpy"), expected)


def test_a_file_that_lost_its_digests_is_judged_by_its_originals(file):
    header, data = header_of(file)
    del header["__metadata__"]["torch2mlx.digests"]
    file.write_bytes(safetensors(header, data))
    assert_same(revert(file, framework="numpy"))
    arrays = {k: np.array(v) for k, v in load_converted(file, framework="numpy").items()}
    state = revert({**arrays, "rnn.bhn": arrays["rnn.bhn"] + 1}, like=file, framework="numpy")
    np.testing.assert_array_equal(state["rnn.bias_hh_l0"][4:], STATE["rnn.bias_hh_l0"][4:] + 1)
    np.testing.assert_array_equal(state["conv.weight_g"], STATE["conv.weight_g"])
