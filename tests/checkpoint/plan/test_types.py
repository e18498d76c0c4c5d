"""Where layer types come from, and what happens without them."""

import json
import warnings

import numpy as np
import pytest

from tests.support import assert_same_state, need

need("torch", "mlx.core")

import torch
from torch import nn

from torch2mlx import convert, load_converted, revert
from torch2mlx.errors import (
    AlreadyConvertedError,
    ConversionError,
    KeyCollisionError,
    MissingTypesError,
    StateDictMismatchError,
    UnmappedLayersError,
)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.safetensors"


def conv_net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))


SENSITIVE = {
    "rank 3": {"conv.weight": torch.randn(2, 3, 4)},
    "attention": nn.MultiheadAttention(4, 2).state_dict(),
    "lstm": nn.LSTM(2, 3).state_dict(),
    "parametrized": nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)).state_dict(),
    "normed": {"x.weight_g": torch.ones(3, 1), "x.weight_v": torch.randn(3, 2)},
    "spectral": nn.utils.spectral_norm(nn.Linear(2, 3)).state_dict(),
}


@pytest.mark.parametrize("name", SENSITIVE)
def test_without_types_what_depends_on_them_is_refused(name, out):
    with pytest.raises(MissingTypesError, match=r"module=.*rules=") as error:
        convert(SENSITIVE[name], out)
    assert error.value.tensors
    assert str(error.value.tensors[0]) in str(error.value)
    assert not out.exists()


def test_without_types_the_rest_is_copied_and_noted(out):
    report = convert({"a.weight": torch.randn(2, 3)}, out)
    assert any("types unknown" in note for note in report.notes)


def test_types_from_a_module_on_the_meta_device(out):
    net = conv_net()
    with torch.device("meta"):
        blank = conv_net()
    convert(net.state_dict(), out, module=blank)
    found = load_converted(out)
    assert found["layers.0.weight"].shape == (4, 3, 3, 3)
    np.testing.assert_array_equal(
        np.array(found["layers.0.weight"]), net[0].weight.detach().permute(0, 2, 3, 1).numpy()
    )
    assert_same_state(revert(out), net.state_dict())


def test_types_from_rules(out):
    state = conv_net().state_dict()
    rules = {"*": "Conv2d", "1": "BatchNorm2d"}
    convert(state, out, rules=rules)
    assert load_converted(out)["0.weight"].shape == (4, 3, 3, 3)
    assert_same_state(revert(out), state)


@pytest.mark.parametrize(
    ("state", "rules", "expected"),
    [
        ({"w": (2, 3, 4)}, {"w": "identity"}, {"w": (2, 3, 4)}),
        ({"w": (2, 3, 4)}, {"w": "a b c -> c a b"}, {"w": (4, 2, 3)}),
        ({"w": (2, 3, 4), "v": (2,)}, {"w": "drop"}, {"v": (2,)}),
        (
            {"up.weight": (4, 3, 2), "up.bias": (6,)},
            {"up": {"type": "ConvTranspose1d", "groups": 2}},
            {"up.weight": (6, 2, 2), "up.bias": (6,)},
        ),
        ({"a.b.weight": (2, 3, 4)}, {"**": nn.Conv1d}, {"a.b.weight": (2, 4, 3)}),
        (
            {"s.0.weight": (2, 3, 4)},
            {"s": "Sequential", "s.*": "Conv1d"},
            {"s.layers.0.weight": (2, 4, 3)},
        ),
    ],
)
def test_what_a_rule_can_say(state, rules, expected, out):
    convert({key: torch.randn(shape) for key, shape in state.items()}, out, rules=rules)
    assert {k: v.shape for k, v in load_converted(out).items()} == expected


