"""What `verify` calls a difference, and what it does not: ties, padding, subclasses, training."""

import numpy as np
import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import torch
from torch import nn

import torch2mlx
from torch2mlx.errors import VerificationError

F = nn.functional


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pair(model, *args):
    return model, torch2mlx.translate(model, args)


class Near(nn.Module):
    """Two sums of the same numbers in another order, and which is larger."""

    def forward(self, x):
        weights = torch.arange(1, x.shape[-1] + 1)
        a = (x * weights).sum(-1)
        b = (x.flip(-1) * weights.flip(-1)).sum(-1)
        return torch.stack([a, b], -1).argmax(-1), x.argmax(-1)


class Words(nn.Module):
    """The same behind an embedding: its inputs are whole numbers."""

    def __init__(self):
        super().__init__()
        self.table, self.near = nn.Embedding(300, 1), Near()

    def forward(self, ids):
        return self.near(self.table(ids).squeeze(-1))[0]


def other_ties(made):
    """A module that chooses otherwise between what is nearly equal."""
    kind = type(made.module)

    class Other(kind):
        def __call__(self, x):
            found = kind.__call__(self, x)
            first = found[0] if isinstance(found, tuple) else found
            return (1 - first, *found[1:]) if isinstance(found, tuple) else 1 - first

    other = Other()
    other.load_weights(list(made.weights.items()))
    return other


def test_choices_between_near_ties_are_unstable_and_name_the_operator():
    model, made = pair(Near(), drawn(64, 300))
    found = torch2mlx.verify(model, other_ties(made), drawn(64, 300))
    assert found.verdict == "unstable" and not found.ok and found.first is None
    tie, plain = found.outputs
    assert (tie.verdict, plain.verdict) == ("unstable", "equal")
    assert "argmax (test_judging.py:" in tie.reason and "chooses otherwise" in tie.reason


class Tied(nn.Module):
    """The best of equal scores, which torch may take from any of their places, and a matrix."""

    def __init__(self, stable=False):
        super().__init__()
        self.stable = stable

    def forward(self, x):
        scores = (x * 0).round() + torch.tensor([1.0, 1, 1, 1, 1, 0])
        values, places = scores.topk(3, 1)
        if self.stable:
            values, places = scores.sort(dim=1, stable=True)
        return torch.arange(12.0).view(6, 2)[places], values, x @ x.mT


def test_choices_among_equal_items_are_unstable_and_what_is_beside_them_is_not():
    model, made = pair(Tied(), drawn(2, 6))
    chosen, values, plain = torch2mlx.verify(model, made, drawn(2, 6), sizes=[]).outputs
    assert [chosen.verdict, values.verdict, plain.verdict] == ["unstable", "equal", "equal"]
    assert "topk chooses among equal items" in chosen.reason
    kind = type(made.module)

    class Wrong(kind):
        def __call__(self, x):
            chosen, values, plain = kind.__call__(self, x)
            return chosen, values + 1, plain + 1

    verdicts = [o.verdict for o in torch2mlx.verify(model, Wrong(), drawn(2, 6), sizes=[]).outputs]
    assert verdicts == ["unstable", "differs", "differs"]


def test_the_order_of_equal_items_in_a_stable_sort_is_torchs():
    model, made = pair(Tied(True), drawn(2, 6))
    assert made.compared == "equal"
    kind = type(made.module)

    class Wrong(kind):
        def __call__(self, x):
            chosen, *more = kind.__call__(self, x)
            return chosen[:, ::-1], *more

    assert torch2mlx.verify(model, Wrong(), drawn(2, 6), sizes=[]).outputs[0].verdict == "differs"


def test_near_ties_behind_an_embedding_are_found_too():
    torch.manual_seed(0)
    ids = torch.arange(300).repeat(64, 1)
    ids = torch.stack([row[torch.randperm(300)] for row in ids])
    model, made = pair(Words(), ids)
    assert torch2mlx.verify(model, other_ties(made), ids).verdict == "unstable"


def test_a_difference_that_noise_does_not_explain_stays_one():
    class Picks(nn.Module):
        def forward(self, x):
            return x.argmax(-1)

    x = torch.eye(5)
    model, made = pair(Picks(), x)
    found = torch2mlx.verify(model, lambda_module(lambda x: made.module(x) + 1), x)
    assert found.verdict == "differs" and found.first is None


def lambda_module(function):
    class Called(mx_module()):
        def __call__(self, *args, **kwargs):
            return function(*args, **kwargs)

    return Called()


def mx_module():
    from mlx.nn import Module

    return Module


@pytest.mark.slow
def test_padded_places_of_the_fused_encoder_are_no_difference():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    mask = torch.arange(6) >= torch.tensor([[6], [4]])
    given = {"src": drawn(2, 6, 16), "src_key_padding_mask": mask}
    made = torch2mlx.translate(model, given)
    assert torch2mlx.verify(model, made, given).ok
    assert torch.backends.mha.get_fastpath_enabled()


