"""Files of torch.save, read without torch: both forms, all types, views, and what is refused."""

import collections
import io
import pickle
import zipfile

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx")


import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import torch

from torch2mlx import kit

NEW = {"_use_new_zipfile_serialization": True}
OLD = {"_use_new_zipfile_serialization": False}
TYPES = [
    *("float32", "float64", "float16", "bfloat16", "complex64", "bool"),
    *("int64", "int32", "int16", "int8", "uint8"),
]


def same(found, tensor):
    assert str(found.dtype).rpartition(".")[2].rstrip("_") == str(tensor.dtype).rpartition(".")[2]
    assert found.shape == tuple(tensor.shape)
    with mx.stream(mx.cpu):
        wide = mx.complex64 if tensor.is_complex() else mx.float64
        values = np.array(found.astype(wide))
    wanted = tensor.to(torch.complex64 if tensor.is_complex() else torch.float64)
    assert np.array_equal(values, wanted.numpy())


def numbers(*shape, dtype="float32"):
    wide = torch.arange(1, 1 + int(np.prod(shape))).reshape(shape) * 37 % 101
    return (wide % 2 == 0) if dtype == "bool" else wide.to(getattr(torch, dtype))


@pytest.mark.parametrize("form", [NEW, OLD], ids=["zip", "row"])
def test_every_type_and_view_is_read_as_torch_wrote_it(tmp_path, form):
    tensors = {name: numbers(4, 5, dtype=name) for name in TYPES}
    base = numbers(6, 4, 3)
    tensors |= {"turned": base.permute(2, 0, 1), "part": base[1:5:2, :, 1], "item": base[0, 0, 1]}
    tensors |= {"wide": base[:, :1].expand(6, 7, 3), "none": base[:0], "all": base}
    torch.save(tensors, tmp_path / "m.pt", **form)
    found = kit.files.load(tmp_path / "m.pt")
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        same(found[name], tensor)


@pytest.mark.parametrize("form", [NEW, OLD], ids=["zip", "row"])
def test_containers_values_and_arrays_of_numpy_stay(tmp_path, form):
    rows = np.arange(12.0).reshape(3, 4)
    held = [1, 2.5, None, "a", (True, b"x"), {"k": [3]}, collections.OrderedDict(a=1), b"y"]
    held += [torch.Size([2, 3]), rows, np.float64(0.1), torch.nn.Parameter(numbers(2))]
    torch.save(held, tmp_path / "m.pt", **form)
    found = kit.files.load(tmp_path / "m.pt", weights_only=False)
    assert found[:9] == held[:9]
    assert found[9].dtype == np.float64 and np.array_equal(found[9], rows)
    assert found[10] == 0.1 and found[11].tolist() == held[11].tolist()
    torch.save(rows, tmp_path / "alone.pt", **form)
    assert np.array_equal(kit.files.load(tmp_path / "alone.pt"), rows)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = kit.Conv2d(2, 3, (1, 2)), nn.Linear(3, 4)


def test_a_state_dict_of_torch_fills_a_module(tmp_path):
    layers = {"conv": torch.nn.Conv2d(2, 3, (1, 2)), "fc": torch.nn.Linear(3, 4)}
    torch.save(torch.nn.ModuleDict(layers).state_dict(), tmp_path / "m.pt")
    net = Net()
    told = kit.files.load_state_dict(net, kit.files.load(tmp_path / "m.pt"))
    assert told == ([], [])
    weight = layers["conv"].weight.detach().numpy()
    assert np.array_equal(np.array(net.conv.weight), weight.transpose(0, 2, 3, 1))
    assert np.array_equal(np.array(net.fc.bias), layers["fc"].bias.detach().numpy())


def test_the_state_of_an_optimizer_of_torch_is_refused(tmp_path):
    group = {"lr": 0.1, "params": [0, 1]}
    torch.save({"state": {0: {"step": 1}}, "param_groups": [group]}, tmp_path / "o.pt")
    optimizer = optim.Adam(learning_rate=0.1)
    with pytest.raises(ValueError, match="state of an optimizer of torch, which numbers param"):
        kit.files.load_state_dict(optimizer, kit.files.load(tmp_path / "o.pt"))


