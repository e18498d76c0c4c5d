"""examples/trm: our own TinyRecursiveModels, ported by our own tools, trained and resumed."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support import need
from tests.trm import public

need("torch", "mlx.core", "libcst")

import mlx.core as mx
import torch

import torch2mlx
from examples.trm import checkpoints, logs
from examples.trm.build import build_arc, build_maze, build_sudoku
from examples.trm.cli import main
from examples.trm.config import ConfigError, from_mapping
from examples.trm.data import DataError, PuzzleSet
from examples.trm.pipeline import parity
from examples.trm.puzzles import WALL, WAY, maze, solutions, sudoku
from examples.trm.run import train
from torch2mlx.errors import PortError

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "trm"
SMALL = {"hidden_size": 16, "num_heads": 2, "L_layers": 1, "halt_max_steps": 2}
SHORT = {"steps": 8, "batch_size": 8, "log_every": 1, "evaluate_every": 4, "checkpoint_every": 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("sudoku")
    build_sudoku(root, side=4, train=40, test=10)
    return root


@pytest.mark.parametrize("name", ["__init__.py", "layers.py", "losses.py", "model.py"])
def test_the_port_is_what_our_tools_make(name):
    """in_mlx has no hand's edit: it is the port of in_torch, and nothing was left."""
    result = torch2mlx.port(EXAMPLE / "in_torch" / name)
    assert result.ok, result.unsupported
    assert (EXAMPLE / "in_mlx" / name).read_text() == result.source, (
        "run: python -m torch2mlx port examples/trm/in_torch -o examples/trm/in_mlx"
    )


@pytest.mark.parametrize(
    "more",
    [
        {"pos_encodings": "rope"},
        {"pos_encodings": "learned"},
        {"mlp_t": True},
        {"puzzle_emb_ndim": 16, "puzzle_emb_len": 2},
    ],
    ids=lambda more: str(next(iter(more.values()))),
)
def test_the_port_agrees_with_torch(data, more):
    config = from_mapping({"model": {**SMALL, **more}, "train": {"batch_size": 8}})
    gaps = parity(config, PuzzleSet(data, "train"))
    assert gaps["loss"] <= 5e-6
    assert gaps["gradients"] <= 2e-4


@pytest.mark.skipif(
    public.source() is None,
    reason="the public TinyRecursiveModels source is not here: set TRM_SOURCE to a checkout",
)
@pytest.mark.parametrize("more", [{}, {"pos_encodings": "learned"}, {"mlp_t": True}])
def test_public_checkpoints_load_and_mean_the_same(more):
    """Our own torch model beside the public one: same names, same outputs, same loss."""
    from examples.trm.in_torch.losses import LossHead
    from examples.trm.in_torch.model import ModelConfig, RecursiveModel

    need("einops", "pydantic")
    options = {**public.TINY, **more}
    found = public.imported(public.source(), "trm")
    torch.manual_seed(0)
    theirs = found.losses.ACTLossHead(found.whole(options), "stablemax_cross_entropy").eval()
    with torch.no_grad():
        theirs.model.inner.puzzle_emb.weights.normal_()
        theirs.model.inner.q_head.weight.normal_(0, 0.5)
    fields = {f.name for f in dataclasses.fields(ModelConfig)}
    config = ModelConfig(**{k: v for k, v in options.items() if k in fields})
    ours = LossHead(RecursiveModel(config)).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    batch = public.in_torch(public.batch())
    first, second = theirs.initial_carry(batch), ours.model.initial_carry(batch)
    with torch.no_grad():
        for _ in range(4):
            first, loss, metrics, outputs, _ = theirs(
                return_keys=("preds",), carry=first, batch=batch
            )
            second, own_loss, own_metrics, predicted = ours(second, batch)
            torch.testing.assert_close(own_loss, loss, rtol=1e-5, atol=1e-5)
            assert (predicted == outputs["preds"]).float().mean() > 0.95
            for name, value in metrics.items():
                torch.testing.assert_close(
                    own_metrics[name].float(), value.float(), rtol=1e-4, atol=1e-4
                )


def test_the_package_cannot_hide_mlx(tmp_path):
    """No folder here has the name of a library; with ours first on the path, MLX is found."""
    folders = {p.name for p in EXAMPLE.rglob("*") if p.is_dir()}
    assert not folders & {"mlx", "torch", "numpy"}
    code = "import sys; sys.path.insert(0, sys.argv[1]); import mlx.core as mx; print(mx.array(1))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(EXAMPLE)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.py").write_text("import torch\n")
    with pytest.raises(PortError, match="hides the library"):
        torch2mlx.port_folder(tmp_path / "source", tmp_path / "mlx")


