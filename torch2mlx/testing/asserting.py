"""`assert_translates`, `mlx_twin`, `assert_converts`: what a test of a model's twin asserts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch2mlx.testing.tables import lost_table, outputs_table

if TYPE_CHECKING:
    from torch2mlx.translator import Translation


def assert_translates(
    model: Any,
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    tolerance: float | None = None,
    sizes: Any = None,
    gradients: bool = False,
) -> Translation:
    """Asserts that a PyTorch model translates, and that the result computes the same.

    `args` and `kwargs` are example inputs, as `translate` takes them. `tolerance` is the largest
    max|a - b| / max(1, max|a|) of every output, by its dtype if None (see `verify`). `sizes` and
    `gradients` are those of `verify`: other sizes of the inputs, and gradients compared too.

    Gives the Translation, for further assertions. Raises AssertionError with a table of all outputs
    (shape, dtype, difference, allowed) and the first module that differs, or with the reason why
    there is no translation; MissingLibraryError where torch or mlx is not installed.
    """
    from torch2mlx.errors import TranslationError, VerificationError
    from torch2mlx.translator import translate
    from torch2mlx.verifier import verify

    name = type(model).__name__
    try:
        made = translate(model, args, kwargs, check=False)
        found = verify(model, made, args, kwargs, tolerance, sizes=sizes, gradients=gradients)
    except TranslationError as error:
        raise AssertionError(f"{name} has no translation: {error}") from error
    except VerificationError as error:
        raise AssertionError(f"{name} cannot be compared with its translation: {error}") from error
    if not found.ok:
        raise AssertionError(outputs_table(name, found))
    return made


def mlx_twin(model: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
    """The live mlx.nn.Module that a PyTorch model translates to, with its weights.

    It takes the model's arguments by name and answers in the same structure; it is compared with
    the model on the example inputs before it is given. Raises what `translate` raises.
    """
    from torch2mlx.translator import translate

    return translate(model, args, kwargs).module


def assert_converts(model: Any, out: str | Path) -> dict[str, Any]:
    """Asserts that a model's weights convert, and come back from the file bit for bit.

    `out`: a .safetensors file to write, or a folder. Gives what `load_converted` reads from it:
    MLX arrays by key. Raises AssertionError that names every tensor that is lost or changed,
    MissingLibraryError where torch or mlx is not installed, and what `convert` raises.
    """
    from torch2mlx.common.optional import need
    from torch2mlx.converter import convert, load_converted
    from torch2mlx.reverter import revert

    need("assert_converts", "torch", "mlx")
    convert(model, out, on_unmapped="ignore")
    wanted, back = dict(model.state_dict()), revert(out)
    lost = [(key, value, back.get(key)) for key, value in wanted.items()]
    wrong = [row for row in lost if row[2] is None or not _same(row[1], row[2])]
    more = [key for key in back if key not in wanted]
    if wrong or more:
        raise AssertionError(lost_table(type(model).__name__, wrong, more))
    return dict(load_converted(out))


def _same(a: Any, b: Any) -> bool:
    """Whether two tensors agree in dtype, shape and every bit."""
    import torch

    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    a, b = (t.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for t in (a, b))
    return bool(torch.equal(a, b))