def test_what_is_no_data_is_refused_by_name(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "m.pt")
    with pytest.raises(ValueError, match=r"holds is torch.nn.modules.linear.Linear: only arrays"):
        kit.files.load(tmp_path / "m.pt", weights_only=False)
    for name in ("os.system", "builtins.eval", "numpy.load", "builtins.getattr"):
        module, _, function = name.rpartition(".")
        call = b"\x80\x02c" + f"{module}\n{function}\n".encode() + b"(X\x01\x00\x00\x00ktR."
        with zipfile.ZipFile(tmp_path / "evil.pt", "w") as archive:
            archive.writestr("a/data.pkl", call)
        with pytest.raises(ValueError, match=f"holds is {name}: only arrays"):
            kit.files.load(tmp_path / "evil.pt")


@pytest.mark.parametrize("held", [{"k": {3}}, {"k": 1j}, {"k": torch.float32}, {(1, 2): 3}])
def test_values_of_other_kinds_are_refused_with_their_place(tmp_path, held):
    torch.save({"args": [0, held]}, tmp_path / "m.pt")
    with pytest.raises(ValueError, match=r"holds\['args'\]\[1\].* is .*: only arrays"):
        kit.files.load(tmp_path / "m.pt")


@pytest.mark.parametrize("form", [NEW, OLD], ids=["zip", "row"])
def test_lazily_changed_and_turned_tensors_have_their_values(tmp_path, form):
    z = torch.complex(numbers(2, 3), -numbers(2, 3))
    held = {"conj": z.conj(), "neg": torch.imag(z.clone().conj()), "row": numbers(3, 4)[1]}
    torch.save(held, tmp_path / "m.pt", **form)
    found = kit.files.load(tmp_path / "m.pt")
    for name, tensor in held.items():
        same(found[name], tensor.resolve_conj().resolve_neg())
    swapped = np.arange(4, dtype=">f4")
    torch.save([swapped, np.float32(3)], tmp_path / "n.pt", **form)
    rows, three = kit.files.load(tmp_path / "n.pt")
    assert rows.tolist() == swapped.tolist() and isinstance(three, np.float32) and three == 3


def test_what_is_shared_in_a_file_is_read_once(tmp_path):
    held = [numbers(2)]
    for _ in range(40):
        held = [held, held]
    torch.save(held, tmp_path / "m.pt")
    found = kit.files.load(tmp_path / "m.pt")
    assert found[0] is found[1]


def test_a_changed_byte_is_an_error(tmp_path):
    torch.save({"a": {"w": numbers(64)}}, tmp_path / "m.pt")
    whole = bytearray((tmp_path / "m.pt").read_bytes())
    at = whole.index(numbers(64).numpy().tobytes())
    whole[at] ^= 1
    (tmp_path / "m.pt").write_bytes(whole)
    with pytest.raises(ValueError, match=r"m\.pt: byte .*checksum.*'w'"):
        kit.files.load(tmp_path / "m.pt")


@pytest.mark.parametrize("form", [NEW, OLD], ids=["zip", "row"])
def test_every_truncation_is_an_error(tmp_path, form):
    file = io.BytesIO()
    torch.save({"w": numbers(2, 3)}, file, **form)
    whole = file.getvalue()
    for size in range(4, len(whole), 7):
        (tmp_path / "cut.pt").write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"cut\.pt: "):
            kit.files.load(tmp_path / "cut.pt")


def test_pickles_that_torch_did_not_write_are_refused(tmp_path):
    (tmp_path / "p.pt").write_bytes(pickle.dumps({"a": 1}, 2))
    with pytest.raises(ValueError, match=r"p\.pt: byte 16: not a torch file"):
        kit.files.load(tmp_path / "p.pt")
