"""The end of a file whose model keeps its state in caches: what mlx-lm calls."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch2mlx.export.ir.nodes import Program, dtype_name
from torch2mlx.export.ir.render import literal
from torch2mlx.export.state.kinds import Entry, Leaf
from torch2mlx.export.state.placing import MASK, Form
from torch2mlx.export.state.stepping import ONE, STATE
from torch2mlx.export.state.stored_names import StoredNames

_ARGS = """
@dataclass
class ModelArgs(BaseModelArgs):
    model_type: str
"""
_MODEL = '''
class Model({root}):
    """What mlx-lm runs: it keeps what the calls before left in a cache."""

    def __init__(self, args):
        super().__init__()
        self.args = args
        self.model_type = args.model_type

    def __call__(self, inputs, cache=None):
        if cache is None:
            cache = self.make_cache()
{checks}{bits}{begin}{answer}
    @property
    def layers(self):
        return {layers}

    def make_cache(self):
        return {caches}

    def sanitize(self, weights):
{stored}        return {weights}
'''
_PREDICATE = """
    @property
    def quant_predicate(self):
        kept = {paths}
        return lambda path, module: hasattr(module, "to_quantized") and not path.endswith(kept)
"""
_LENGTH = '''
def length_of(cache):
    """How many tokens a cache holds, the same for all sequences of a batch."""
    return cache.offset if isinstance(cache.offset, int) else {count}

'''
_BATCHED = 'getattr(cache, "_offset", cache._idx)'
_ATTENTION = '''
def scaled_dot_product_attention(queries, keys, values, cache, scale, mask):
    """Attention to what a cache holds, but for the padding before the sequences of a batch."""
{single}    padding = getattr(cache, "left_padding", None)
    if padding is not None:
        seen = mx.arange(keys.shape[2]) >= padding[:, None, None, None]
{causal}        mask = seen if mask is None else {masked}
    return base.scaled_dot_product_attention(queries, keys, values, cache, scale, mask)

'''
_CAUSAL = """        if isinstance(mask, str):
            first = keys.shape[2] - queries.shape[2]
            before = mx.arange(keys.shape[2]) <= mx.arange(first, keys.shape[2])[:, None]
            mask, seen = None, seen & before
"""
_SINGLE = """    if isinstance(mask, str) and queries.shape[2] == 1:
        mask = None  # all that a cache holds is before one query
"""
_AND, _ADDED = "mask & seen", "mx.where(seen, mask, mx.finfo(mask.dtype).min)"
_CUT = '''
def scaled_dot_product_attention(queries, keys, values, cache, scale, mask):
    """Attention to what a cache holds, from which keys outside of a window are gone."""
    if isinstance(mask, mx.array):
        mask = mask[..., -keys.shape[2] :]
    return base.scaled_dot_product_attention(queries, keys, values, cache, scale, mask)

'''
_UNPADDED = "        refuse_padding(cache)\n"
_REFUSING = '''
def refuse_padding(cache):
    """Raises ValueError for caches of sequences of which some have padding before or after them."""
    for held in cache:
        before, lengths = getattr(held, "left_padding", None), getattr(held, "lengths", None)
{places}        padded = before is not None and {padded}
        if padded or (lengths is not None and mx.any(lengths != lengths[0]).item()):
            raise ValueError("this file takes no batches of sequences with padding")

'''
_PLACES = '        places = getattr(held, "offset", before)\n'
_ANY = "mx.any(before).item()"
#: What fell out of a window is no padding, but sequences are in one place only where none was.
_SAME = "mx.any((before > 0) | (held.offset != held.offset[0])).item()"
_UNQUANTIZED = "        refuse_quantized(cache)\n"
_REFUSING_BITS = '''
def refuse_quantized(cache):
    """Raises ValueError for caches that hold keys and values in a few bits."""
    if any(hasattr(held, "bits") for held in cache):
        raise ValueError(
            "the attention of this file is written out and takes no quantized keys and values: "
            "leave --kv-bits out"
        )

'''
_PADDING = '''
def padding_of(cache, inputs):
    """How many tokens of padding are before each sequence of a batch."""
    for held in cache:
        if hasattr(held, "left_padding") and hasattr(held, "offset"):
            return held.left_padding
    return mx.zeros(inputs.shape[0], dtype=mx.int32)

'''
_WHOLE = "        return super().__call__({inputs})\n"
_BY_ONE = """        call = super().__call__
        steps = [call({inputs}) for i in range(inputs.shape[1])]
        return mx.concatenate(steps, axis=1)
"""
_IN_PIECES = """        call, parts = super().__call__, {parts}
        steps = [kept(call, part, {inputs}) for part in parts]
        return mx.concatenate(steps, axis=1) if len(steps) > 1 else steps[0]
