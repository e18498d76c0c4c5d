"""Causal language models of transformers at toy size under mlx-lm's contract, against torch.

`python -m tests.zoo.generation [TYPE...]` makes each (without names, all of archs.txt that are
causal language models), with weights that are large enough to tell one program from another,
translates it with its cache, and compares the logits of both frameworks: a prompt of 9 tokens, in
MLX in pieces of 4 and 5, then 64 tokens one by one, in a batch of 2; in a batch with padding before
one sequence, where the file takes some; and 64 tokens that torch chose, each the likeliest, where
the second is more than `MARGIN` behind. It prints a line for each, `ok` with the largest
difference, `differs`, `refused` or `unbuilt` with the reason, `silent` where MLX answers and torch
raises an error, and a count. Rows of docs/generation.md are written as they come, those of other
types stay. Tables of positions are shorter than the sequences first, and where a side raises an
error at their end, longer in a second try.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.zoo.build import names, shrink, small_arguments
from tests.zoo.layer_kinds import arguments_of_layers, with_each_kind

BATCH, PROMPT, STEPS, PIECES = 2, 9, 64, (4, 5)
ALLOWED = 1e-4
#: What torch chooses is compared where the second token's logit is this far behind.
MARGIN = 1e-3
#: Ways to make a configuration small: those of `shrink`, by its fields; as many heads for keys as
#: for queries; by the arguments of its class, two layers of each kind.
BY_ARGUMENTS, EQUAL_HEADS = 3, 0
LEVELS = (1, EQUAL_HEADS, BY_ARGUMENTS, 2)
#: How configurations call the length of what is looked up by position.
TABLES = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
TABLES += ("max_sequence_length", "max_target_positions", "original_max_position_embeddings")
#: How long they are: shorter than the sequences, and longer.
FEW_POSITIONS, POSITIONS = 40, 128
#: Larger models are not built.
MOST_PARAMETERS = 5e8
#: Seconds of the processor for one type: forwards that go through the places of a chunk one by one
#: take some 300 for 73 tokens.
LIMIT = 900
PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "generation.md"
#: The commit of rows that say none.
BEFORE = "4eb4643"
HEAD = """# Generation

Written by `python -m tests.zoo.generation`: causal language models of transformers at toy size, of
random weights, made into files for mlx-lm with `torch2mlx.language_model`. Logits are compared with
torch's in float32 on the CPU: a prompt of 9 tokens, in MLX in pieces of 4 and 5, then 64 tokens one
by one, in a batch of 2. The difference is max|a - b| / max(1, max|a|); `padding` says whether
batches with padding before a sequence, and of sequences that were begun alone, have the logits that
torch has of each alone, or are refused by the file. `ran` is the commit that a row was measured
with; rows of {before} or older are of before sequences that were begun alone were compared in a
batch, and before places counted from each sequence's own first token: their `right` is of padding
from the first call on alone. {count}.

| type | | difference | 64 likeliest tokens | padding | caches | ran | |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True)
class Line:
    """What came of a type: a word, what there is to say, the largest difference, how many of the
    likeliest tokens are equal, what becomes of padding, the caches, and the commit that ran."""

    word: str
    notes: str = ""
    gap: str = ""
    greedy: str = ""
    padding: str = ""
    caches: str = ""
    commit: str = ""

    @property
    def figures(self) -> tuple[str, ...]:
        return self.gap, self.greedy, self.padding, self.caches, self.commit


def causal_types() -> list[str]:
    """The types of archs.txt that transformers has a causal language model for."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as known

    return [name for name in names() if name in known]


def built(kind: str, positions: int = POSITIONS) -> Any:
    """A model of a type that answers to tokens with a cache, for so many `positions`. Raises
    RuntimeError with what transformers raised."""
    import torch
    from transformers import AutoModelForCausalLM

    said = []
    for level in LEVELS:
        try:
            config = configuration(kind, level, positions)
            refuse_large(config)
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(config).float().eval()
            with torch.no_grad():
                model(input_ids=torch.arange(3, 12)[None])
                enlarge(model)
            return model
        except Exception as problem:  # as many kinds as transformers has models
            said.append(f"{type(problem).__name__}: {problem}"[:160])
    raise RuntimeError(" | ".join(dict.fromkeys(said)))


def enlarge(model: Any) -> None:
    """Draws weights that norms and biases show in, and that tokens attend to others by: those that
    a model begins with are so small that a mask that is wrong can be overlooked."""
    import torch

    for parameter in model.parameters():
        noise = torch.randn_like(parameter)
        if parameter.ndim < 2 or not parameter.std() > 0:
            parameter.add_(0.1 * noise)
        else:
            usual = parameter.shape[-1] ** -0.5
            parameter.mul_(max(1.0, usual / float(parameter.std())))


def refuse_large(config: Any) -> None:
    """Raises RuntimeError for a model that does not fit in little memory."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    count = sum(p.numel() for p in model.parameters())
    if count > MOST_PARAMETERS:
        raise RuntimeError(f"{count} parameters")