def test_sudokus_have_one_solution():
    draw = np.random.default_rng(0)
    for side, holes in ((4, 10), (9, 40)):
        puzzle, answer = sudoku(side, holes, draw)
        assert solutions(puzzle) == 1
        assert ((puzzle == answer) | (puzzle == 0)).all()
        box = round(side**0.5)
        boxes = answer.reshape(box, box, box, box).swapaxes(1, 2).reshape(side, side)
        for lines in (answer, answer.T, boxes):
            assert (np.sort(lines) == np.arange(1, side + 1)).all()
    assert solutions(np.zeros((4, 4), int)) == 2  # as many as were asked for


def test_mazes_have_a_way():
    grid, answer = maze(9, np.random.default_rng(1))
    changed = grid != answer
    assert (answer[changed] == WAY).all() and not (grid[changed] == WALL).any()
    ends = [tuple(p) for p in np.argwhere((grid == 3) | (grid == 4))]
    walked = {tuple(p) for p in np.argwhere(changed)}
    place, goal = ends
    while place != goal:
        i, j = place
        near = [p for p in ((i, j + 1), (i + 1, j), (i, j - 1), (i - 1, j)) if p in walked | {goal}]
        assert len(near) == 1
        (place,) = near
        walked.discard(place)


def test_no_puzzle_is_in_both_splits(data):
    shown, held = (PuzzleSet(data, split) for split in ("train", "test"))
    seen = {b.tobytes() for batch, _ in held.testing(1) for b in batch["inputs"]}
    assert len(seen) == 10
    for batch in shown.training(8, 0, 1):
        assert not seen & {b.tobytes() for b in batch["inputs"]}


@pytest.mark.skipif(
    public.source() is None,
    reason="the public TinyRecursiveModels source is not here: set TRM_SOURCE to a checkout",
)
def test_the_public_loader_reads_our_sets_in_our_order(data):
    need("pydantic")
    import types

    before = set(sys.modules)
    sys.modules["argdantic"] = types.ModuleType("argdantic")
    sys.modules["argdantic"].ArgParser = None
    sys.path.insert(0, str(public.source()))
    try:
        import puzzle_dataset
    finally:
        sys.path.remove(str(public.source()))
        for name in set(sys.modules) - before:
            if name.split(".")[0] in ("argdantic", "models", "dataset", "puzzle_dataset"):
                del sys.modules[name]
    options = {"seed": 3, "dataset_paths": [str(data)], "global_batch_size": 8}
    options |= {"rank": 0, "num_replicas": 1, "epochs_per_iter": 2}
    config = puzzle_dataset.PuzzleDatasetConfig(**options, test_set_mode=False)
    theirs = list(puzzle_dataset.PuzzleDataset(config, "train"))
    ours = list(PuzzleSet(data, "train").training(8, 3, 1, epochs=2))
    assert len(ours) == len(theirs) == 10
    for batch, (_, expected, _) in zip(ours, theirs, strict=True):
        for name, value in expected.items():
            np.testing.assert_array_equal(batch[name], value)
    config = puzzle_dataset.PuzzleDatasetConfig(**options, test_set_mode=True)
    theirs = list(puzzle_dataset.PuzzleDataset(config, "test"))
    ours = list(PuzzleSet(data, "test").testing(8))
    for (batch, count), (_, expected, size) in zip(ours, theirs, strict=True):
        assert count == size
        for name, value in expected.items():
            np.testing.assert_array_equal(batch[name], value)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("rows", [0, 16])
def test_a_resumed_run_goes_on_as_the_whole_one(data, tmp_path, compiled, rows):
    """Eight steps at once, and four, stopped, and four: the same losses, to the last digit."""
    model = {**SMALL, "puzzle_emb_ndim": rows, "halt_exploration_prob": 0.5}
    whole = from_mapping({"model": model, "train": {**SHORT, "compile": compiled}})
    train(data, tmp_path / "whole", whole, quiet=True)
    part = dataclasses.replace(whole, train=dataclasses.replace(whole.train))
    stopped = Stopped(data, tmp_path / "parts", part)
    stopped.run(4)
    mx.random.seed(99)  # whatever happens between
    train(data, tmp_path / "parts", whole, resume=True, quiet=True)
    expected = logs.records(tmp_path / "whole", "train")
    found = logs.records(tmp_path / "parts", "train")
    drop = lambda record: {k: v for k, v in record.items() if k != "seconds"}
    assert [drop(r) for r in found] == [drop(r) for r in expected]
    one, other = (checkpoints.read(tmp_path / n)[0]["weights"] for n in ("whole", "parts"))
    for name, value in one.items():
        assert mx.array_equal(value, other[name]).item(), name