def test_each_side_has_its_own_copy_of_the_inputs():
    class Writes(nn.Module):
        def forward(self, x, state):
            x.mul_(2)
            state["sum"].add_(x.sum())
            state["seen"].append(x)
            return x + state["sum"]

    x, state = drawn(2, 3), {"sum": torch.zeros(1), "seen": [drawn(1)]}
    model = Writes()
    made = torch2mlx.translate(model, (x, state))
    assert torch2mlx.verify(model, made, (x, state)).ok
    assert torch.equal(x, drawn(2, 3)) and state["sum"].item() == 0 and len(state["seen"]) == 1


class Named(torch.Tensor):
    """A tensor that carries more, as images of torchvision do."""


def test_tensors_of_a_subclass_are_the_tensors_that_they_are():
    class Keeps(nn.Module):
        def forward(self, x):
            return x * 2, (x + 1).as_subclass(Named)

    x = drawn(2, 3).as_subclass(Named)
    model = Keeps()
    made = torch2mlx.translate(model, (drawn(2, 3),))
    found = torch2mlx.verify(model, made, (x,))
    assert found.ok and len([o for o in found.outputs if not o.case]) == 2
    assert torch2mlx.verify(nn.ReLU(), pair(nn.ReLU(), drawn(2, 3))[1], nn.Parameter(x)).ok


def test_nested_tensors_are_refused_by_name():
    nested = torch.nested.nested_tensor([drawn(2, 3), drawn(1, 3)], layout=torch.jagged)
    _, made = pair(nn.ReLU(), drawn(2, 3))
    with pytest.raises(VerificationError, match="a NestedTensor wraps other tensors"):
        torch2mlx.verify(nn.ReLU(), made, nested)


def image_net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.Tanh(),
        nn.Dropout(0.2),
        nn.Flatten(1),
        nn.Linear(144, 3),
    )


@pytest.mark.parametrize("batch", [2, 5])
def test_gradients_and_a_step_agree_in_training(batch):
    model, x = image_net().train(), drawn(batch, 3, 8, 8)
    made = torch2mlx.translate(model, x)
    before = {k: v.tolist() for k, v in made.module.layers[1].parameters().items()}
    found = torch2mlx.verify(model, made, x, gradients=True)
    assert found.ok and found.difference < 1e-4, str(found)
    assert {o.case for o in found.outputs if o.case} == {
        f"at input ({n}, 3, 8, 8)" for n in (1, batch + 1)
    }
    own = [o for o in found.outputs if not o.case]
    assert [o.what for o in own] == ["output"] + ["gradient"] * 6 + ["step"] * 3
    assert own[1].name == "gradient of layers.0.weight"
    assert {o.name for o in own[-2:]} == {
        "layers.1.running_mean after a step",
        "layers.1.running_var after a step",
    }
    assert {k: v.tolist() for k, v in made.module.layers[1].parameters().items()} == before
    assert all(p.grad is None for p in model.parameters())


def test_a_gradient_that_is_missing_is_a_difference_although_the_outputs_agree():
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    made = torch2mlx.translate(model, drawn(2, 4))
    kind = type(made.module)

    class Stopped(kind):
        def __call__(self, x):
            layer = self.layers[0]
            return mx.tanh(x @ layer.weight.T + mx.stop_gradient(layer.bias))

    stopped = Stopped()
    stopped.load_weights(list(made.weights.items()))
    assert torch2mlx.verify(model, stopped, drawn(2, 4)).ok
    found = torch2mlx.verify(model, stopped, drawn(2, 4), gradients=True)
    wrong = {o.name: o.difference for o in found.outputs if o.verdict == "differs"}
    assert wrong.keys() == {"gradient of layers.0.bias", "output after a step"}
    assert wrong["gradient of layers.0.bias"] == 1.0 and "first module" not in str(found)


def test_weights_that_torch_keeps_in_parts_are_not_compared_after_a_step():
    torch.manual_seed(0)
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))).eval()
    x = drawn(2, 4)
    found = torch2mlx.verify(model, torch2mlx.translate(model, x), x, gradients=True)
    verdicts = {o.name: o.verdict for o in found.outputs}
    assert verdicts[""] == verdicts["gradient of layers.0.bias"] == "equal"
    assert verdicts["gradient of layers.0.weight"] == verdicts["after a step"] == "incomparable"
    assert found.verdict == "incomparable"


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_layers_in_training_are_compared_after_a_step(kind):
    torch.manual_seed(0)
    model = kind(3, 4, batch_first=True).train()
    made = torch2mlx.translate(model, drawn(2, 5, 3))
    found = torch2mlx.verify(model, made, drawn(2, 5, 3), gradients=True)
    assert found.ok and any(o.what == "step" for o in found.outputs), str(found)


