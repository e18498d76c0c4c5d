"""Models and inputs as users give them: taken, or told in one sentence what to write."""

import collections
import dataclasses
import json
import pathlib
import re

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import torch
from torch import nn

import torch2mlx
from torch2mlx.errors import ExportError, TranslationError, VerificationError
from torch2mlx.export.verify.entry import given

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


class One(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x, mask=None):
        y = self.fc(x)
        return y if mask is None else y * mask


class Batched(One):
    def forward(self, batch):
        return self.fc(batch["x"])


class Open(One):
    def forward(self, x, **more):
        return self.fc(x) + more["bias"]


class Starred(One):
    def forward(self, *xs):
        return self.fc(xs[0])


class Branches(One):
    def forward(self, x):
        if x.sum() > 0:
            return self.fc(x)
        return x


@dataclasses.dataclass
class Holder:
    """What pipelines look like."""

    model: nn.Module


class Tokens(collections.UserDict):
    """What tokenizers give."""


def taken(model, args=(), kwargs=None):
    """Inputs as torch.export will get them."""
    _, places, names = given("translate", model, args, kwargs)
    return places, names


@pytest.mark.parametrize(
    ("model", "args", "kwargs", "places", "names"),
    [
        (One(), X, None, 1, ()),
        (One(), (X,), {"mask": X}, 1, ("mask",)),
        (One(), [X, X], None, 2, ()),
        (One(), {"x": X, "mask": X}, None, 0, ("x", "mask")),
        (One(), Tokens(x=X), None, 0, ("x",)),
        (One(), (), Tokens(x=X), 0, ("x",)),
        (One(), None, {"x": X}, 0, ("x",)),
        (Batched(), {"x": X}, None, 1, ()),
        (Batched(), {"batch": {"x": X}}, None, 0, ("batch",)),
        (Open(), {"x": X, "bias": X}, None, 0, ("x", "bias")),
        (Starred(), X, None, 1, ()),
        (nn.DataParallel(One()), X, None, 1, ()),
        (torch.compile(One()), X, None, 1, ()),
    ],
)
def test_inputs_are_taken(model, args, kwargs, places, names):
    found = taken(model, args, kwargs)
    assert (len(found[0]), tuple(found[1])) == (places, names)


@pytest.mark.parametrize("array", [X.numpy(), mx.array(X.numpy())], ids=["numpy", "mlx"])
def test_arrays_of_others_become_tensors_of_their_own_memory(array):
    (place,), names = taken(One(), array, {"mask": [array, {"a": (array,)}]})
    for found in (place, names["mask"][0], names["mask"][1]["a"][0]):
        assert torch.equal(found, X) and found.dtype == torch.float32
    place.zero_()
    assert np.array(array).any()


def test_half_formats_and_foreign_byte_orders_arrive_exactly():
    half = mx.array([1.5, 2.25]).astype(mx.bfloat16)
    assert torch.equal(taken(nn.ReLU(), half)[0][0], torch.tensor([1.5, 2.25]).bfloat16())
    foreign = np.arange(3, dtype=">i8")
    assert torch.equal(taken(nn.ReLU(), foreign)[0][0], torch.arange(3))
    assert taken(One(), X, {"mask": np.float32(2)})[1] == {"mask": 2.0}


def test_the_result_is_called_with_arrays_of_any_kind(tmp_path):
    model = One().eval()
    made = torch2mlx.translate(model, X)
    made.save(tmp_path)
    want = model(X).detach().numpy()
    loaded = torch2mlx.load(tmp_path)
    for array in (X, X.numpy(), mx.array(X.numpy())):
        for found in (made(array), made.module(x=array), loaded(array)):
            assert isinstance(found, mx.array)
            np.testing.assert_allclose(np.array(found), want, atol=1e-5)