class Stopped:
    """A run that ends early, as by an interrupt, after its checkpoint."""

    def __init__(self, data, out, config):
        self.data, self.out, self.config = data, out, config

    def run(self, steps):
        from examples.trm import run

        kept = run.Trainer.train_step

        def until(trainer, batch):
            if trainer.step == steps:
                raise KeyboardInterrupt
            return kept(trainer, batch)

        run.Trainer.train_step = until
        try:
            with pytest.raises(KeyboardInterrupt):
                train(self.data, self.out, self.config, quiet=True)
        finally:
            run.Trainer.train_step = kept


def test_a_finished_run_resumed_has_the_same_results(data, tmp_path):
    config = from_mapping({"model": SMALL, "train": {**SHORT, "steps": 4}})
    results = train(data, tmp_path, config, quiet=True)
    assert results["exact_accuracy"] <= results["accuracy"]
    assert train(data, tmp_path, config, resume=True, quiet=True) == results


def test_compiled_steps_are_the_plain_ones(data, tmp_path):
    results = []
    for compiled in (False, True):
        config = from_mapping({"model": SMALL, "train": {**SHORT, "compile": compiled}})
        train(data, tmp_path / str(compiled), config, quiet=True)
        results.append([r["lm_loss"] for r in logs.records(tmp_path / str(compiled), "train")])
    np.testing.assert_allclose(*results, rtol=1e-4)


def told(capsys, *arguments):
    """The code and the one line of a command that fails."""
    code = main([str(a) for a in arguments])
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return code, lines[0]


def test_what_is_wrong_is_said_in_one_line(data, tmp_path, capsys):
    run = ("train", "--out", tmp_path / "out", "--data")
    assert told(capsys, *run, tmp_path / "none") == (
        2,
        f"trm: {tmp_path}/none/train/dataset.json: no such file; build the set first: trm build",
    )
    (tmp_path / "c.json").write_text(json.dumps({"model": {"hiden_size": 3}}))
    code, line = told(capsys, *run, data, "--config", tmp_path / "c.json")
    assert code == 2 and "model.hiden_size: there is no such setting" in line
    (tmp_path / "c.json").write_text('{"model": {"hidden_size": "big"}}')
    assert "'big' is no int" in told(capsys, *run, data, "--config", tmp_path / "c.json")[1]
    (tmp_path / "c.json").write_text('{"model":\n {')
    assert "c.json:2: no JSON" in told(capsys, *run, data, "--config", tmp_path / "c.json")[1]
    assert (
        "no such file; train first"
        in told(capsys, "evaluate", "--data", data, "--run", tmp_path / "out")[1]
    )
    assert (
        "no .json files"
        in told(capsys, "build", "arc", "--out", tmp_path / "arc", "--tasks", tmp_path / "out")[1]
    )


@pytest.mark.parametrize("name", ["inputs", "group_indices"])
def test_broken_sets_are_told(data, tmp_path, name):
    import shutil

    shutil.copytree(data / "train", tmp_path / "train")
    place = tmp_path / "train" / f"all__{name}.npy"
    np.save(place, np.load(place)[:-1])
    with pytest.raises(DataError, match=r"inputs|ends at"):
        PuzzleSet(tmp_path, "train")
    place.write_bytes(b"not an array")
    with pytest.raises(DataError, match=f"all__{name}"):
        PuzzleSet(tmp_path, "train")
    place.unlink()
    with pytest.raises(DataError, match="no such file"):
        PuzzleSet(tmp_path, "train")


def test_other_settings_do_not_resume(data, tmp_path):
    config = from_mapping({"model": SMALL, "train": {**SHORT, "steps": 4}})
    train(data, tmp_path, config, quiet=True)
    other = from_mapping({"model": {**SMALL, "hidden_size": 32}, "train": SHORT})
    with pytest.raises(ConfigError, match="other settings"):
        train(data, tmp_path, other, resume=True, quiet=True)


def test_mazes_and_arc_tasks_can_be_trained_on(tmp_path):
    build_maze(tmp_path / "maze", side=7, train=16, test=4)
    pairs = [{"input": [[0, 1], [2, 3]], "output": [[3]]} for _ in range(8)]
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "a.json").write_text(json.dumps({"train": pairs, "test": pairs[:2]}))
    told = build_arc(tmp_path / "arc", tmp_path / "tasks")
    assert (told.seq_len, told.vocab_size) == (900, 12)
    batch, _ = next(PuzzleSet(tmp_path / "arc", "test").testing(2))
    grid = batch["inputs"][0].reshape(30, 30)
    assert grid[:3, :3].tolist() == [[2, 3, 1], [4, 5, 1], [1, 1, 0]]
    config = from_mapping({"model": SMALL, "train": {**SHORT, "steps": 2}})
    results = train(tmp_path / "maze", tmp_path / "out", config, quiet=True)
    assert 0 <= results["accuracy"] <= 1
