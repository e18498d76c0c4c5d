"""Tiny, randomly initialised transformers models, one per architecture, with example inputs."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

_SMALL = {
    **dict.fromkeys(
        [
            "hidden_size",
            "d_model",
            "n_embd",
            "dim",
            "embed_dim",
            "emb_dim",
            "model_dim",
            "hidden_dim",
        ],
        32,
    ),
    **dict.fromkeys(
        ["num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers"], 2
    ),
    **dict.fromkeys(["decoder_layers", "num_encoder_layers", "num_decoder_layers"], 2),
    **dict.fromkeys(["num_attention_heads", "n_head", "n_heads", "num_heads"], 4),
    **dict.fromkeys(["encoder_attention_heads", "decoder_attention_heads"], 4),
    **{"num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 64, "ffn_dim": 64},
    **{"n_inner": 64, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "d_ff": 64, "d_kv": 8},
    **{"hidden_dim_ff": 64, "vocab_size": 128, "max_position_embeddings": 128},
    **{"n_positions": 128, "image_size": 32, "patch_size": 8, "num_experts": 4},
    **{"num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2},
    **{"moe_intermediate_size": 32, "kv_lora_rank": 8, "q_lora_rank": 16},
    **{"qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "embedding_size": 32},
    **{"shared_expert_intermediate_size": 32, "pad_token_id": 0, "bos_token_id": 1},
    **{"eos_token_id": 2, "sliding_window": 16, "n_shared_experts": 1},
    **{"first_k_dense_replace": 1, "n_group": 1, "topk_group": 1},
}
_TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
#: Pictures that are larger get smaller ones, where a model takes them.
_LARGE, _PICTURE = 256, 128
#: Larger models than this are not built.
_MOST_PARAMETERS = 3e8


def shrink(config: Any, level: int = 1, depth: int = 0) -> Any:
    """Makes a config small; level 2 changes layers, vocabulary and large pictures only, level 3 not
    even these."""
    from transformers import PretrainedConfig

    for value in list(config.__dict__.values()):
        if isinstance(value, PretrainedConfig) and depth < 3:
            shrink(value, level, depth + 1)
    few = {k: v for k, v in _SMALL.items() if "layers" in k or k in ("n_layer", "vocab_size")}
    for name, small in (_SMALL if level == 1 else few).items():
        old = getattr(config, name, None)
        number = isinstance(old, int) and not isinstance(old, bool)
        if number and (old > small or name.endswith("token_id")):
            _set(config, name, small)
    size = getattr(config, "image_size", None)
    if level == 2 and isinstance(size, int) and size > _LARGE:
        _set(config, "image_size", _PICTURE)
    for name in _TOKENS:
        if isinstance(getattr(config, name, None), int) and getattr(config, name) >= 128:
            _set(config, name, 1)
    kinds = getattr(config, "layer_types", None)
    if isinstance(kinds, (list, tuple)) and hasattr(config, "num_hidden_layers"):
        _set(config, "layer_types", list(kinds)[: config.num_hidden_layers])
    return config


def small_arguments(config: Any) -> dict[str, int]:
    """Arguments of a configuration's class that make one like it small."""
    numbers = {name: getattr(config, name, None) for name in _SMALL}
    return {
        name: _SMALL[name]
        for name, old in numbers.items()
        if isinstance(old, int) and not isinstance(old, bool) and old > _SMALL[name]
    }


def _set(config: Any, name: str, value: Any) -> None:
    try:
        setattr(config, name, value)
    except Exception:  # some configs compute a field, or refuse a value: it stays
        return


def build(architecture: str, level: int = 1) -> Any:
    """A model by its name in transformers. Raises what transformers raises."""
    import torch
    from transformers import AutoModel
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    torch.manual_seed(0)
    config = shrink(CONFIG_MAPPING[architecture](), level)
    with torch.device("meta"):
        try:
            count = sum(p.numel() for p in AutoModel.from_config(config).parameters())
        except NotImplementedError:
            count = 0
    if count > _MOST_PARAMETERS:
        raise RuntimeError(f"{count} parameters")
    return AutoModel.from_config(config).float().eval()


