"""What a comparison amounts to: equal, wrong, or not to be told, with the reason."""

from __future__ import annotations

from dataclasses import dataclass

from torch2mlx.export.verify.chance import constants, with_draws
from torch2mlx.export.verify.comparing import Compared, compare, judged
from torch2mlx.export.verify.noise import unstable
from torch2mlx.export.verify.running import Answer, Case, Pair


@dataclass(frozen=True)
class Judgement:
    """The outputs of one case, each with its verdict, and what else there is to say."""

    outputs: tuple[Compared, ...]
    notes: tuple[str, ...] = ()
    fixed: str = ""  # that random numbers became constants
    unclear: int = 0  # outputs that are neither right nor wrong, told of in the notes alone
    raised: bool = False  # whether torch has no answer

    @property
    def ok(self) -> bool:
        """Whether all outputs agree."""
        return all(output.ok for output in self.outputs)


def judge(
    pair: Pair, case: Case, tolerance: float | None = None, answer: Answer | None = None
) -> Judgement:
    """Runs both sides and compares them; `answer` is torch's where it is known.

    Outputs that depend on random numbers are compared with torch's draws given to MLX. Raises
    VerificationError where the structures of the outputs or their shapes differ.
    """
    answer = answer or pair.torch(case)
    fixed = constants(pair, case, answer)
    if fixed.reason:
        outputs = compare(answer.parts, answer.parts, tolerance)
        reasons = dict.fromkeys(range(len(outputs)), fixed.reason)
        return Judgement(judged(outputs, "incomparable", reasons), fixed=fixed.reason)
    outputs = compare(answer.parts, pair.mlx(case), tolerance)
    agreed = all(o.ok for o in outputs)
    if "torch" in answer.drew or not agreed:
        found = with_draws(pair, case, tolerance, outputs)
        if found is not None:
            return Judgement(found.outputs, (*fixed.notes, *found.notes))
    if not agreed:
        outputs = judged(outputs, "unstable", unstable(pair, case, answer, outputs))
    return Judgement(outputs, fixed.notes)