def test_gradients_need_parameters_and_weights_in_memory():
    model, made = pair(nn.ReLU(), drawn(2, 3))
    with pytest.raises(VerificationError, match="no output depends on a parameter that is trained"):
        torch2mlx.verify(model, made, drawn(2, 3), gradients=True)
    with pytest.raises(VerificationError, match="gradients need the weights in memory"):
        torch2mlx.verify(model, made, drawn(2, 3), gradients=True, weights="x.safetensors")


def test_numbers_that_mlx_draws_otherwise_are_incomparable():
    model, made = pair(nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).train(), drawn(3, 4))
    weight, bias = (made.weights[f"layers.0.{n}"] for n in ("weight", "bias"))

    def noisy(x):
        y = x @ weight.T + bias
        return y * (1 + mx.random.gumbel(y.shape))

    found = torch2mlx.verify(model, lambda_module(noisy), drawn(3, 4))
    assert found.verdict == "incomparable"
    assert "MLX draws with mx.random.gumbel, which torch does not" in str(found)


def test_differences_are_of_the_largest_number_and_nan_is_one():
    class Holds(nn.Module):
        def forward(self, x):
            return x / x.abs().sum(-1, keepdim=True)

    x = torch.tensor([[1.0, 3.0], [0.0, 0.0]])
    model, made = pair(Holds(), x)
    assert torch2mlx.verify(model, made, x).ok
    zeros = lambda_module(lambda x: mx.zeros(x.shape))
    found = torch2mlx.verify(model, zeros, x)
    assert not found.ok and np.isnan(found.difference)


def test_draws_whose_layout_is_open_are_tried_in_each():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Dropout(0.5), nn.Conv2d(4, 4, 1)).train()
    x = drawn(4, 4, 4, 4)
    found = torch2mlx.verify(model, torch2mlx.translate(model, x), x, gradients=True)
    assert found.ok and found.difference < 1e-4, str(found)


def test_complex_outputs_have_gradients_too():
    class Spectrum(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(8, 8)

        def forward(self, x):
            return torch.fft.rfft(self.fc(x))

    torch.manual_seed(0)
    model, made = pair(Spectrum(), drawn(3, 8))
    found = torch2mlx.verify(model, made, drawn(3, 8), gradients=True)
    assert found.ok and sum(o.what == "gradient" for o in found.outputs) == 2


def test_a_model_that_is_called_with_a_dict_in_its_tuple_is_told_where_names_go():
    class Two(nn.Module):
        def forward(self, x, mask=None, more=None):
            return x * mask

    with pytest.raises(torch2mlx.errors.TranslationError, match="go in a dict of their own: write"):
        torch2mlx.translate(Two(), (drawn(2), {"mask": drawn(2)}))


class Rooted(nn.Module):
    """A gradient that is NaN at 0 for one parameter, and not for the other."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.ones(2))

    def forward(self, x):
        return (self.one * x[:, :2]).sqrt() + self.two * x[:, 2:]


def test_a_gradient_of_torch_that_is_nan_is_compared():
    x = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    model, made = pair(Rooted().train(), x)
    kind = type(made.module)

    class Other(kind):
        def __call__(self, x):
            return 0 * self.one + self.two * x[:, 2:] * 1.0

    other = Other()
    other.load_weights(list(made.weights.items()))
    assert torch2mlx.verify(model, other, x).ok
    found = torch2mlx.verify(model, other, x, gradients=True)
    verdicts = {o.name: o.verdict for o in found.outputs if o.what == "gradient"}
    assert verdicts == {"gradient of one": "differs", "gradient of two": "equal"}


class Spread(nn.Module):
    """A softmax that leaves little of the inputs, and what widens its rounding."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 6)

    def forward(self, x):
        even = (self.fc(x) * 1e-3).softmax(-1)
        return (even - even.mean(-1, keepdim=True)) * 1e6


def test_rounding_that_begins_within_a_model_is_no_fault_and_a_fault_there_is_one():
    torch.manual_seed(0)
    model, made = pair(Spread(), drawn(8, 6))
    kind = type(made.module)

    class Moved(kind):
        by = 0.05

        def __call__(self, x):
            return kind.__call__(self, x) + mx.where(mx.arange(6) % 2 == 0, self.by, -self.by)

    moved = Moved()
    moved.update(made.module.parameters())
    assert torch2mlx.verify(model, moved, drawn(8, 6), sizes=[]).verdict == "unstable"
    assert torch2mlx.verify(model, moved, drawn(8, 6), sizes=[], gradients=True).first is None
    moved.by = 0.5
    assert torch2mlx.verify(model, moved, drawn(8, 6), sizes=[]).verdict == "differs"
