"""The verb schema: what programs can rely on in the answers of the other verbs, as JSON schemas."""

from __future__ import annotations

import argparse
import json
from typing import Any

from torch2mlx.cli.verb import Answer, Verb

Schema = dict[str, Any]
_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_WHOLE: Schema = {"type": "integer"}
_YES_NO: Schema = {"type": "boolean"}


def _or_null(one: Schema) -> Schema:
    return {"anyOf": [one, {"type": "null"}]}


def _several(one: Schema) -> Schema:
    return {"type": "array", "items": one}


def _by_name(one: Schema) -> Schema:
    return {"type": "object", "additionalProperties": one}


def _having(**fields: Schema) -> Schema:
    """An object that has all of these fields; later versions may have more."""
    return {"type": "object", "properties": fields, "required": list(fields)}


_FINDING = _having(
    rule=_TEXT,
    severity={"enum": ["error", "warning", "info"]},
    path=_TEXT,
    cls=_TEXT,
    message=_TEXT,
    suggestion=_TEXT,
    file=_TEXT,
    line=_WHOLE,
    count=_WHOLE,
)
_OUTPUT = _having(
    name=_TEXT,
    difference=_or_null(_NUMBER),
    tolerance=_NUMBER,
    verdict={"enum": ["equal", "differs", "unstable", "incomparable"]},
    case=_TEXT,
    what={"enum": ["output", "gradient", "step", "layer"]},
)
_TRAINED = _having(
    ok=_YES_NO,
    causes=_several(
        _having(kind=_TEXT, step=_WHOLE, where=_TEXT, detail=_TEXT, lines=_several(_TEXT))
    ),
    steps=_several(
        _having(
            step=_WHOLE,
            optimizer=_TEXT,
            torch_loss=_or_null(_NUMBER),
            mlx_loss=_or_null(_NUMBER),
            differences=_by_name(_or_null(_NUMBER)),
        )
    ),
    notes=_several(_TEXT),
    matched=_by_name(_TEXT),
)
_PORTED = _having(
    path=_TEXT,
    changes=_several(_having(line=_WHOLE, what=_TEXT, why=_TEXT, check=_TEXT)),
    unsupported=_several(_having(line=_WHOLE, reason=_TEXT, code=_TEXT, where=_TEXT)),
    questions=_several(_having(id=_TEXT, line=_WHOLE, text=_TEXT, choices=_several(_TEXT))),
    seen=_several(_having(id=_TEXT, line=_WHOLE, kind=_TEXT)),
    verified=_or_null(_TRAINED),
)
ENVELOPE: Schema = {
    **_having(
        ok=_YES_NO,
        result={},
        error=_or_null(
            _having(code=_TEXT, message=_TEXT, where=_or_null(_TEXT), what_to_do=_or_null(_TEXT))
        ),
    ),
    "additionalProperties": False,
}
_TENSOR = _having(
    target=_TEXT, shape=_several(_WHOLE), dtype=_TEXT, sources=_several(_TEXT), rule=_TEXT
)
#: `result` of each verb, where it is not null.
RESULTS: dict[str, Schema] = {
    "convert": _having(
        files=_several(_TEXT),
        sidecar=_or_null(_TEXT),
        bytes_written=_WHOLE,
        seconds=_NUMBER,
        coverage=_or_null(_NUMBER),
        unmapped_layers=_several(_TEXT),
        tensors=_several(_TENSOR),
        ties=_by_name(_TEXT),
        dropped=_by_name(_TEXT),
        notes=_several(_TEXT),
    ),
    "inspect": _having(
        origin=_TEXT,
        layout=_TEXT,
        tensors=_several(_having(key=_TEXT, dtype=_TEXT, shape=_several(_WHOLE), nbytes=_WHOLE)),
        values=_several(_TEXT),
        metadata=_by_name(_TEXT),
        nbytes=_WHOLE,
    ),
    "revert": _having(written=_TEXT),
    "analyze": _having(
        model=_TEXT,
        coverage=_or_null(_NUMBER),
        total_layers=_WHOLE,
        mapped_layers=_WHOLE,
        unmapped_layers=_several(_TEXT),
        findings=_several(_FINDING),
        blockers=_WHOLE,
        parameters=_by_name(_WHOLE),
        output_bytes=_WHOLE,
        peak_bytes=_WHOLE,
    ),
    "translate": _having(written=_TEXT, lines=_WHOLE, compared=_TEXT, notes=_several(_TEXT)),
    "verify": _having(
        verdict=_OUTPUT["properties"]["verdict"],
        outputs=_several(_OUTPUT),
        first=_or_null(_TEXT),
        weights=_several(_TEXT),
        notes=_several(_TEXT),
        layers=_several(_OUTPUT),
    ),
    "generate": _having(text=_TEXT, prompt_tokens=_WHOLE, tokens=_WHOLE),
    "port": _having(files=_several(_PORTED), advice=_several(_TEXT), written=_several(_TEXT)),
    "doctor": _having(
        python=_TEXT,
        system=_TEXT,
        core=_TEXT,
        packages=_by_name(_or_null(_TEXT)),
        devices=_by_name(_or_null(_TEXT)),
        extras=_by_name(_YES_NO),
        verbs=_by_name(_several(_TEXT)),
    ),
    "verify-training": _TRAINED,
}
#: `result` of a verb that was run with --dry-run.
PLANNED = _having(would_write=_several(_TEXT))


def schemas() -> Schema:
    """All of them: of the envelope, of each verb's arguments and result, of a dry run."""
    from torch2mlx.cli.agent_tools import schema
    from torch2mlx.cli.parser import VERBS

    told = [verb for verb in VERBS if verb.name in RESULTS]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "envelope": ENVELOPE,
        "arguments": {verb.name: schema(verb) for verb in told},
        "results": RESULTS,
        "dry_run": PLANNED,
    }


def _schema(_: argparse.Namespace) -> Answer:
    found = schemas()
    return Answer(found, json.dumps(found, indent=2))


SCHEMA = Verb(
    "schema",
    "print the JSON schemas of what --format json answers",
    lambda sub: None,
    _schema,
    ("torch2mlx schema", "torch2mlx schema > schemas.json"),
)