def test_rules_and_folds_together(out):
    parametrized = nn.utils.parametrizations
    net = nn.ModuleDict(
        {
            "a": parametrized.weight_norm(nn.Conv1d(2, 3, 2)),
            "b": parametrized.weight_norm(nn.ConvTranspose1d(4, 6, 2, groups=2)),
            "c": parametrized.spectral_norm(nn.ConvTranspose1d(4, 6, 2)),
        }
    ).eval()
    state = net.state_dict()
    convert(net, out)
    expected = load_converted(out)
    rules = {"a": "Conv1d", "b": {"type": "ConvTranspose1d", "groups": 2}, "c": "ConvTranspose1d"}
    convert(state, out, rules=rules)
    found = load_converted(out)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(np.array(found[key]), np.array(value), atol=1e-6)
    assert_same_state(revert(out), state)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"nothing*": "Conv2d"}, "matches nothing"),
        ({"w": "Conv9d"}, "no registered layer"),
        ({"w": {"groups": 2}}, 'names no layer: give its "type"'),
        ({"w": "a b -> b a"}, "2 dimensions|3 dimensions"),
        ({"w": "a b c -> a b"}, "same letters"),
    ],
)
def test_rules_that_make_no_sense(rules, message, out):
    with pytest.raises((ConversionError, ValueError), match=message):
        convert({"w": torch.randn(2, 3, 4)}, out, rules=rules)
    assert not out.exists()


def test_transposed_convolutions_need_their_groups(out):
    state = nn.ConvTranspose2d(4, 6, 3, groups=2).state_dict()
    with pytest.raises(ConversionError, match="groups"):
        convert({f"up.{k}": v for k, v in state.items()}, out, rules={"up": "ConvTranspose2d"})


def test_a_module_that_does_not_fit(out):
    state = conv_net().state_dict()
    with pytest.raises(StateDictMismatchError, match=r"missing: weight.*unexpected: 0\.weight"):
        convert(state, out, module=nn.Linear(2, 2))
    with pytest.raises(StateDictMismatchError, match="shapes differ"):
        convert(state, out, module=nn.Sequential(nn.Conv2d(3, 4, 5)))
    del state["3.bias"]
    with pytest.raises(StateDictMismatchError, match=r"missing: 3\.bias"):
        convert(state, out, module=conv_net())
    convert(state, out, module=conv_net(), strict=False)


def test_what_a_loosely_fitting_module_does_not_know_is_not_guessed(out):
    state = {**conv_net().state_dict(), "head.conv.weight": torch.randn(2, 3, 4)}
    with pytest.raises(MissingTypesError, match=r"head\.conv\.weight"):
        convert(state, out, module=conv_net(), strict=False)
    rules = {"head.conv.weight": "o i k -> o k i"}
    convert(state, out, module=conv_net(), strict=False, rules=rules)
    assert load_converted(out)["head.conv.weight"].shape == (2, 4, 3)


def test_old_checkpoints_without_batch_counters_fit(out):
    state = conv_net().state_dict()
    del state["1.num_batches_tracked"]
    convert(state, out, module=conv_net())


def test_types_from_a_transformers_config(tmp_path, out):
    (transformers,) = need("transformers")
    config = transformers.GPT2Config(
        n_layer=1, n_head=2, n_embd=8, vocab_size=11, n_positions=8, bos_token_id=0, eos_token_id=0
    )
    transformers.utils.logging.disable_progress_bar()
    model = transformers.GPT2LMHeadModel(config)
    folder = tmp_path / "gpt2"
    model.save_pretrained(folder)
    convert(folder, out, on_unmapped="ignore")
    found = load_converted(out)
    attn = model.transformer.h[0].attn.c_attn.weight
    np.testing.assert_array_equal(
        np.array(found["transformer.h.0.attn.c_attn.weight"]), attn.detach().T.numpy()
    )
    assert "lm_head.weight" in found


def test_a_config_that_names_no_known_class_is_no_help(tmp_path, out):
    folder = tmp_path / "odd"
    folder.mkdir()
    torch.save({"w": torch.randn(2, 3, 4)}, folder / "model.pt")
    (folder / "config.json").write_text(json.dumps({"architectures": ["NoSuchModel"]}))
    with pytest.raises(MissingTypesError):
        convert(folder, out)


