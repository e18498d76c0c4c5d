"""Driver: `encoder_decoder` makes of an encoder-decoder model of transformers one that encodes once
and generates with a cache."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch2mlx.checkpoint.write.language import GENERATION, save_language
from torch2mlx.checkpoint.write.replacing import Guard, paths_of
from torch2mlx.checkpoint.write.transaction import truthful
from torch2mlx.checkpoint.write.translated import save_arrays
from torch2mlx.common import cards, trust
from torch2mlx.errors import TranslationError
from torch2mlx.export.ir.dead import without_dead
from torch2mlx.export.printing.emit import parted as emitted
from torch2mlx.export.state.answering import answers_alike
from torch2mlx.export.state.encoded import TOKENS, step_of, whole
from torch2mlx.export.state.idioms import with_linear_embeddings
from torch2mlx.export.state.lifting import CACHE, lifted
from torch2mlx.export.state.paired_file import HEAD, LOAD, checks_of, make_cache
from torch2mlx.export.state.parting import OUTPUT, parted
from torch2mlx.export.state.stepping import any_number_or_one
from torch2mlx.export.structure.assemble import Assembly
from torch2mlx.export.structure.entrances import Entrances
from torch2mlx.export.verify.preserved import preserved_stream
from torch2mlx.stateful import Lowered, lowered
from torch2mlx.translator import Translation, run_file

if TYPE_CHECKING:
    from mlx import nn

#: Where the model is within what is traced.
_MODEL = "model"
_SERIAL = itertools.count()


@dataclass(frozen=True)
class EncoderDecoder:
    """A translated encoder-decoder model: the `source` of its file, and its weights.

    `module` encodes, and its decoder has a cache; `generate` of torch2mlx takes it. `generation`
    is what transformers' generation_config.json says of it; `notes` what there is to say of it.
    """

    source: str
    name: str
    config: Mapping[str, Any]
    generation: Mapping[str, Any]
    blocks: int
    notes: tuple[str, ...] = ()
    _made: Any = field(default=None, repr=False)

    def __repr__(self) -> str:
        return f"<EncoderDecoder: {self.headline()}>"

    def headline(self) -> str:
        """One line: the class, its length, and how many blocks keep a cache."""
        return f"{self.name}, {self.source.count(chr(10))} lines, {self.blocks} blocks with a cache"

    def _repr_html_(self) -> str:
        notes = cards.lines("To know", self.notes)
        return cards.card(self.headline(), {}, notes, cards.source("Source", self.source))

    @property
    def caches(self) -> tuple[str, ...]:
        """The kinds of caches that the decoder keeps keys and values in, one for each block."""
        return ("Cache",) * self.blocks

    @property
    def texts(self) -> Mapping[str, str]:
        """Files of its folder beside the source, the configuration and the arrays."""
        return {GENERATION: json.dumps(dict(self.generation), indent=2) + "\n"}

    @cached_property
    def weights(self) -> dict[str, Any]:
        """All arrays of the model by their names in the tree."""
        held = {**self._made.weights, **self._made.constants}
        return {name.removeprefix(f"{_MODEL}."): array for name, array in held.items()}

    @cached_property
    def module(self) -> nn.Module:
        """The live model: `encode`, `make_cache` of what it gives, and a call for the decoder."""
        made = run_file(self.source, f"encoder_decoder_{next(_SERIAL)}", known=True)
        with preserved_stream():
            model = getattr(made, self.name)()
        model.load_weights(list(self.weights.items()), strict=True)
        model.eval()
        return model

    def save(
        self, folder: str | Path, *, tokenizer: str | Path | None = None, force: bool = False
    ) -> Path:
        """Writes a folder that `load` reads: model.py, model.safetensors, config.json,
        generation_config.json.

        `tokenizer`: a folder whose tokenizer and generation_config.json go along. What `save`
        wrote before may be replaced; `force`: anything else too. Raises WriteError where something
        of the user's would be replaced.
        """
        place = Path(folder)
        source = None if tokenizer is None else Path(tokenizer)
        guard = Guard(paths_of(source), force)
        with truthful():
            arrays = lambda target: save_arrays(target, self.weights, place)  # noqa: E731
            save_language(place, self.source, self.config, arrays, source, guard, self.texts)
            trust.remember(place)
        return place


def encoder_decoder(model: Any, check: bool) -> EncoderDecoder:
    """The file of an encoder-decoder model for calls of any length; where there is none, or it is
    not right, one that takes the tokens of the decoder one by one.

    Raises TranslationError for a model that has none, and where MLX answers otherwise than torch.
    """
    return any_number_or_one(partial(_proved, model, check))


def _proved(model: Any, check: bool, tokens: int) -> EncoderDecoder:
    made = _emitted(model, lowered(whole(model), step_of(model, tokens)))
    if check:
        answers_alike(model, made.module, tokens)
    if tokens > 1:
        return made
    return replace(made, notes=(*made.notes, "the decoder takes the tokens of a call one by one"))


def _emitted(model: Any, found: Lowered) -> EncoderDecoder:
    entries, stored, traced = found.entries, found.stored, found.traced
    if any(entry.keys is None or entry.slots for entry in entries):
        raise TranslationError(
            f"{type(model).__name__}: its decoder keeps more from call to call than keys and values"
        )
    program, order = parted(lifted(found.program, entries))
    program = without_dead(with_linear_embeddings(program, stored.tree))
    stored.keep_used(program)
    entrances = Entrances(("encode", "begin"), _MODEL, order)
    assembly = Assembly(program, traced, stored, stored.tree, entrances)
    kind, own = type(model), assembly.text(_MODEL)
    given = {name: method.arguments for name, method in own.methods}
    _check(kind.__name__, given, order)
    source = emitted(
        assembly,
        own,
        f"{kind.__name__} in MLX, translated from {kind.__module__}.",
        (HEAD, LOAD.format(name=own.name)),
        checks_of(program, traced, given, f"{_MODEL}."),
        make_cache(given["begin"], len(entries)),
    )
    made = Translation(source, own.name, False, traced.dynamic, _stored=stored)
    config = json.loads(model.config.to_json_string(use_diff=False))
    generation = json.loads(json.dumps(model.generation_config.to_diff_dict()))
    return EncoderDecoder(source, own.name, config, generation, len(entries), traced.notes, made)


def _check(kind: str, given: Mapping[str, Any], order: Sequence[str]) -> None:
    """Raises TranslationError where what is encoded is not all that the decoder has of it."""
    wanted = {"encode", "begin", "__call__"}
    late = (OUTPUT, CACHE)
    odd = {name for name in given.get("encode", ()) if name in late or name == TOKENS}
    odd |= {name for names in given.values() for name in names if name not in order}
    odd |= {OUTPUT} & {*given.get("__call__", ())}
    if wanted != given.keys() or odd:
        raise TranslationError(
            f"{kind}: encoder and decoder share more than what is encoded"
            + (f" ({', '.join(sorted(odd))})" if odd else "")
        )


__all__ = ["EncoderDecoder", "encoder_decoder"]
