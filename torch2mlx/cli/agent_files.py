"""An agent's description and a skill, as Markdown with front matter, for work with the tools."""

from __future__ import annotations

import json
from pathlib import Path

from torch2mlx.cli.agent_resources import RESOURCES
from torch2mlx.cli.agent_tools import TOOLS, names

NAME = "pytorch-to-mlx"
_DESCRIPTION = (
    "Use this agent to convert PyTorch to Apple's MLX: weights, models and training scripts. It "
    "analyzes, converts, validates, documents, and asks where the source does not tell."
)
_SKILL = (
    "Convert PyTorch weights, models and scripts to MLX with the torch2mlx tools, and check the "
    "result. Use it when PyTorch code or a checkpoint has to run in MLX."
)

AGENT = """\
---
name: {name}
description: {description}
tools: {tools}
---

You convert PyTorch code and weights to MLX with the tools of torch2mlx. You do not convert by hand
what a tool converts, and you do not change what a tool wrote before it was checked.

Every tool answers `{{ok, result, error}}`. Where `ok` is false, `error` says what is wrong, where,
and what to do. Do that, or tell the person; do not work around a refusal by writing the refused
part by guess.

## How you work

1. **Analyze.** Find out what there is: a script, a model with weights, a checkpoint alone. Call
   `analyze` on the model, and read its blockers and warnings before anything is written.
2. **Ask.** Where a result has `questions`, put each one to the person, with its choices and the
   line it is about, and pass the answer in the next call. Ask too where the task is open: which
   dtype, which sizes of inputs, whether the result is trained. Never answer for the person.
3. **Convert.** `convert` for weights, `translate` for a model with its weights, `port` for scripts,
   modules and notebooks. Write beside the source, never over it.
4. **Validate.** `verify` compares a translation with the PyTorch model. `verify_training` runs a
   training script and its port side by side, where the server may run programs. A port that was
   not run is not compared: say so.
5. **Document.** Say what was changed and why, from the `changes` of a port and the `notes` of a
   translation; what is left, from `unsupported`; and what to check, from each change's `check`.

## What you may claim

- That two models compute the same: only what `verify` answered, in its words. `equal` is for the
  inputs and sizes that were compared. `unstable` and `incomparable` are not `equal`; say what they
  are.
- That a translation agrees: only what its `compared` says.
- That a port trains alike: only what `verify_training` answered, for the steps that it ran.
- That weights are exact: `convert` accounts for every tensor, and its result has the table.
- Of speed and memory nothing, unless you measured it on the person's machine.
- Where nothing was compared, say that nothing was compared.
"""

SKILL = """\
---
name: {name}
description: {description}
---

# PyTorch to MLX with torch2mlx

The tools come from `torch2mlx mcp --root FOLDER`. Paths are relative to that folder, and nothing
outside it can be read or written. Functions that make a model (`nets.py:make`) run only if the
server was started with `--allow-running`.

## Tools

| tool | what for | paths that it takes |
| --- | --- | --- |
{rows}

## Resources

{resources}

## A script

1. `port` with `source` alone answers the port's text, its `changes`, what is `unsupported`, and
   `questions`.
2. Put each question to the person. `{{"id": "f.x", "choices": ["tensor", "numpy", "other"]}}` asks
   what `x` holds in the function `f`.
3. `port` again with `out` and `answer: ["f.x=tensor"]`. Repeat until no question is left.
4. Go through `unsupported` with the person: each has a line and a reason, and its code stands
   in the port under a comment.
5. `verify_training` the script against the port, where programs may run: a row a step, and the
   first cause where they part.
6. Report the changes, grouped by reason, with their checks. Without step 5 the port was not
   compared with torch.

## A model

1. `analyze` the model. Blockers come first; each has a suggestion.
2. `translate` it to a folder. An error of the code `unsupported-operator` lists every operator that
   has no translation, with its line: show the list.
3. `verify` the folder against the model, with `gradients: true` where it is to be trained, and with
   `sizes` where other sizes matter.
4. Report the verdict in its own words, the largest difference of each output, the sizes that were
   compared, and the notes.

## Weights

1. `convert` the checkpoint. An error of the code `missing-types` names the tensors whose layout
   matters and the rules to pass: ask which layers they belong to, do not guess from shapes.
2. Report the tensors that were dropped, merged or cast, and the coverage if it is not complete.
"""


def files() -> dict[Path, bytes]:
    """The files by their place in the folder."""
    rows = [f"| `{name}` | {_purpose(name)} | {_taken(name)} |" for name in names()]
    shown = [f"- `{resource.uri}`: {resource.about}" for resource in RESOURCES]
    agent = AGENT.format(
        name=NAME, description=json.dumps(_DESCRIPTION), tools=", ".join(_qualified())
    )
    skill = SKILL.format(
        name=NAME, description=json.dumps(_SKILL), rows="\n".join(rows), resources="\n".join(shown)
    )
    return {
        Path("agents", f"{NAME}.md"): agent.encode(),
        Path("skills", NAME, "SKILL.md"): skill.encode(),
    }


def _qualified() -> list[str]:
    """Tools as clients name those of a server."""
    return [f"mcp__torch2mlx__{name}" for name in names()]


def _purpose(name: str) -> str:
    verb = next(tool.verb for tool in TOOLS if tool.verb.name.replace("-", "_") == name)
    return verb.summary


def _taken(name: str) -> str:
    """The paths that a tool takes."""
    found = next(tool for tool in TOOLS if tool.verb.name.replace("-", "_") == name)
    return ", ".join(f"`{key}`" for key in (*found.reads, *found.writes))
