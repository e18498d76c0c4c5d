"""`./dev zoo`: translates every architecture of archs.txt, each in a process of its own.

    python -m tests.zoo.run [--out FILE | --again] [--beside N] [NAME ...]

The translated folder is loaded and run by another process, in which torch cannot be imported; every
output must agree within 1e-4. Then `verify` compares both at a shorter and at a longer size and
batch of the inputs: what agrees there, what the file refuses and what torch refuses is counted.
Results go to docs/models.md (all of them, or with --again the named ones in their rows) or to FILE.
What agreed there before must agree, and no
file may be much longer, or take much longer to translate, than it says there.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.processes import Ended, side_by_side
from tests.zoo.build import names, working

DOCS = Path(__file__).parent.parent.parent / "docs" / "models.md"
TOLERANCE = 1e-4
SECONDS = 900.0
#: How much more than before is told.
MORE_LINES, MORE_SECONDS = 1.1, 2.0
#: Runs a folder on inputs where torch is missing, and keeps what comes out.
_RUNNER = """
import sys
sys.modules["torch"] = None
import mlx.core as mx
import torch2mlx
from torch2mlx.export.ir.structures import arrays_of
folder = sys.argv[1]
given = mx.load(f"{folder}/inputs.safetensors")
plain = eval(sys.argv[2])
answer = torch2mlx.load(folder)(**given, **plain)
found = {str(i): a for i, (_, a) in enumerate(arrays_of(answer))}
mx.save_safetensors(f"{folder}/outputs.safetensors", found)
"""
HEAD = """# Models

Written by `./dev zoo`: architectures of transformers at toy size, randomly initialised, translated
with `torch2mlx.translate`, saved, loaded strictly and run in a process where torch cannot be
imported. Seconds are those of translating it.
The difference is the largest over all outputs, max|a - b| / max(1, max|a|), in float32 on the CPU;
{good} of {all} agree within 1e-4. Other sizes are the inputs with all free lengths and the batch
shorter, and longer, or another batch alone where torch raises for these: where a length is fixed,
the file says so by an error that names it. {free} of {all} agree at another size.

| architecture | outputs | difference | lines | transposes | seconds | other sizes | |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def compare(name: str) -> dict[str, Any]:
    """Translates one architecture and compares every output."""
    import torch

    from torch2mlx import translate

    model, given = working(name)
    start = time.process_time()  # of the processor: other processes run beside this one
    translation = translate(model, (), given)
    seconds = time.process_time() - start
    with torch.no_grad():
        expected = model(**given)
    with tempfile.TemporaryDirectory() as folder:
        worst, count = _run(translation.save(folder), given, expected)
    source = translation.source
    sized = {} if worst > TOLERANCE else at_other_sizes(model, translation, given)
    return {
        **{"name": name, "outputs": count, "difference": worst, "lines": source.count("\n")},
        **sized,
        **{"transposes": source.count(".transpose("), "seconds": round(seconds, 1)},
        **{
            "note": ""
            if worst <= TOLERANCE
            else "draws random numbers"
            if "random" in source
            else "differs"
        },
    }


def at_other_sizes(model: Any, translation: Any, given: dict[str, Any]) -> dict[str, Any]:
    """How many other sizes agree, which differ, and what was said of the rest."""
    from torch2mlx import verify
    from torch2mlx.errors import VerificationError

    try:
        found = verify(model, translation, (), given)
    except VerificationError as problem:
        return {"agree": 0, "wrong": [f"{problem}"], "notes": []}
    verdicts: dict[str, set[str]] = {}
    for output in found.outputs:
        verdicts.setdefault(output.case, set()).add(output.verdict)
    del verdicts[""]
    return {
        "agree": sum(verdict == {"equal"} for verdict in verdicts.values()),
        "wrong": [case for case, verdict in verdicts.items() if "differs" in verdict],
        "notes": list(found.notes),
    }


def _run(folder: Path, given: dict[str, Any], expected: Any) -> tuple[float, int]:
    import mlx.core as mx

    from torch2mlx.export.ir.structures import arrays_of, difference, numpy_of, to_mlx

    arrays = {k: to_mlx(v) for k, v in given.items() if hasattr(v, "dtype")}
    plain = {k: v for k, v in given.items() if k not in arrays}
    mx.save_safetensors(str(folder / "inputs.safetensors"), arrays)
    command = [sys.executable, "-c", _RUNNER, str(folder), repr(plain)]
    subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
    found = mx.load(str(folder / "outputs.safetensors"))
    wanted = [a for _, a in arrays_of(expected)]
    if len(wanted) != len(found):
        raise ValueError(f"{len(found)} outputs, torch gives {len(wanted)}")
    pairs = [(numpy_of(a), numpy_of(found[str(i)])) for i, a in enumerate(wanted)]
    if any(a.shape != b.shape for a, b in pairs):
        raise ValueError("an output has another shape")
    gaps = [difference(a, b) for a, b in pairs]
    return max(gaps, key=lambda g: (g != g, g)), len(gaps)


def _work(name: str, out: Any) -> None:
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    try:
        out.send(compare(name))
    except Exception as problem:  # one architecture must not end the run
        reason = " ".join(str(problem).split())[:160]
        out.send({"name": name, "note": f"{type(problem).__name__}: {reason}"})