class Seven(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        self.flatten = nn.Flatten()
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(4, 2))


def test_the_coverage_warning_has_the_documented_words(out):
    with pytest.warns(UserWarning) as caught:
        report = convert(Seven(), out)
    assert [str(w.message) for w in caught] == [
        "Model coverage 85.7% — unmapped layers: AdaptiveAvgPool2d"
    ]
    assert (report.coverage.total_layers, report.coverage.mapped_layers) == (7, 6)
    assert caught[0].filename == __file__


def test_unmapped_layers_can_be_errors_or_silent(out):
    with pytest.raises(UnmappedLayersError, match="AdaptiveAvgPool2d"):
        convert(Seven(), out, on_unmapped="error")
    assert not out.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convert(Seven(), out, on_unmapped="ignore")


@pytest.mark.parametrize(
    "state",
    [
        {"a": torch.ones(2), "a.b": torch.ones(2)},
        {"a.b.c": torch.ones(2), "a": torch.ones(2)},
    ],
)
def test_a_key_that_is_a_prefix_of_another(state, out):
    with pytest.raises(KeyCollisionError, match="prefix"):
        convert(state, out)


def test_two_tensors_for_one_target(out):
    attention = nn.MultiheadAttention(4, 2)
    attention.register_module("query_proj", nn.Linear(4, 4))
    with pytest.raises(KeyCollisionError, match=r"in_proj_weight.*query_proj"):
        convert(attention, out)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_torchscript_is_refused_with_advice(out, tmp_path):
    from torch2mlx.errors import CheckpointError

    net = nn.Sequential(nn.Conv1d(2, 3, 2))
    scripted = torch.jit.script(net)
    with pytest.raises(ConversionError, match="TorchScript"):
        convert(scripted, out)
    torch.jit.save(scripted, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"TorchScript.*state_dict"):
        convert(tmp_path / "x.pt", out)
    convert(scripted.state_dict(), out, module=net)
    assert load_converted(out)["layers.0.weight"].shape == (3, 2, 2)


def test_nothing_to_convert(out):
    with pytest.raises(ConversionError, match="not a single tensor"):
        convert(nn.ReLU(), out)


def test_a_key_chooses_nothing_in_a_live_module(out):
    with pytest.raises(ConversionError, match="key='0' chooses within a file or state dict; of a"):
        convert(nn.Sequential(nn.Linear(2, 3)), out, key="0")
    assert not out.exists()


def test_a_converted_file_is_not_converted_again(out, tmp_path):
    convert(conv_net(), out)
    with pytest.raises(AlreadyConvertedError, match="already"):
        convert(out, tmp_path / "again.safetensors", module=conv_net())


def test_a_file_of_mlx_is_not_converted_again(tmp_path, out):
    import mlx.core as mx

    mx.save_safetensors(str(tmp_path / "x.safetensors"), {"a": mx.ones(2)}, {"format": "mlx"})
    with pytest.raises(AlreadyConvertedError, match="MLX layout"):
        convert(tmp_path / "x.safetensors", out)


def test_the_source_is_never_the_target(tmp_path):
    path = tmp_path / "x.safetensors"
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, path)
    before = path.read_bytes()
    with pytest.raises(ConversionError, match="is the source"):
        convert(path, path)
    assert path.read_bytes() == before


def test_every_source_tensor_and_every_target_is_accounted_for(out):
    net = nn.Sequential(nn.LSTM(2, 3), nn.MultiheadAttention(4, 2), nn.BatchNorm1d(3))
    report = convert(net, out)
    used = {source for piece in report.pieces for source in piece.sources}
    assert used | set(report.dropped) == set(net.state_dict())
    assert {piece.target for piece in report.pieces} == set(load_converted(out))
    assert all(piece.sources and piece.rule for piece in report.pieces)