def inputs(model: Any) -> Iterator[dict[str, Any]]:
    """Example inputs that may fit."""
    names = inspect.signature(model.forward).parameters
    for given in _candidates(model, names):
        yield {**given, "use_cache": False} if "use_cache" in names else dict(given)


def _image(model: Any, generator: Any) -> Any:
    import torch

    config = getattr(model.config, "vision_config", model.config)
    size = getattr(config, "image_size", None) or getattr(model.config, "image_size", None) or 64
    height, width = (size[0], size[-1]) if isinstance(size, (list, tuple)) else (size, size)
    channels = getattr(config, "num_channels", 3) or 3
    return torch.randn(1, channels, height, width, generator=generator)


def _candidates(model: Any, names: Any) -> Iterator[dict[str, Any]]:
    import torch

    draw, config, main = torch.Generator().manual_seed(1), model.config, model.main_input_name
    ids = torch.randint(3, 100, (2, 9), generator=draw)
    normal = lambda *shape: torch.randn(*shape, generator=draw)
    if main == "input_ids":
        if "decoder_input_ids" in names:
            yield {"input_ids": ids, "decoder_input_ids": ids[:, :5]}
        both = hasattr(config, "vision_config") and hasattr(config, "projection_dim")
        if "pixel_values" in names and both:
            yield {"input_ids": ids, "pixel_values": _image(model, draw)}
        yield {"input_ids": ids}
    elif main == "pixel_values":
        image = _image(model, draw)
        yield {"pixel_values": image}
        yield from ({"pixel_values": normal(1, 3, n, n)} for n in (64, 224))
        frames = getattr(config, "num_frames", 4)
        yield {"pixel_values": image.unsqueeze(1).repeat(1, frames, 1, 1, 1)}
        yield {"pixel_values": image, "input_ids": ids[:1]}
    elif main == "input_values":
        bins, length = getattr(config, "num_mel_bins", 128), getattr(config, "max_length", 1024)
        yield from ({"input_values": normal(*s)} for s in ((1, 4000), (1, length, bins)))
        yield {"input_values": normal(1, 1, 4000)}
    elif main == "input_features":
        yield from _features(config, ids, normal)
    try:
        yield dict(model.dummy_inputs)
    except Exception:  # not every model has them
        return


def _features(config: Any, ids: Any, normal: Any) -> Iterator[dict[str, Any]]:
    bins = getattr(config, "num_mel_bins", 80)
    length = 2 * getattr(config, "max_source_positions", 50)
    yield {"input_features": normal(1, bins, length), "decoder_input_ids": ids[:1, :5]}
    yield {"input_features": normal(1, 40, bins), "decoder_input_ids": ids[:1, :5]}
    yield {"input_features": normal(1, 40, bins)}
    width = getattr(config, "feature_projection_input_dim", 160)
    yield {"input_features": normal(1, 40, width)}


def _finite(output: Any) -> bool:
    import torch
    from torch.utils import _pytree as pytree

    leaves = [t for t in pytree.tree_leaves(output) if isinstance(t, torch.Tensor)]
    floats = [t for t in leaves if t.is_floating_point()]
    return bool(floats) and all(bool(torch.isfinite(t).all()) for t in floats)


def working(architecture: str) -> tuple[Any, dict[str, Any]]:
    """A model and inputs that it runs on. Raises RuntimeError when there are none."""
    import torch

    said = []
    for level in (1, 2, 3):
        try:
            model = build(architecture, level)
        except Exception as problem:  # as many kinds as transformers has models
            said.append(f"{type(problem).__name__}: {problem}"[:200])
            continue
        for given in inputs(model):
            try:
                with torch.no_grad():
                    if _finite(model(**given)):
                        return model, given
                said.append("no finite output")
            except Exception as problem:
                said.append(f"{type(problem).__name__}: {problem}"[:200])
    raise RuntimeError(" | ".join(said))


def names() -> list[str]:
    """Architectures that build, run and export."""
    from pathlib import Path

    return (Path(__file__).parent / "archs.txt").read_text().split()
