"""Driver: `language_model` makes of a causal language model of transformers one that mlx-lm runs,
with a cache."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch2mlx.checkpoint.write.language import save_language
from torch2mlx.checkpoint.write.replacing import Guard, paths_of
from torch2mlx.checkpoint.write.transaction import truthful
from torch2mlx.checkpoint.write.translated import save_arrays
from torch2mlx.common import cards, trust
from torch2mlx.common.optional import need
from torch2mlx.encoder_decoder import EncoderDecoder, encoder_decoder
from torch2mlx.errors import ExportError, TranslationError, UnsupportedOperatorError
from torch2mlx.export.capture.empty_weights import is_empty, standing_in
from torch2mlx.export.ir.dead import without_dead
from torch2mlx.export.printing.emit import written
from torch2mlx.export.state.causal import step_of
from torch2mlx.export.state.conditions import of_tokens
from torch2mlx.export.state.expert_layers import with_expert_layers
from torch2mlx.export.state.few_rows import with_few_rows
from torch2mlx.export.state.generating import padding_left_out, proved
from torch2mlx.export.state.idioms import (
    attends,
    may_be_quantized,
    read_bare,
    with_idioms,
)
from torch2mlx.export.state.leaving_out import adds_masks, is_causal, refuse_padded
from torch2mlx.export.state.lifting import lifted
from torch2mlx.export.state.model_file import Told, ending
from torch2mlx.export.state.placing import MASK, Form, forms_of
from torch2mlx.export.state.stepping import any_number_or_one
from torch2mlx.export.state.stored_names import stored_names
from torch2mlx.export.state.written_out import with_calls
from torch2mlx.export.structure.assemble import Assembly
from torch2mlx.export.verify.preserved import preserved, preserved_stream
from torch2mlx.export.verify.running import plainly
from torch2mlx.sized import sized_language
from torch2mlx.stateful import Lowered, lowered
from torch2mlx.translator import Translation, converted, run_file

if TYPE_CHECKING:
    from mlx import nn

    from torch2mlx.types import Progress

_SERIAL = itertools.count()


@dataclass(frozen=True)
class LanguageModel:
    """A translated language model: the `source` of a file to mlx-lm's contract, and its weights.

    `caches` are the kinds of caches that the model keeps its state in; `notes` what there is to
    say of it.
    """

    source: str
    config: Mapping[str, Any]
    caches: tuple[str, ...]
    notes: tuple[str, ...] = ()
    _made: Any = field(default=None, repr=False)
    _form: Form = field(default_factory=Form, repr=False)

    def __repr__(self) -> str:
        return f"<LanguageModel: {self.headline()}>"

    def headline(self) -> str:
        """One line: the length of its source, and its caches."""
        caches = ", ".join(f"{n} {kind}" for kind, n in Counter(self.caches).items())
        return f"{self.source.count(chr(10))} lines, caches: {caches or 'none'}"

    def _repr_html_(self) -> str:
        return cards.card(
            self.headline(),
            {},
            cards.lines("To know", self.notes),
            cards.source("Source", self.source),
        )

    @property
    def texts(self) -> Mapping[str, str]:
        """Files of its folder beside the source, the configuration and the arrays."""
        return {}

    @cached_property
    def weights(self) -> dict[str, Any]:
        """All arrays of the model by their names in the tree."""
        return self._in_layers(self._arrays)

    @property
    def _arrays(self) -> dict[str, Any]:
        """All arrays of the model by the names that `convert` gives them."""
        return {**self._made.weights, **self._made.constants}

    @cached_property
    def module(self) -> nn.Module:
        """The live model: takes token ids (B, L) and a list of caches, gives logits (B, L, V)."""
        made = run_file(self.source, f"language_model_{next(_SERIAL)}", known=True)
        with preserved_stream():
            model = made.Model(made.ModelArgs.from_dict(dict(self.config)))
        weights = self._in_layers(self._made._stored.zeros()) if self._empty else self.weights
        model.load_weights(list(weights.items()), strict=True)
        model.eval()
        return model

    def _in_layers(self, arrays: dict[str, Any]) -> dict[str, Any]:
        stored = getattr(self._made, "_stored", None)
        return arrays if stored is None else stored.in_layers(arrays)

    @property
    def _empty(self) -> bool:
        """Whether the model had shapes alone."""
        stored = getattr(self._made, "_stored", None)
        return stored is not None and is_empty(stored.model)

    def save(
        self,
        folder: str | Path,
        *,
        tokenizer: str | Path | None = None,
        force: bool = False,
        weights: Any = None,
        progress: Progress | bool | None = None,
        key: str | None = None,
        dtype: Any = None,
    ) -> Path:
        """Writes a folder that mlx-lm loads with `trust_remote_code=True`: model.py,
        model.safetensors, config.json.

        `tokenizer`: a folder whose tokenizer, chat template and generation_config.json go along.
        `weights`: a checkpoint to take the weights from, tensor by tensor, for a model on the meta
        device, with `progress`, `key` and `dtype` as `Translation.save` takes them.
        What `save` wrote before may be replaced; `force`: anything else too. Raises WriteError
        where something of the user's would be replaced.
        """
        place = Path(folder)
        source = None if tokenizer is None else Path(tokenizer)
        guard = Guard(paths_of(source), force)

        def write(target: Path) -> None:
            if weights is None:
                save_arrays(target, self._arrays, place)
                return
            if self._made.constants:
                raise TranslationError(f"no checkpoint has {', '.join(self._made.constants)}")
            converted(weights, target, self._made._stored, progress, key, dtype)

        with truthful():
            save_language(place, self.source, self.config, write, source, guard)
            trust.remember(place)
        return place


def language_model(
    model: Any, *, check: bool = True, sizes: bool = False
) -> LanguageModel | EncoderDecoder:
    """Makes of a causal language model of transformers a file that mlx-lm runs, with a cache; of an
    encoder-decoder model one that `load` reads and `generate` runs.

    `check`: prefilled in pieces and then token by token, it is compared with torch before this
    returns. `sizes`: the file is one for all sizes, which its `ModelArgs` say; models of other
    sizes are made and compared for that.

    Raises TranslationError where it differs, and for a model whose state no cache can
    follow; ExportError and UnsupportedOperatorError as `translate` does.
    """
    need("language_model", "torch", "mlx", "transformers")
    encodes = getattr(model.config, "is_encoder_decoder", False)
    if not encodes:
        need("language_model", "mlx_lm")
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        if encodes:
            if sizes:
                raise TranslationError("sizes=True is for models without an encoder")
            with preserved(model), plainly():
                return encoder_decoder(model, check)
        if sizes:
            return sized_language(model, partial(language_model, check=check), _formed)
        with preserved(model), plainly():
            return any_number_or_one(partial(_proved, model, check))
    finally:
        for module, training in modes:
            module.training = training


def _proved(model: Any, check: bool, tokens: int) -> LanguageModel:
    """The file in the first of its forms that is right; in that without padding otherwise."""
    known: dict[tuple[str, ...], Lowered] = {}
    forms = forms_of(model, tokens) if check else ()
    tried = (_with_padding(model, form, known) for form in forms)
    made = next((one for one in tried if one is not None), None)
    if made is None:
        made = _written(model, Form(tokens), known)
        if check:
            proved(model, made.module)
    if tokens > 1:
        return made
    return replace(made, notes=(*made.notes, "the tokens of a call are taken one by one"))


def _with_padding(model: Any, form: Form, known: dict[Any, Lowered]) -> LanguageModel | None:
    """The file that takes batches with padding; None where it is not right."""
    try:
        made = _written(model, form, known)
        proved(model, made.module)
    except (ExportError, TranslationError, UnsupportedOperatorError):
        return None
    return made if padding_left_out(model, made.module) else None


def _formed(model: Any, like: LanguageModel) -> LanguageModel:
    """The file of a model in the form that another one was found to have, not compared; in that
    without padding where its attention leaves none out: the two files differ then."""
    with preserved(model), plainly():
        try:
            return _written(model, like._form, {})
        except TranslationError:
            return _written(model, Form(like._form.tokens), {})


def _written(model: Any, form: Form, known: dict[Any, Lowered]) -> LanguageModel:
    """The file in a form; `known` are lowered calls by what these are told of padding.

    Raises TranslationError where a form has no such file.
    """
    if form.told not in known:
        with standing_in(model):
            step = step_of(model, form)
        found = lowered(model, step)
        lengths = of_tokens(found.traced.lengths, model.main_input_name, form.tokens)
        known[form.told] = replace(found, traced=replace(found.traced, lengths=lengths))
    return _emitted(model, known[form.told], form)


def _emitted(model: Any, found: Lowered, form: Form) -> LanguageModel:
    entries, stored, traced = found.entries, found.stored, found.traced
    held = with_calls(lifted(found.program, entries), stored.tree)
    program, stored.experts = with_expert_layers(with_idioms(held, stored.tree), stored.plan.ties)
    program = without_dead(with_few_rows(program))
    if form.padded:
        refuse_padded(program, entries, MASK in form.told)
    stored.keep_used(program)
    assembly = Assembly(program, traced, stored, stored.tree)
    kind = type(model)
    heading = f"{kind.__name__} in MLX, translated from {kind.__module__}."
    told = Told(
        assembly.root.name,
        layers_of(assembly, program),
        form,
        attends(program),
        tuple(read_bare(program, stored.tree)),
        quantized=may_be_quantized(program),
        experts=bool(stored.experts),
        stored=stored_names(model),
        adds=adds_masks(program),
        causal=is_causal(program),
    )
    kinds = tuple(entry.kind for entry in entries)
    config = json.loads(model.config.to_json_string(use_diff=False))
    end = ending(found.program, entries, told)
    source = written(assembly, heading, end.text, end.imports)
    made = Translation(source, "Model", False, traced.dynamic, _stored=stored)
    return LanguageModel(source, config, kinds, traced.notes, made, form)


def layers_of(assembly: Assembly, program: Any) -> str:
    """The expression of the list of blocks that use the caches."""
    paths = [
        frame.path
        for node in program.nodes
        if node.op in ("method.update_and_fetch", "slot")
        for frame in node.scope
        if frame.path.rpartition(".")[2].isdigit()
    ]
    if not paths:
        return "[]"
    return assembly.member(paths[0]).rpartition("[")[0]


__all__ = ["LanguageModel", "language_model"]