def configuration(kind: str, level: int, positions: int) -> Any:
    """A small configuration of a type. Raises what transformers raises."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config = CONFIG_MAPPING[kind]()
    if level == BY_ARGUMENTS:
        layers = arguments_of_layers(config, 2)
        config = CONFIG_MAPPING[kind](**{**small_arguments(config), **layers})
    else:
        config = with_each_kind(config, lambda made: shrink(made, level or 1))
        if level == EQUAL_HEADS:
            config.num_key_value_heads = config.num_attention_heads
    for part in (config, config.get_text_config(decoder=True)):
        if hasattr(part, "is_decoder"):
            part.is_decoder = True
        for name in TABLES:
            if isinstance(getattr(part, name, None), int) and getattr(part, name) > positions:
                setattr(part, name, positions)
    return config


def line_of(kind: str) -> Line:
    """What came of a type."""
    first = with_positions(kind, FEW_POSITIONS)
    if first.word != "ok" or "ends at" not in first.notes:
        return first
    second = with_positions(kind, POSITIONS)
    return replace(second, notes=f"{second.notes}; {first.notes}".strip("; "))


def with_positions(kind: str, positions: int) -> Line:
    """The same for a model whose tables, if it has some, are so long."""
    from torch2mlx.errors import Torch2MLXError
    from torch2mlx.language import language_model

    try:
        model = built(kind, positions)
    except RuntimeError as problem:
        return Line("unbuilt", str(problem))
    try:
        made = language_model(model)
    except Torch2MLXError as problem:
        return Line("refused", str(problem)[:300])
    word, gap, ends = compared(model, made.module)
    greedy, padding = chosen(model, made.module), with_padding(model, made.module)
    if word == "ok" and (greedy.startswith("differ") or padding.startswith("differ")):
        word = "differs"
    caches = ", ".join(f"{n} {name}" for name, n in Counter(made.caches).items())
    notes = "; ".join(filter(None, (*made.notes, ends)))
    return Line(word, notes, gap, greedy, padding, caches)


def chosen(model: Any, module: Any) -> str:
    """How many of the tokens that torch chooses are the likeliest in MLX too."""
    import numpy as np
    import torch

    from torch2mlx.export.ir.structures import to_mlx
    from torch2mlx.export.state.causal import some_tokens
    from torch2mlx.export.state.generating import TorchCalls, mlx_calls

    ids, torchs = some_tokens(model, 1, PROMPT, seed=5), TorchCalls(model)
    clear = []
    try:
        while ids.shape[1] < PROMPT + STEPS:
            best = torchs(ids[:, -1:] if clear else ids)[0, -1]
            first, second = np.partition(best, -2)[-1:-3:-1]
            clear.append(first - second > MARGIN)
            token = torch.tensor([[int(best.argmax())]])
            ids = torch.cat([ids, token], 1)
    except Exception:  # the end of a table: what was chosen until then is compared
        pass
    found, _ = answered(mlx_calls(module, to_mlx(ids), PIECES))
    likeliest = found.argmax(-1)[0, PROMPT - 1 : PROMPT - 1 + len(clear)]
    same = likeliest == ids.numpy()[0, PROMPT : PROMPT + len(likeliest)]
    wrong = int((~same & clear[: len(same)]).sum())
    if wrong:
        return f"differ: {wrong} of {len(same)}"
    return f"{len(same)} equal" + (f", {clear.count(False)} ties" if not all(clear) else "")


def with_padding(model: Any, module: Any) -> str:
    """Whether sequences with padding before them have the logits that they have alone in torch,
    and those that were begun alone and go on together."""
    import numpy as np

    from torch2mlx.export.state.generating import padding_gaps

    try:
        worst = float(np.max(padding_gaps(model, module)))
    except ValueError:
        return "refused"
    return "right" if worst <= ALLOWED else f"differ by {worst:.1e}"


def compared(model: Any, module: Any) -> tuple[str, str, str]:
    """How the logits compare at each token: a word, the largest difference, and where each side has
    raised an error: past the end of a table, where MLX's has to raise too."""
    from torch2mlx.export.ir.structures import to_mlx
    from torch2mlx.export.state.causal import some_tokens
    from torch2mlx.export.state.generating import apart, mlx_calls, torch_calls

    ids = some_tokens(model, BATCH, PROMPT + STEPS)
    expected, torchs = answered(torch_calls(model, ids, (PROMPT,)))
    found, mlxs = answered(mlx_calls(module, to_mlx(ids), PIECES))
    both = min(expected.shape[1], found.shape[1])
    worst = max(apart(expected[:, i], found[:, i]) for i in range(both))
    ends = f"MLX ends at {both}: {mlxs}" if mlxs else ""
    ends += f", torch at {expected.shape[1]}: {torchs}" if torchs else ""
    silent = found.shape[1] > expected.shape[1]
    word = "silent" if silent else "ok" if worst <= ALLOWED else "differs"
    return word, f"{worst:.1e}", ends


