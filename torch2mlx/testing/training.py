"""`assert_same_training`: what a test of a ported training script asserts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch2mlx.lockstep.result import TrainingVerification

#: Optimizer updates that are compared, and the seconds that each script may take for them.
STEPS = 20
SECONDS = 600.0


def assert_same_training(
    torch_script: str | os.PathLike[str],
    mlx_script: str | os.PathLike[str] | None = None,
    *,
    steps: int = STEPS,
    args: Sequence[str] = (),
    mlx_args: Sequence[str] | None = None,
    timeout: float = SECONDS,
) -> TrainingVerification:
    """Asserts that a PyTorch training script and its MLX script train alike.

    Both run, with this user's rights, each in a process of its own, for `steps` optimizer updates
    from the same weights, batches and random draws; every loss, gradient, optimizer slot, parameter
    and buffer is compared (see `verify_training`). Without `mlx_script` the script is ported first,
    and its port is compared. `args` are the arguments of both, `mlx_args` those of the MLX script
    where it takes others; `timeout` is in seconds, for each run.

    Returns the TrainingVerification. Raises AssertionError with a row for each update and the first
    cause where they part, or with the reason why they cannot be compared; MissingLibraryError where
    torch, mlx or, for a port, libcst is not installed.
    """
    from torch2mlx.common.optional import need
    from torch2mlx.errors import PortError, VerificationError
    from torch2mlx.port_verifier import verified
    from torch2mlx.porter import port
    from torch2mlx.training_verifier import verify_training

    need("assert_same_training", "torch", "mlx")
    options: dict[str, Any] = {
        **{"steps": steps, "timeout": timeout},
        **{"args": args, "mlx_args": mlx_args},
    }
    try:
        if mlx_script is None:
            found = verified(port(torch_script), options)
        else:
            found = verify_training(torch_script, mlx_script, **options)
    except (PortError, VerificationError) as error:
        raise AssertionError(f"{torch_script} cannot be compared: {error}") from error
    if not found.ok:
        name = "its port" if mlx_script is None else mlx_script
        raise AssertionError(f"{torch_script} and {name} train differently:\n{found.table()}")
    return found
