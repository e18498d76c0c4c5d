"""Random training programs: the same seed gives the same text, and programs are judged."""

from __future__ import annotations

import ast
from dataclasses import replace

import pytest

from tests.support import need

need("torch")
need("mlx")
need("libcst")

from tests.porting import random_programs
from tests.porting.random_source import source


def test_a_seed_gives_one_text_and_seeds_differ() -> None:
    texts = [source(seed) for seed in range(60)]
    assert texts == [source(seed) for seed in range(60)] and len(set(texts)) == 60
    for text in texts:
        ast.parse(text)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", [2, 21, 66])
def test_programs_train_as_torch_trains_them(seed: int) -> None:
    assert random_programs._verdict(seed) == (random_programs.RIGHT, "")


@pytest.mark.filterwarnings("ignore")
def test_another_number_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch2mlx

    ported = torch2mlx.port(source(2))
    wrong = ported.source.replace("return noted", "return [x + 1 for x in noted]")
    assert wrong != ported.source
    monkeypatch.setattr(torch2mlx, "port", lambda text: replace(ported, source=wrong))
    verdict, why = random_programs._verdict(2)
    assert verdict == random_programs.WRONG and why.startswith("number 0 of ")
