"""The ledgers of operators and models are what the code does, and do not get worse."""

import functools
import json

import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

from tools.make_operators import LEDGER, PAGE, entries, page

#: A sample that runs every time: operators of all families.
SAMPLE = (
    "add",
    "sub",
    "mul",
    "div",
    "pow",
    "clamp",
    "where",
    "cat",
    "split",
    "permute",
    "index_put",
    "scatter_add",
    "gather",
    "sort",
    "topk",
    "cumsum",
    "var",
    "mean",
    "amax",
    "nn.functional.conv2d",
    "nn.functional.interpolate",
    "nn.functional.grid_sample",
    "nn.functional.layer_norm",
    "nn.functional.cross_entropy",
    "matmul",
    "einsum",
    "linalg.solve",
    "fft.rfft",
    "masked_fill",
    "unfold",
    "roll",
    "diagonal",
    "nn.functional.gelu",
    "nn.functional.max_pool2d",
    "bucketize",
)


def test_the_page_is_that_of_the_ledger():
    assert PAGE.read_text() == page(entries()), "run: python -m tools.make_operators"


def test_nothing_in_the_ledger_is_wrong_and_most_passes():
    status = [entry.status for entry in entries()]
    assert "wrong" not in status
    assert status.count("pass") >= 350
    assert not [(e.name, e.gradient_wrong) for e in entries() if e.gradient_wrong]
    assert sum(bool(entry.gradients) for entry in entries()) >= 350


@functools.cache
def known():
    """The ledger's entries by name."""
    return {entry["name"]: entry for entry in json.loads(LEDGER.read_text())}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample_of_operators_is_no_worse(name):
    need("expecttest")
    from tests.export.ledger import operators, run

    entry = run(name, operators()[name], 1)
    assert not entry.wrong
    assert not entry.gradient_wrong
    for dtype in known()[name]["passed"]:
        assert dtype in entry.passed or dtype in entry.expected, dtype


@pytest.mark.slow
@pytest.mark.parametrize("name", ("bert", "resnet", "mixtral", "whisper"))
def test_a_sample_of_architectures_runs_without_torch(name):
    need("transformers")
    from tests.zoo.run import compare, passed

    row = compare(name)
    assert passed(row), row


def test_the_page_of_models_counts_what_it_lists():
    from tests.zoo.run import DOCS, agreed

    text = DOCS.read_text()
    good, listed = len(agreed(text)), text.count("\n| `")
    assert f"{good} of {listed} agree" in text.replace("\n", " ")
    assert good >= 250


@pytest.mark.slow
def test_the_gallery_is_what_translate_prints():
    from tools.make_gallery import GALLERY, MODELS
    from torch2mlx import translate

    for name in ("unet", "lstm_tagger"):
        model, args, kwargs = MODELS[name]()
        text = (GALLERY / f"{name}.py").read_text()
        assert translate(model, args, kwargs).source == text, "run: python -m tools.make_gallery"


@pytest.mark.slow
@pytest.mark.parametrize("name", ("bert", "llama", "t5"))
def test_padding_masks_and_other_sizes(name):
    need("transformers")
    import torch

    from tests.zoo.build import working
    from torch2mlx import translate, verify

    model, given = working(name)
    mask = torch.ones_like(given["input_ids"])
    mask[1, 6:] = 0
    translation = translate(model, (), {**given, "attention_mask": mask})
    ids = torch.randint(3, 100, (3, 12), generator=torch.Generator().manual_seed(2))
    mask = (torch.arange(12) < torch.tensor([[9], [12], [4]])).long()
    other = {**given, "input_ids": ids, "attention_mask": mask}
    if "decoder_input_ids" in given:
        other["decoder_input_ids"] = ids[:, :7]
    found = verify(model, translation, (), other)
    assert found.ok, str(found)