def answered(calls: Iterator[Any]) -> tuple[Any, str]:
    """The logits (B, L, V) of the calls before one raised an error, and what it said."""
    import numpy as np

    parts = []
    try:
        parts.extend(calls)
    except Exception as problem:  # as many kinds as transformers has models
        return np.concatenate(parts, 1), f"{type(problem).__name__}: {problem}"[:120]
    return np.concatenate(parts, 1), ""


class TooLong(BaseException):
    """The time of a type is up; no handler of ordinary errors takes it for the end of a table."""


def lines(kinds: Sequence[str]) -> Iterator[tuple[str, Line]]:
    """A line for each type; one that takes too long, or fails otherwise, is `failed`."""

    def late(*_: Any) -> None:
        raise TooLong(f"longer than {LIMIT} s")

    signal.signal(signal.SIGPROF, late)
    for kind in kinds:
        signal.setitimer(signal.ITIMER_PROF, LIMIT)
        try:
            line = line_of(kind)
        except (TooLong, Exception) as problem:  # a bug: it has to be told apart from a refusal
            line = Line("failed", f"{type(problem).__name__}: {problem}"[:300])
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        yield kind, line


def rows_of(page: str) -> dict[str, Line]:
    """The lines of a page like docs/generation.md by type."""
    found = {}
    for row in page.splitlines():
        kind, *cells = [cell.strip() for cell in row.split("|")[1:-1]] or [""]
        if kind.startswith("`"):
            word, *figures, notes = cells
            found[kind.strip("`")] = Line(word, notes, *figures)
    return found


def page_of(rows: Mapping[str, Line]) -> str:
    """docs/generation.md."""
    count = Counter(line.word for line in rows.values())
    shown = f"{len(rows)} types: " + ", ".join(f"{n} {word}" for word, n in count.most_common())
    text = HEAD.format(count=shown, before=BEFORE)
    for kind, line in sorted(rows.items()):
        *figures, commit = line.figures
        cells = (f"`{kind}`", line.word, *figures, commit or BEFORE, line.notes)
        plain = [_plain(cell) for cell in cells]
        text += f"| {' | '.join(plain)} |\n"
    return text


def _plain(text: str) -> str:
    """A text without addresses and paths, in one line that fits a table."""
    line = " ".join(text.replace("|", "/").split())
    return re.sub(r" at 0x\w+| \(?/[^ )]+\)?", "", line)


def write_row(kind: str, line: Line) -> None:
    """Puts a line into the page, in which those of other types stay."""
    rows = rows_of(PAGE.read_text()) if PAGE.exists() else {}
    said = ("git", "-C", str(PAGE.parent), "rev-parse", "--short", "HEAD")
    commit = subprocess.run(said, capture_output=True, text=True, check=True).stdout.strip()
    PAGE.write_text(page_of({**rows, kind: replace(line, commit=commit)}))


def main() -> int:
    """Prints the lines; fails where one differs, is silent or fails."""
    warnings.simplefilter("ignore")
    count: Counter[str] = Counter()
    for kind, line in lines(sys.argv[1:] or causal_types()):
        count[line.word] += 1
        told = "; ".join(filter(None, (*line.figures, line.notes)))
        print(f"{line.word:8} {kind:24} {' '.join(told.split())}", flush=True)
        write_row(kind, line)
    print(", ".join(f"{n} {word}" for word, n in count.most_common()))
    return 1 if count["differs"] or count["silent"] or count["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