"""
_ONES = "mx.split(inputs, inputs.shape[1], axis=1)"
_PIECES = '''
def pieces_of(cache, inputs):
    """The tokens of a call, cut where the padding before or after a sequence begins or ends."""
    held = next(held for held in cache if isinstance(held, ArraysCache))
    told = [ends.tolist() for ends in (held.left_padding, held.lengths) if ends is not None]
    cuts = sorted({end for ends in told for end in ends if 0 < end < inputs.shape[1]})
    return mx.split(inputs, cuts, axis=1) if cuts else [inputs]

'''
_KEPT = '''
def kept(call, tokens, *more):
    """What a call answers; the states of sequences that have padding there stay as they are."""
    slots = [held for held in more[-1] if isinstance(held, ArraysCache)]
    before = [list(held.cache) for held in slots]
    answer = call(tokens, *more)
    for held, states in zip(slots, before):
        own = held.make_mask(1)
        if own is not None:
            own = own[:, 0]
            held.cache = [
                mx.where(mx.expand_dims(own, tuple(range(1, new.ndim))), new, old)
                for new, old in zip(held.cache, states)
            ]
        held.advance(tokens.shape[1])
    return answer

'''
_BEGIN = '''
def begin(cache, {names}):
    """Zeros in the places of a cache that no call has written to."""
    shapes = {shapes}
    for i, sizes in shapes.items():
        for place, size in enumerate(sizes):
            if cache[i][place] is None:
                cache[i][place] = mx.zeros({size})
'''
_STREAMING = '''
class {name}({root}):
    """It keeps what the calls before left in a cache, which `make_cache` gives."""

    def __call__(self, {arguments}, cache=None):
        if cache is None:
            cache = self.make_cache()
        begin(cache, {names})
        return super().__call__({arguments}, cache)

    def make_cache(self):
        return {caches}
'''


@dataclass(frozen=True)
class Ending:
    """The last classes of a file, and what it imports for them."""

    text: str
    imports: tuple[str, ...]


@dataclass(frozen=True)
class Told:
    """What the end of a file has to know: the root class, the expression of the list of blocks,
    the form, whether attention goes through caches, and the paths of layers that cannot be
    quantized."""

    root: str
    layers: str
    form: Form
    attends: bool
    bare: tuple[str, ...] = ()
    #: Whether keys and values may be quantized in a cache.
    quantized: bool = True
    #: Whether there are layers of experts, whose weights have shorter names in checkpoints.
    experts: bool = False
    #: What checkpoints call otherwise, and hold for each expert apart.
    stored: StoredNames = field(default_factory=StoredNames)
    #: Whether masks are added to what is masked.
    adds: bool = False
    #: Whether some are MLX's "causal".
    causal: bool = False

    @property
    def leaves_out(self) -> bool:
        """Whether attention leaves out the padding of a batch, of which no mask tells."""
        return self.form.padded and MASK not in self.form.told


def ending(program: Program, entries: Sequence[Entry], told: Told) -> Ending:
    """The end of a file; `program` is the one whose state is not lifted."""
    slots = any(entry.slots for entry in entries)
    kinds = {entry.kind for entry in entries}
    text = _length(kinds)
    rotating = "RotatingKVCache" in kinds
    cut = told.attends and rotating
    text += _CUT if cut else ""
    refusing = {"places": _PLACES * rotating, "padded": _SAME if rotating else _ANY}
    text += _attention(told) if told.leaves_out else ""
    text += _PADDING if told.form.told else ""
    text += "" if told.form.padded else _REFUSING.format(**refusing)
    text += "" if told.quantized else _REFUSING_BITS
    keeps = slots and told.form.padded
    text += _PIECES * (keeps and told.form.tokens != ONE) + _KEPT * keeps
    text += _ARGS
    if slots:
        main = str(program.inputs[0].path[0])
        text += "\n" + _beginning(program, entries, {main: "inputs"})[0]
    made = _MODEL.format(
        root=told.root,
        checks="" if told.form.padded else _UNPADDED,
        bits="" if told.quantized else _UNQUANTIZED,
        begin="        begin(cache, inputs)\n" if slots else "",
        answer=_answer(told.form, keeps),
        layers=told.layers,
        caches=_caches(entries),
        stored=told.stored.statements() if told.stored else "",
        weights="kit.moe.for_layers(self, weights)" if told.experts else "weights",
    )
    if told.bare:
        made += _PREDICATE.format(paths=literal(_bare(told.bare)))
    imports = (
        "from dataclasses import dataclass",
        *_bases(told, cut),
        f"from mlx_lm.models.cache import {', '.join(sorted(kinds))}",
    )
    return Ending(text + "\n" + made, imports)


def _attention(told: Told) -> str:
    """The function that attends to what is no padding."""
    masked = _ADDED if told.adds else _AND
    single, causal = (_SINGLE, _CAUSAL) if told.causal else ("", "")
    return _ATTENTION.format(single=single, causal=causal, masked=masked)


def _answer(form: Form, keeps: bool) -> str:
    """The statements that call the model; `keeps`: whether states are kept where padding is."""
    padding = "padding_of(cache, inputs), " if form.told else ""
    one = form.tokens == ONE
    if keeps:
        parts = _ONES if one else "pieces_of(cache, inputs)"
        return _IN_PIECES.format(inputs=f"{padding}cache", parts=parts)
    if one:
        return _BY_ONE.format(inputs=f"inputs[:, i : i + 1], {padding}cache")
    return _WHOLE.format(inputs=f"inputs, {padding}cache")


def _length(kinds: set[str]) -> str:
    """The function that tells how many tokens a cache holds."""
    if not kinds & {"KVCache", "RotatingKVCache"}:
        return ""
    return _LENGTH.format(count=_BATCHED if "RotatingKVCache" in kinds else "cache._idx")


def _bases(told: Told, cut: bool) -> list[str]:
    """The lines that import what mlx-lm has for all models. `cut`: the file has an attention of its
    own, for masks that are longer than there are keys."""
    own = told.leaves_out or cut
    direct = ", scaled_dot_product_attention" if told.attends and not own else ""
    lines = ["from mlx_lm.models import base"] if own else []
    return [*lines, f"from mlx_lm.models.base import BaseModelArgs{direct}"]


def _bare(paths: Sequence[str]) -> tuple[str, ...]:
    """The ends of paths, without the numbers of blocks, each once."""
    ends = (re.split(r"\.\d+\.", path)[-1] for path in paths)
    return tuple(dict.fromkeys(ends))


def _cache(entry: Entry) -> str:
    """A new cache."""
    given = {"ArraysCache": len(entry.slots), "RotatingKVCache": entry.window}.get(entry.kind, "")
    return f"{entry.kind}({given})"


def _caches(entries: Sequence[Entry]) -> str:
    """The list of new caches; one that repeats is written once."""
    each = [_cache(entry) for entry in entries]
    if len(set(each)) == 1 and len(each) > 1:
        return f"[{each[0]} for _ in range({len(each)})]"
    return f"[{', '.join(each)}]"


def _beginning(
    program: Program, entries: Sequence[Entry], called: Mapping[str, str]
) -> tuple[str, str]:
    """The function that fills new caches, and the arguments it takes beside one; `called` has
    other names for the arguments of the program."""
    told = _told(program, called)
    kinds = {dtype_name(leaf.before.value) for entry in entries for leaf in entry.slots}
    plain = kinds == {"float32"}
    shapes = []
    for number, entry in enumerate(entries):
        if entry.slots:
            sizes = ", ".join(_size(leaf, told, plain) for leaf in entry.slots)
            shapes.append(f"{number}: [{sizes}]")
    each = {shape.partition(": ")[2] for shape in shapes}
    text = f"{{{', '.join(shapes)}}}"
    if len(each) == 1 and len(shapes) == len(entries) > 1:
        text = f"{{i: {each.pop()} for i in range({len(shapes)})}}"
    names = [name for name in dict.fromkeys(t.partition(".")[0] for t in told.values())]
    names = [name for name in names if f"{name}." in text] or names[:1]
    given = ", ".join(names)
    return _BEGIN.format(names=given, shapes=text, size="size" if plain else "*size"), given


def _told(program: Program, called: Mapping[str, str]) -> Mapping[str, str]:
    """Free lengths that the model's own arguments tell."""
    found: dict[str, str] = {}
    for given in program.inputs:
        if given.path[0] == STATE or given.node is None or len(given.path) > 1:
            continue
        name = called.get(given.path[0], given.path[0])
        for axis, dim in enumerate(given.node.dims or ()):
            if isinstance(dim, str):
                found.setdefault(dim, f"{name}.shape[{axis}]")
    return found


def _size(leaf: Leaf, told: Mapping[str, str], plain: bool) -> str:
    texts = [str(length) for length in leaf.lengths(told)]
    shape = f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"
    return shape if plain else f"({shape}, mx.{dtype_name(leaf.before.value)})"


def streaming_end(program: Program, entries: Sequence[Entry], root: str) -> tuple[str, str]:
    """The end of the file of a model that is no language model: (text, name of the class)."""
    begin, names = _beginning(program, entries, {})
    name = f"Streaming{root}"
    given = [str(i.path[0]) for i in program.inputs if i.path[0] != STATE]
    caches = [f"[None] * {len(entry.slots)}" for entry in entries]
    made = _STREAMING.format(
        name=name,
        root=root,
        arguments=", ".join(dict.fromkeys(given)),
        names=names,
        caches=f"[{', '.join(caches)}]",
    )
    return f"{begin}\n{made}", name
