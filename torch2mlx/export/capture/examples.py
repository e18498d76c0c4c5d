"""Example inputs of usual shapes for a transformers model, by their names."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch2mlx.common import options
from torch2mlx.errors import TranslationError

_ENTRY = re.compile(r"(?P<name>\w+)(=((?P<flag>true|false)|(?P<shape>\d+(x\d+)*)))?")
_BATCH, _LENGTH, _LATER, _SAMPLES = 2, 9, 5, 16000


@dataclass(frozen=True)
class Wanted:
    """An input: its name, and a shape or a flag where one was given."""

    name: str
    shape: tuple[int, ...] = ()
    flag: bool | None = None


def parse(text: str) -> list[Wanted]:
    """The inputs of --inputs: "input_ids,pixel_values=2x3x224x224,use_cache=false".

    Raises TranslationError for what is none of these.
    """
    found = []
    for part in text.split(","):
        match = _ENTRY.fullmatch(part.strip())
        if match is None:
            raise TranslationError(
                f"{options.given('inputs', text)}: {part.strip()!r} is no input; write NAME, "
                "NAME=2x3x224x224, or NAME=true"
            )
        shape = tuple(map(int, match["shape"].split("x"))) if match["shape"] else ()
        flag = match["flag"] == "true" if match["flag"] else None
        found.append(Wanted(match["name"], shape, flag))
    return found


@dataclass
class _Maker:
    """Makes inputs that fit each other: one batch, one length, the dtype of the model."""

    model: Any
    given: dict[str, tuple[int, ...]]
    masked: bool
    pictured: bool
    draw: Any = field(init=False)

    def __post_init__(self) -> None:
        import torch

        self.draw = torch.Generator().manual_seed(0)

    @property
    def config(self) -> Any:
        return self.model.config

    def part(self, name: str) -> Any:
        """The configuration of a part: of the text, of the images."""
        return getattr(self.config, name, self.config) or self.config

    def shape(self, name: str, *usual: int) -> tuple[int, ...]:
        return self.given.get(name) or usual

    def tokens(self) -> tuple[int, int]:
        """(batch, length) of the text."""
        known = [s for name, s in self.given.items() if name in _TEXT and len(s) >= 2]
        return (known[0][0], known[0][1]) if known else (_BATCH, _LENGTH + self.patches)

    @cached_property
    def patches(self) -> int:
        """How many tokens of each text stand for a picture; 0 where that is not known."""
        if not self.pictured or not hasattr(self.model, "get_image_features"):
            return 0
        with suppress(Exception):  # it takes more than pictures
            return _tokens_of(self.model, self.floats(*_pixels(self, 1)))
        return 0

    def floats(self, *shape: int) -> Any:
        import torch

        dtype = self.model.dtype if self.model.dtype.is_floating_point else torch.float32
        return torch.randn(*shape, generator=self.draw).to(dtype)

    def words(self, shape: tuple[int, ...]) -> Any:
        import torch

        size = max(getattr(self.part("text_config"), "vocab_size", 100) or 100, 4)
        return torch.randint(3, min(size, 1000), shape, generator=self.draw)


def _padded(maker: _Maker, shape: tuple[int, ...]) -> Any:
    """A mask of ones, but for the last third of the last row: what pads a shorter text."""
    import torch

    mask = torch.ones(shape, dtype=torch.int64)
    if len(shape) >= 2 and shape[0] > 1:
        mask[-1, ..., shape[-1] - shape[-1] // 3 :] = 0
    return mask


def _input_ids(maker: _Maker) -> Any:
    ids = maker.words(maker.shape("input_ids", *maker.tokens()))
    padding = getattr(maker.part("text_config"), "pad_token_id", None)
    if maker.masked and isinstance(padding, int) and padding >= 0:
        ids[_padded(maker, tuple(ids.shape)) == 0] = padding
    if maker.pictured and ids.ndim == 2:
        ids[:, 1 : 1 + maker.patches] = _image_token(maker.config)
    return ids


def _image_token(config: Any) -> Any:
    """The token that stands for a part of a picture; None in models without."""
    names = ("image_token_id", "image_token_index")
    return next((t for t in (getattr(config, n, None) for n in names) if t is not None), None)


def _tokens_of(model: Any, picture: Any) -> int:
    """How many tokens a picture is worth."""
    import torch

    with torch.no_grad():
        answer = model.get_image_features(pixel_values=picture)
    found = getattr(answer, "pooler_output", answer)
    parts = [found] if isinstance(found, torch.Tensor) else list(found)
    return sum(part.numel() // part.shape[-1] for part in parts)


def _token_types(maker: _Maker) -> Any:
    import torch

    kinds = torch.zeros(maker.shape("token_type_ids", *maker.tokens()), dtype=torch.int64)
    if (getattr(maker.part("text_config"), "type_vocab_size", 0) or 0) > 1:
        kinds[..., kinds.shape[-1] // 2 :] = 1
    return kinds


def _decoder_ids(maker: _Maker) -> Any:
    batch = 1 if maker.model.main_input_name == "input_features" else maker.tokens()[0]
    return maker.words(maker.shape("decoder_input_ids", batch, _LATER))


def _positions(maker: _Maker) -> Any:
    import torch

    batch, length = maker.shape("position_ids", *maker.tokens())
    return torch.arange(length).expand(batch, length).clone()


def _embeddings(maker: _Maker) -> Any:
    hidden = getattr(maker.part("text_config"), "hidden_size", 16)
    return maker.floats(*maker.shape("inputs_embeds", *maker.tokens(), hidden))


def _pixels(maker: _Maker, batch: int = 0) -> tuple[int, ...]:
    vision = maker.part("vision_config")
    size = getattr(vision, "image_size", 224) or 224
    height, width = (size, size) if isinstance(size, int) else (size[0], size[-1])
    channels = getattr(vision, "num_channels", 3) or 3
    return maker.shape("pixel_values", batch or maker.tokens()[0], channels, height, width)


def _pixel_mask(maker: _Maker) -> Any:
    batch, _, height, width = _pixels(maker)
    return _padded(maker, maker.shape("pixel_mask", batch, height, width))


def _sounds(maker: _Maker) -> tuple[int, ...]:
    return maker.shape("input_values", _BATCH, _SAMPLES)


def _spectra(maker: _Maker) -> tuple[int, ...]:
    frames = 2 * getattr(maker.config, "max_source_positions", 1500)
    return maker.shape("input_features", 1, getattr(maker.config, "num_mel_bins", 80), frames)


def _mask(maker: _Maker) -> Any:
    main = maker.model.main_input_name
    usual = {"input_values": _sounds, "input_features": _spectra}.get(main)
    shape = maker.tokens() if usual is None else usual(maker)
    two = (shape[0], shape[-1])
    return _padded(maker, maker.shape("attention_mask", *two))


#: How an input of a name is made.
_MADE: dict[str, Callable[[_Maker], Any]] = {
    "input_ids": _input_ids,
    "attention_mask": _mask,
    "token_type_ids": _token_types,
    "position_ids": _positions,
    "inputs_embeds": _embeddings,
    "decoder_input_ids": _decoder_ids,
    "pixel_values": lambda maker: maker.floats(*_pixels(maker)),
    "pixel_mask": _pixel_mask,
    "input_values": lambda maker: maker.floats(*_sounds(maker)),
    "input_features": lambda maker: maker.floats(*_spectra(maker)),
}
_TEXT = ("input_ids", "inputs_embeds", "attention_mask", "token_type_ids", "position_ids")
#: Entries of a configuration whose models want a token in the text for every patch of an image.
_INTERLEAVED = ("image_token_id", "image_token_index", "audio_token_id", "audio_token_index")


def usual(model: Any, names: Sequence[str]) -> list[Wanted]:
    """The inputs that a model's tokenizer or processor gives, out of `names`, its main one first.

    A decoder's first tokens are added. Raises TranslationError where nothing is known of it.
    """
    main, taken = model.main_input_name, inspect.signature(model.forward).parameters
    if main not in _MADE:
        raise TranslationError(
            f"no example inputs are known for {main!r} of {type(model).__name__}: name them with "
            f"{options.given('inputs', f'{main}=2x16')} and their shapes, or give a function"
        )
    found = [name for name in names if name in _MADE]
    if any(getattr(model.config, entry, None) is not None for entry in _INTERLEAVED):
        found = [name for name in found if name in _TEXT]
    if main in taken and main not in found:
        found = [main, *(name for name in found if name not in _TEXT or main in _TEXT)]
    if "decoder_input_ids" in taken and main not in ("pixel_values", "input_values"):
        found.append("decoder_input_ids")
    return [Wanted(name) for name in dict.fromkeys(found)]


def made(model: Any, wanted: Sequence[Wanted]) -> dict[str, Any]:
    """Example inputs. Raises TranslationError for a name that the model's forward does not take,
    and for one without a shape whose usual shape is not known."""
    taken = inspect.signature(model.forward).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in taken.values())
    names = [one.name for one in wanted]
    pictured = "pixel_values" in names and _image_token(model.config) is not None
    masked = "attention_mask" in names
    maker = _Maker(model, {w.name: w.shape for w in wanted if w.shape}, masked, pictured)
    found: dict[str, Any] = {}
    for one in wanted:
        known = one.name in _MADE or one.flag is not None
        if one.name not in taken and not (open_ended and known):
            raise TranslationError(_untaken(model, one.name, list(taken)))
        found[one.name] = one.flag if one.flag is not None else _one(maker, one)
    if "use_cache" in taken:
        found.setdefault("use_cache", False)
    return found


def without_cache(model: Any) -> None:
    """Tells a model whose forward has no use_cache of its own to answer no cache.

    torch.export frees no length where an input goes into **kwargs.
    """
    if "use_cache" not in inspect.signature(model.forward).parameters:
        for part in (model.config, getattr(model.config, "text_config", None)):
            if part is not None and getattr(part, "use_cache", False):
                part.use_cache = False


def left_out(names: Sequence[str], wanted: Sequence[Wanted]) -> str:
    """What there is to say of inputs that a processor gives and that are not among the usual
    ones; "" where there are none."""
    chosen = [one.name for one in wanted]
    missed = [name for name in names if name not in chosen]
    if not missed:
        return ""
    whole = ",".join([*chosen, *missed])
    return (
        f"the example inputs are {', '.join(chosen)}; the model also takes {', '.join(missed)}, "
        f"and is read as it is without: {options.given('inputs', whole)} gives them too"
    )


def _one(maker: _Maker, one: Wanted) -> Any:
    import torch

    if one.name in _MADE:
        return _MADE[one.name](maker)
    if not one.shape:
        raise TranslationError(
            f"{options.given('inputs', one.name)}: give its shape too, as in {one.name}=2x16"
        )
    if one.name.endswith(("_ids", "labels")):
        return maker.words(one.shape)
    if one.name.endswith("_mask"):
        return torch.ones(one.shape, dtype=torch.int64)
    return maker.floats(*one.shape)


def _untaken(model: Any, name: str, taken: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, taken, 1)
    advice = f"did you mean {close[0]}?" if close else f"it takes {', '.join(taken)}"
    return f"{options.given('inputs', name)}: {type(model).__name__} takes no {name!r}; {advice}"
