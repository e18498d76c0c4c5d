"""State dicts inside what people save."""

import numpy as np
import pytest

from tests.support import need
from torch2mlx import convert, load_converted
from torch2mlx.errors import AmbiguousCheckpointError, ConversionError, KeyCollisionError

STATE = {"a.weight": np.ones((2, 3), np.float32), "a.bias": np.zeros(2, np.float32)}
OTHER = {"a.weight": np.full((2, 3), 7, np.float32), "a.bias": np.zeros(2, np.float32)}
OPTIMIZER = {"state": {0: {"exp_avg": np.ones(3)}}, "param_groups": [{"lr": 0.1}]}


def converted(source, path, **options):
    convert(source, path, **options)
    return load_converted(path, framework="numpy")


@pytest.mark.parametrize(
    "wrapped",
    [
        STATE,
        {"state_dict": STATE},
        {"model": STATE, "optimizer": OPTIMIZER, "epoch": 3},
        {"checkpoint": {"model": STATE}, "step": np.int64(7)},
        {"model": STATE, "rng_state": np.zeros(10, np.uint8), "scheduler": {"last_epoch": 1}},
    ],
)
def test_the_only_state_dict_is_found(wrapped, tmp_path):
    found = converted(wrapped, tmp_path / "x.safetensors")
    assert list(found) == list(STATE)


def test_several_are_listed_and_picked_by_key(tmp_path):
    wrapped = {"model": STATE, "ema": OTHER, "optimizer": OPTIMIZER}
    with pytest.raises(AmbiguousCheckpointError, match="key='model', key='ema'") as error:
        convert(wrapped, tmp_path / "x.safetensors")
    assert error.value.choices == ("model", "ema")
    found = converted(wrapped, tmp_path / "x.safetensors", key="ema")
    assert found["a.weight"][0, 0] == 7
    with pytest.raises(AmbiguousCheckpointError, match="'model', 'ema'"):
        convert(wrapped, tmp_path / "x.safetensors", key="nothing")


@pytest.mark.parametrize("number", [0, 7])
def test_state_dicts_under_numbers_are_listed_beside_named_ones(number, tmp_path):
    wrapped = {number: STATE, "later": {"model": OTHER}}
    with pytest.raises(AmbiguousCheckpointError) as error:
        convert(wrapped, tmp_path / "x.safetensors")
    assert error.value.choices == (str(number), "later.model")
    found = converted(wrapped, tmp_path / "x.safetensors", key=str(number))
    assert list(found) == list(STATE)


