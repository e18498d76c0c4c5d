"""Random networks, translated and compared at three sizes: `python -m tests.zoo.random_nets`.

    python -m tests.zoo.random_nets [--first N] [--count N] [--show SEED]

tests/zoo/random_source.py writes the networks. One that torch itself does not run or export is no
case. Values and gradients are compared at the size of the translation and at two others. Exit
status 1 when one differs, ends in another error than a refusal, or is refused because a check of
the translation itself found a difference.
"""

from __future__ import annotations

import sys
from typing import Any

from tests import seeded
from tests.seeded import BROKEN, REFUSED, RIGHT, UNRUN, UNSTABLE, WRONG
from tests.zoo import random_source

SIZES = {
    random_source.SEQUENCE: ((2, 5, 6), (3, 8, 6), (1, 4, 6)),
    random_source.IMAGE: ((2, 6, 5, 7), (3, 6, 8, 4), (1, 6, 6, 9)),
}
SECONDS = 120


def _net(seed: int) -> tuple[Any, str]:
    import torch

    text, kind = random_source.source(seed)
    module = type(sys)(f"net_{seed}")
    sys.modules[module.__name__] = module
    exec(compile(text, f"net_{seed}.py", "exec"), vars(module))
    torch.manual_seed(seed)
    net = vars(module)["Net"]()
    with torch.no_grad():
        for value in net.state_dict().values():
            if value.is_floating_point():  # no layer stands at its first, plain weights
                value.add_(torch.rand_like(value) * 0.3)
    return net.eval(), kind


def _verdict(seed: int) -> tuple[str, str]:
    import torch

    from torch2mlx import errors, translate, verify

    try:
        net, kind = _net(seed)
        cases = [(torch.randn(size),) for size in SIZES[kind]]
        with torch.no_grad():
            for args in cases:
                net(*args)
    except Exception as problem:
        return UNRUN, f"{type(problem).__name__}: {problem}"
    try:
        made = translate(net, cases[0])
        for args in cases:
            found = verify(net, made, args, gradients=True)
            # "incomparable" is a step of biases that are one array here; gradients were compared
            seen = {output.verdict for output in found.outputs}
            if found.verdict == "differs" or "unstable" in seen:
                return (WRONG if found.verdict == "differs" else UNSTABLE), str(found)
    except errors.Torch2MLXError as problem:
        return REFUSED, f"{type(problem).__name__}: {problem}"
    except Exception as problem:
        return BROKEN, f"{type(problem).__name__}: {problem}"
    return RIGHT, ""


def main() -> int:
    """Runs what the command line asks for."""
    import torch.export

    import torch2mlx.translator
    import torch2mlx.verifier

    assert torch.export and torch2mlx.translator and torch2mlx.verifier  # before processes fork
    text = lambda seed: random_source.source(seed)[0]
    return seeded.main("random nets", __doc__ or "", text, _verdict, SECONDS)


if __name__ == "__main__":
    sys.exit(main())