def run_all(chosen: Sequence[str], beside: int) -> Iterator[dict[str, Any]]:
    """Results in the order they come, `beside` architectures at a time."""
    import torch.export
    import transformers.modeling_utils

    assert torch.export and transformers.modeling_utils  # imported before processes are forked
    answered = set()
    for name, found in side_by_side(chosen, _work, SECONDS, beside):
        if not isinstance(found, Ended):
            answered.add(name)
            yield found
        elif name not in answered:
            yield {"name": name, "note": "took too long" if found.late else "the process ended"}


def passed(row: dict[str, Any]) -> bool:
    """Whether all outputs agree, and none differs at another size."""
    return row.get("difference", 1.0) <= TOLERANCE and not row.get("wrong")


def sizes_told(row: dict[str, Any]) -> str:
    """What became of the other sizes, in a few words."""
    told = [f"{row['agree']} agree"] if row.get("agree") else []
    told += [f"wrong {case}" for case in row.get("wrong", ())]
    kinds = {"refused": ": refused, ", "torch raises": ": not compared, torch raises "}
    for kind, sign in kinds.items():
        reasons = [note.split(sign, 1)[1] for note in row.get("notes", ()) if sign in note]
        told += [f"{len(reasons)} {kind}: {reasons[0]}"] if reasons else []
    return "; ".join(told)


def page(rows: Sequence[dict[str, Any]]) -> str:
    """docs/models.md."""
    return _page({row["name"]: _line(row) for row in rows})


def renewed(text: str, rows: Sequence[dict[str, Any]]) -> str:
    """A text like docs/models.md with other rows for some architectures."""
    return _page(_lines(text) | {row["name"]: _line(row) for row in rows})


def _lines(text: str) -> dict[str, str]:
    """The rows of such a text by the names of their architectures."""
    held = [line for line in text.splitlines(keepends=True) if line.startswith("| `")]
    return {line.split("`")[1]: line for line in held}


def _page(lines: Mapping[str, str]) -> str:
    good = len(agreed("".join(lines.values())))
    free = sum(line.split("|")[7].strip()[1:].startswith(" agree") for line in lines.values())
    head = HEAD.format(good=good, all=len(lines), free=free)
    return head + "".join(line for _, line in sorted(lines.items()))


def _line(row: dict[str, Any]) -> str:
    figures = [row.get(k, "") for k in ("outputs", "difference", "lines", "transposes", "seconds")]
    if isinstance(figures[1], float):
        figures[1] = f"{figures[1]:.0e}"
    cells = [f"`{row['name']}`", *map(str, figures), _cell(sizes_told(row)), _cell(row["note"])]
    return f"| {' | '.join(cells)} |\n"


def _cell(text: str) -> str:
    """A note without addresses and paths, in one line that fits a table."""
    return re.sub(r" at 0x\w+| \(?/[^ )]+\)?", "", " ".join(text.split()))[:100].replace("|", "/")


def agreed(text: str) -> set[str]:
    """Names of the architectures that agree in a text like docs/models.md."""
    rows = [(name, line.split("|")) for name, line in _lines(text).items()]
    gaps = [(name, row[3].strip(), "wrong" in row[7]) for name, row in rows]
    return {name for name, gap, wrong in gaps if gap and float(gap) <= TOLERANCE and not wrong}


def figures(text: str) -> dict[str, tuple[int, float]]:
    """(lines, seconds) of each architecture in a text like docs/models.md."""
    rows = [(name, line.split("|")) for name, line in _lines(text).items()]
    return {name: (int(row[4]), float(row[6])) for name, row in rows if row[4].strip()}


def grown(rows: Sequence[dict[str, Any]], before: Mapping[str, tuple[int, float]]) -> list[str]:
    """What became much longer, or takes much longer, than it did: each with both figures."""
    told = []
    for row in rows:
        if row["name"] not in before or "lines" not in row:
            continue
        (lines, seconds), name = before[row["name"]], row["name"]
        if row["lines"] > MORE_LINES * lines + 10:
            told.append(f"{name}: {row['lines']} lines, {lines} before")
        if row["seconds"] > MORE_SECONDS * seconds + 10:
            told.append(f"{name}: {row['seconds']:.0f} s, {seconds:.0f} before")
    return told


def main() -> int:
    """Runs what the command line asks for; 1 when something got worse."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--out")
    parser.add_argument("--again", action="store_true", help="write the rows of those named")
    parser.add_argument("--beside", type=int, default=2, help="processes side by side")
    options = parser.parse_args()
    chosen, rows = options.names or names(), []
    for row in run_all(chosen, options.beside):
        rows.append(row)
        shown = "ok" if passed(row) else row["note"] or "differs"
        told = f"{row['name']}: {shown}; {sizes_told(row)}"
        print(f"{len(rows)}/{len(chosen)} {told}", file=sys.stderr, flush=True)
        if options.out:  # as they come: a run that is ended has what it saw
            Path(options.out).write_text(json.dumps(rows, indent=1))
    good = {row["name"] for row in rows if passed(row)}
    kept = DOCS.read_text()
    expected = set(options.names) or agreed(kept)
    more = grown(rows, figures(kept))
    if options.again:
        DOCS.write_text(renewed(kept, rows))
    elif not options.out and not options.names:
        DOCS.write_text(page(rows))
    free = sum(bool(row.get("agree")) for row in rows)
    wrong = sum(bool(row.get("wrong")) for row in rows)
    print(
        f"zoo: {len(good)} of {len(rows)} agree within {TOLERANCE:g}; "
        f"at other sizes {free} agree, {wrong} differ; {len(more)} grew"
        + "".join(f"; {told}" for told in more)
    )
    return 0 if expected <= good and not more else 1


if __name__ == "__main__":
    sys.exit(main())