@pytest.mark.parametrize("empty", [{}, {"epoch": 3}, {"optimizer": OPTIMIZER}, {"a": {"b": {}}}])
def test_no_state_dict_is_an_error(empty, tmp_path):
    with pytest.raises(AmbiguousCheckpointError, match="no state dict"):
        convert(empty, tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("source", [None, 3, [1, 2], np.zeros(3)])
def test_what_is_no_source_is_refused(source, tmp_path):
    with pytest.raises(ConversionError, match=r"pass an nn\.Module"):
        convert(source, tmp_path / "x.safetensors")


SCORE = np.float32(0.5)
CALLBACKS = {
    "ModelCheckpoint{'monitor': 'loss'}": {
        "monitor": "loss",
        "best_model_score": SCORE,
        "best_k_models": {"/tmp/epoch=1.ckpt": SCORE, "/tmp/epoch=2.ckpt": SCORE},
        "kth_value": SCORE,
        "dirpath": "/tmp",
    },
    "EarlyStopping": {"wait_count": 0, "best_score": SCORE, "patience": 3},
}
TRAINED = {
    "epoch": 3,
    "state_dict": STATE,
    "callbacks": CALLBACKS,
    "optimizer_states": [OPTIMIZER],
    "lr_schedulers": [{"base_lrs": [0.1], "best": SCORE, "_last_lr": [SCORE]}],
    "loops": {"fit_loop": {"state_dict": {}, "progress": {"total": {"ready": 4}}}},
    "hyper_parameters": {"width": 3, "class_weights": np.ones(4, np.float32), "name": "x"},
    "scaler": {"scale": SCORE, "growth": 2.0},
    "rng": {"torch": np.zeros(5056, np.uint8), "numpy": ("MT19937", np.zeros(624, np.uint32))},
    "confusion": {"matrix": np.zeros(9, np.int64)},
}


def test_scores_counters_and_random_states_are_no_state_dicts(tmp_path):
    convert(TRAINED, tmp_path / "x.safetensors")
    found = load_converted(tmp_path / "x.safetensors", framework="numpy")
    assert list(found) == list(STATE)


def test_vectors_that_are_left_alone_are_told(tmp_path):
    report = convert(TRAINED, tmp_path / "x.safetensors")
    assert any("'hyper_parameters' has tensors too" in note for note in report.notes)


def test_a_second_set_of_weights_is_a_question(tmp_path):
    averaged = {**TRAINED, "ema": {"of": {"weights": OTHER}}}
    with pytest.raises(AmbiguousCheckpointError) as error:
        convert(averaged, tmp_path / "x.safetensors")
    assert error.value.choices == ("state_dict", "ema.of.weights")
    with pytest.raises(AmbiguousCheckpointError):  # vectors alone can be a layer's
        convert({"net": STATE, "norm": {"weight": np.ones(3, np.float32)}}, tmp_path / "x")


def test_tensors_without_dimensions_are_weights_where_there_are_no_others(tmp_path):
    assert list(converted({"scale": SCORE}, tmp_path / "a.safetensors")) == ["scale"]
    state = {"epoch": 3, "scale": {"steps": np.arange(3)}}
    assert list(converted(state, tmp_path / "b.safetensors")) == ["steps"]


@pytest.mark.parametrize("depth", [17, 60, 120])
def test_a_state_dict_may_lie_deep(depth, tmp_path):
    wrapped = STATE
    for _ in range(depth):
        wrapped = {"a": wrapped}
    found = converted(wrapped, tmp_path / "x.safetensors")
    assert list(found) == list(STATE)


def test_lists_and_numbers_lead_to_a_state_dict_where_nothing_else_does(tmp_path):
    assert list(converted({"models": [STATE]}, tmp_path / "a.safetensors")) == list(STATE)
    assert list(converted({0: STATE}, tmp_path / "b.safetensors")) == list(STATE)
    with pytest.raises(AmbiguousCheckpointError, match="key='0', key='1'"):
        convert({0: STATE, 1: OTHER}, tmp_path / "x.safetensors")
    found = converted({0: STATE, 1: OTHER}, tmp_path / "c.safetensors", key="1")
    assert found["a.weight"][0, 0] == 7


def test_a_key_names_any_container_with_tensors_even_through_dots(tmp_path):
    wrapped = {"a.b": {"c": {"model": STATE, "ema": OTHER}}, "a": {"b": 1}}
    found = converted(wrapped, tmp_path / "a.safetensors", key="a.b.c.ema")
    assert found["a.weight"][0, 0] == 7
    found = converted(wrapped, tmp_path / "b.safetensors", key="a.b.c")
    assert list(found) == ["model.a.weight", "model.a.bias", "ema.a.weight", "ema.a.bias"]
    for key in ("a", "a.b.c.x", "", "a.b."):
        with pytest.raises(AmbiguousCheckpointError, match="no state dict at"):
            convert(wrapped, tmp_path / "x.safetensors", key=key)


def test_containers_of_tensors_in_a_state_dict_get_dotted_keys(tmp_path):
    one, two = np.ones((2, 2), np.float32), np.zeros(3, np.float32)
    state = {
        "w": one,
        "stack": [one, [two, one]],
        "pair": (two, None),
        "block": {"scale": two, 3: one, "name": "x"},
        7: two,
        "plain": [1, 2],
        "optimizer": OPTIMIZER,
    }
    report = convert(state, tmp_path / "x.safetensors", key=".")
    found = load_converted(tmp_path / "x.safetensors", framework="numpy")
    keys = ["w", "stack.0", "stack.1.0", "stack.1.1", "pair.0", "block.scale", "block.3", "7"]
    assert sorted(found) == sorted(keys)
    np.testing.assert_array_equal(found["stack.1.0"], two)
    assert any("'stack' is a list of tensors" in note for note in report.notes)
    assert any("numbers are written as text" in note for note in report.notes)


@pytest.mark.parametrize(
    ("state", "error", "match"),
    [
        ({"a": [np.ones(2)], "a.0": np.ones(2)}, KeyCollisionError, "'a.0'"),
        ({"0": np.ones((2, 2)), 0: np.ones(2)}, KeyCollisionError, "'0'"),
        ({"w": np.ones((2, 2)), (1, 2): np.ones(2)}, ConversionError, r"\(1, 2\) is no text"),
        ({"w": np.ones((2, 2)), True: np.ones(2)}, ConversionError, "True is no text"),
        ({"w": np.ones((2, 2)), "x": [{None: np.ones(2)}]}, ConversionError, "None in 'x.0'"),
        ({"w": np.ones((2, 2)), "k" * 600: {"k" * 600: np.ones(2)}}, ConversionError, "longer"),
    ],
)
def test_keys_that_cannot_stand_are_refused(state, error, match, tmp_path):
    with pytest.raises(error, match=match):
        convert(state, tmp_path / "x.safetensors", key=".")


def bomb(leaf, kind, levels=40, width=6):
    """Containers that share their children: width ** levels paths lead to the leaf."""
    for _ in range(levels):
        leaf = {f"k{i}": leaf for i in range(width)} if kind is dict else kind([leaf] * width)
    return leaf


@pytest.mark.parametrize("kind", [dict, list, tuple])
def test_containers_that_share_children_are_looked_at_once(kind, tmp_path):
    weights = {"w": np.ones((2, 2), np.float32)}
    found = converted({"x": bomb(weights, kind)}, tmp_path / "a.safetensors")
    assert list(found) == ["w"]
    tensor = {**weights, "x": bomb(np.ones(2), kind)}
    with pytest.raises(ConversionError, match="save it once"):
        convert(tensor, tmp_path / "b.safetensors", key=".")
    report = convert({**weights, "x": bomb(1, kind)}, tmp_path / "c.safetensors")
    assert any("'x' is no tensor" in note for note in report.notes)


def test_values_that_would_be_written_too_large_are_not_kept(tmp_path):
    word = ["x" * 1000] * 1000
    state = {"w": np.ones((2, 2)), **{f"v{i}": word for i in range(40)}}
    report = convert(state, tmp_path / "x.safetensors")
    lost = [note for note in report.notes if "is no tensor" in note]
    assert 0 < len(lost) < 40 and (tmp_path / "x.safetensors").stat().st_size < 20 << 20


AVERAGED = {
    "callbacks": {"EMA": {"ema_weights": OTHER}},
    "optimizer_states": [{"state": {}, "param_groups": []}],
    "optimizer": {"exp_avg": OTHER, "step": 3},
    "last_optimizer_state": {"moments": {"first": OTHER}},
    "lr_schedulers": {"best": OTHER},
    "loops": {"fit_loop": {"kept": OTHER}},
    "optim": OTHER,
}


@pytest.mark.parametrize("name", AVERAGED)
def test_what_a_trainer_keeps_for_itself_is_not_the_model(name, tmp_path):
    source = {"state_dict": STATE, name: AVERAGED[name], "epoch": 3}
    found = converted(source, tmp_path / "x.safetensors")
    np.testing.assert_array_equal(found["a.weight"], STATE["a.weight"])


def test_what_a_trainer_keeps_is_told_and_can_be_chosen(tmp_path):
    source = {"state_dict": STATE, "callbacks": {"EMA": {"ema_weights": OTHER}}}
    report = convert(source, tmp_path / "x.safetensors")
    assert any("callbacks.EMA.ema_weights" in note for note in report.notes)
    key = "callbacks.EMA.ema_weights"
    found = converted(source, tmp_path / "y.safetensors", key=key)
    np.testing.assert_array_equal(found["a.weight"], OTHER["a.weight"])
    found = converted({"callbacks": {"weights": OTHER}}, tmp_path / "z.safetensors")
    np.testing.assert_array_equal(found["a.weight"], OTHER["a.weight"])
    source = {"model": STATE, "optimizer": {"moments": {"a": np.ones((2, 3))}}}
    report = convert(source, tmp_path / "m.safetensors")
    assert any("'optimizer.moments' has tensors too" in note for note in report.notes)
    with pytest.raises(AmbiguousCheckpointError):  # OPT is a model
        convert({"opt": STATE, "vit": OTHER}, tmp_path / "n.safetensors")


def test_a_saved_list_of_tensors_is_named_by_its_places(tmp_path):
    (torch,) = need("torch")
    torch.save([torch.ones(2), "text", torch.zeros(3)], tmp_path / "x.pt")
    found = converted(tmp_path / "x.pt", tmp_path / "x.safetensors")
    assert found.keys() == {"0", "2"}
    np.testing.assert_array_equal(found["2"], np.zeros(3))


def test_tensors_without_usable_keys_are_called_that(tmp_path):
    state = {True: np.ones(2, np.float32), None: np.ones(2, np.float32)}
    with pytest.raises(AmbiguousCheckpointError, match="neither text nor numbers"):
        convert(state, tmp_path / "x.safetensors")