FORWARD = re.escape("One.forward(x, mask=None)")
#: (what is given, what is said)
MODELS = {
    "class": (
        lambda: One,
        r"One is a class, not a model: write translate\(One\(\.\.\.\), inputs\)",
    ),
    "function": (lambda: torch.relu, "relu is a function, not a model: call it in the forward"),
    "method": (lambda: One().forward, "One.forward is a method: give the model, whose forward is"),
    "name": (lambda: "bert-base", "'bert-base' is a path or a name, not a model: build the model"),
    "path": (lambda: pathlib.Path("m.pth"), "'m.pth' is a path or a name, not a model"),
    "weights": (lambda: One().state_dict(), "a dict of tensors has weights and no forward: build"),
    "none": (lambda: None, "None is no model: the first argument is a torch.nn.Module"),
    "tensor": (lambda: X, r"a tensor stands where the model goes: write translate\(model, tensor"),
    "pair": (lambda: (One(), X), r"arguments of their own: write translate\(model, inputs\)"),
    "holder": (lambda: Holder(One()), r"Holder holds a model and is none: write translate\(holder"),
    "mlx": (
        lambda: __import__("mlx.nn").nn.Linear(4, 4),
        "Linear is a module of MLX, not of torch",
    ),
    "lazy": (lambda: nn.LazyLinear(3), "weight has no shape yet, as its layer is lazy: call the"),
    "script": (lambda: torch.jit.trace(One(), X), "a TorchScript module has no Python to read"),
    "script within": (
        lambda: nn.Sequential(nn.ReLU(), torch.jit.trace(One(), X)),
        "1 is a TorchScript module, which has no Python to read: put the nn.Module that it was",
    ),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_is_no_model_is_told_in_one_sentence(name):
    value, said = MODELS[name]
    with pytest.raises(TranslationError, match=said) as told:
        torch2mlx.translate(value(), X)
    assert "\n" not in str(told.value)


def test_a_folder_is_told_how_to_be_loaded(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(TranslationError, match=r"is a folder, not a model: load it, for example"):
        torch2mlx.translate(tmp_path, X)


INPUTS = {
    "none": (((),), FORWARD + r" needs 'x' too: write translate\(model, \(x,\)\)"),
    "many": (((X, X, X),), FORWARD + " takes x, mask, and 3 inputs were given"),
    "not in a tuple": (
        (X, X),
        r"kwargs is a dict of inputs by name; .* write translate\(model, \(a",
    ),
    "a near name": (((X,), {"maks": X}), FORWARD + " takes no input 'maks'; did you mean 'mask'"),
    "twice": (((X,), {"x": X}), FORWARD + ": 'x' is given twice, by place and by name"),
    "no name": (((X,), {0: X}), "kwargs has the key 0, and inputs are named by str"),
    "another name": (({"y": X},), "the dict went in as 'x': inputs by name are x, mask, not 'y'"),
    "lists": (([[1.0, 2.0]],), r"no tensor is among them: write translate\(model, torch.tensor"),
    "text": (("hello",), "the input is text, 'hello': give the tensors made of it"),
    "set": (({X},), "an object of set has no order: give inputs as a tuple"),
    "module": ((One(),), r"a module stands where the inputs go: write translate\(model, inputs\)"),
    "module among them": (
        ((X, nn.ModuleList([One()])),),
        "a module, ModuleList, is among the inputs, .* a module that holds both and calls One",
    ),
    "loader": ((torch.utils.data.DataLoader([1]),), "a DataLoader is no input: give the inputs of"),
    "objects": ((np.array(["a"]),), "an input is a numpy array of <U1: give numbers"),
    "shape": (
        (X[:, :3],),
        r"One.forward raises on these inputs at .*test_entry.py:\d+ \(`y = self",
    ),
    "doubles": ((np.ones((3, 4)),), r"float64, which numpy makes by itself: write x\.astype"),
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_that_do_not_fit_are_told_before_torch_export_is_asked(name, monkeypatch):
    monkeypatch.setattr("torch.export.export", None)
    arguments, said = INPUTS[name]
    with pytest.raises(TranslationError, match=said) as told:
        torch2mlx.translate(One(), *arguments)
    assert "\n" not in str(told.value)


def test_lists_of_a_tokenizer_are_told_how_to_become_tensors():
    named = type("BatchEncoding", (Tokens,), {})(x=[[1, 2]])
    with pytest.raises(TranslationError, match="call it with return_tensors='pt'"):
        torch2mlx.translate(One(), named)


def test_options_that_are_none_are_told():
    with pytest.raises(TranslationError, match=r"no option 'input_ids'; .*{'input_ids': \.\.\.}\)"):
        torch2mlx.translate(One(), input_ids=X)
    with pytest.raises(TranslationError, match=r"no option 'dynamc'; did you mean dynamic=\?"):
        torch2mlx.translate(One(), X, dynamc=False)


VERIFIED = {
    "in the other order": (lambda m, t: (t, m, X), "the torch model comes first, its translation"),
    "the model twice": (lambda m, t: (m, m, X), "the torch model comes first, its translation"),
    "no translation": (lambda m, t: (m, None, X), "None is no translation: the second argument"),
    "its source": (lambda m, t: (m, t.source, X), "source text is no translation: write verify"),
    "its class": (lambda m, t: (m, type(t.module), X), "an object of type is no translation"),
    "no inputs": (lambda m, t: (m, t), FORWARD + r" needs 'x' too: write verify\(model, t, \(x,\)"),
    "a class": (
        lambda m, t: (One, t, X),
        r"One is a class, .* write verify\(One\(\.\.\.\), t, inp",
    ),
    "inputs in a row": (lambda m, t: (m, t, X, X), r"write verify\(model, t, \(a, b\)\)"),
    "a tolerance of text": (
        lambda m, t: (m, t, X, None, "1e-3"),
        "number, not '1e-3': write toler",
    ),
    "a tolerance below 0": (lambda m, t: (m, t, X, None, -1), "tolerance is a number, not -1"),
    "a shape": (lambda m, t: (m, t, X[:, :3]), "One.forward raises on these inputs at"),
    "another model": (lambda m, t: (nn.Linear(4, 3), t, X), r"torch gives \(3, 3\), MLX \(3, 4\)"),
}


@pytest.fixture(scope="module")
def pair():
    model = One().eval()
    return model, torch2mlx.translate(model, X)


@pytest.mark.parametrize("name", VERIFIED)
def test_what_verify_cannot_take_is_told_in_one_sentence(name, pair):
    arguments, said = VERIFIED[name]
    with pytest.raises(VerificationError, match=said) as told:
        torch2mlx.verify(*arguments(*pair))
    assert "\n" not in str(told.value)


def test_verify_takes_what_translate_takes(pair):
    model, made = pair
    for args in (X, X.numpy(), mx.array(X.numpy()), {"x": X}, [X]):
        assert torch2mlx.verify(model, made, args).ok


def test_weights_that_are_not_the_models_are_named(pair):
    _, made = pair
    found = torch2mlx.verify(One().eval(), made, X)
    assert found.verdict == "differs" and found.weights == ("fc.weight", "fc.bias")
    assert "weights that are not the model's: fc.weight, fc.bias" in str(found)


def test_what_torch_export_says_comes_once_after_the_line(capfd):
    with pytest.raises(ExportError) as told:
        torch2mlx.translate(Branches(), X)
    found = str(told.value)
    assert re.match(r"torch\.export cannot trace Branches at \S+test_entry\.py:\d+ \(`if x", found)
    assert "the forward branches on values of a tensor" in found
    assert found.count("torch.export said: ") == 1 and "\n" not in found
    assert "TORCH_LOGS" not in found and capfd.readouterr().err == ""


class Answer:
    """An output that torch.export does not know."""

    def __init__(self, logits):
        self.logits = logits


def test_outputs_of_an_unknown_class_are_told_with_what_to_do():
    class Answers(One):
        def forward(self, x):
            return Answer(self.fc(x))

    with pytest.raises(ExportError) as told:
        torch2mlx.translate(Answers(), X)
    found = str(told.value)
    assert "an input or output is of a type that torch.export does not know: register its" in found
    assert "<string>" not in found and "\n" not in found


def test_a_model_without_values_is_called_without_computing(monkeypatch):
    with torch2mlx.empty_weights():
        empty = One()
    made = torch2mlx.translate(empty, torch.ones(2, 4, device="meta"))
    assert made.notes == ()
    emit = torch2mlx.translator.emit
    wrong = lambda *a: emit(*a).replace("self.fc(x)", "self.fc(x)[:, :2]")
    monkeypatch.setattr("torch2mlx.translator.emit", wrong)
    with pytest.raises(TranslationError, match=r"output: torch gives \(2, 4\), MLX \(2, 2\)"):
        torch2mlx.translate(empty, torch.ones(2, 4))


def test_the_command_line_compares_gradients_and_notices_a_factory_that_draws(
    tmp_path, monkeypatch, capsys
):
    from torch2mlx.cli import main

    (tmp_path / "drawing.py").write_text(
        "import torch\n"
        "from torch.nn.utils.parametrizations import weight_norm\n"
        "def seeded():\n"
        "    torch.manual_seed(0)\n"
        "    return drawing()\n"
        "def drawing():\n"
        "    layer = weight_norm(torch.nn.Linear(3, 2))\n"
        "    return torch.nn.Sequential(layer).eval(), (torch.ones(4, 3),)\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["translate", "drawing.py:seeded", "out"]) == 0
    assert main(["verify", "drawing.py:drawing", "out"]) == 1
    told = capsys.readouterr().err
    assert (
        "weights that are not the model's: layers.0.bias, layers.0.weight. A factory has to make"
        in told
    )
    assert main(["verify", "drawing.py:seeded", "out", "--gradients", "--format", "json"]) == 1
    found = json.loads(capsys.readouterr().out)["result"]
    kinds = {o["name"]: (o["verdict"], o["difference"] is None) for o in found["outputs"]}
    assert kinds["gradient of layers.0.bias"] == ("equal", False)
    assert kinds["after a step"] == ("incomparable", True) and found["weights"] == []
