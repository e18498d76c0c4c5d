"""Files for all sizes of whole families: `python -m tests.zoo.all_sizes [family ...]`.

Translates a small causal language model of each family with `sizes=True`, loads the weights of
another of other sizes into the file, and compares the logits of both frameworks, prefilled in two
pieces and then token by token, in batches of 1 and 3. It prints a line for each, and a count.
"""

from __future__ import annotations

import json
import sys
import time
import types
import warnings
from collections import Counter
from typing import Any

LENGTH, PIECES = 20, (4, 3)
ALLOWED = 1e-4
#: The class of the configuration, what a model has, and what another has that the file must load.
FAMILIES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "llama": (
        "LlamaConfig",
        {"hidden_size": 24, "intermediate_size": 36, "num_hidden_layers": 2, "vocab_size": 40}
        | {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64},
        {"hidden_size": 30, "intermediate_size": 44, "num_hidden_layers": 3, "vocab_size": 53}
        | {"num_attention_heads": 3, "num_key_value_heads": 1, "max_position_embeddings": 80},
    ),
    "gpt2": (
        "GPT2Config",
        {"n_embd": 24, "n_layer": 2, "n_head": 4, "vocab_size": 40, "n_positions": 64},
        {"n_embd": 30, "n_layer": 3, "n_head": 3, "vocab_size": 53, "n_positions": 80},
    ),
    "opt": (
        "OPTConfig",
        {"hidden_size": 24, "ffn_dim": 36, "num_hidden_layers": 2, "word_embed_proj_dim": 24}
        | {"num_attention_heads": 4, "vocab_size": 40, "max_position_embeddings": 64},
        {"hidden_size": 30, "ffn_dim": 44, "num_hidden_layers": 3, "word_embed_proj_dim": 30}
        | {"num_attention_heads": 3, "vocab_size": 53, "max_position_embeddings": 80},
    ),
    "bloom": (
        "BloomConfig",
        {"hidden_size": 24, "n_layer": 2, "n_head": 4, "vocab_size": 40},
        {"hidden_size": 40, "n_layer": 3, "n_head": 8, "vocab_size": 53},
    ),
    "gemma2": (
        "Gemma2Config",
        {"hidden_size": 24, "intermediate_size": 36, "num_hidden_layers": 2, "head_dim": 8}
        | {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 40}
        | {"max_position_embeddings": 64, "sliding_window": 8, "query_pre_attn_scalar": 16},
        {"hidden_size": 30, "intermediate_size": 44, "num_hidden_layers": 4, "head_dim": 10}
        | {"num_attention_heads": 6, "num_key_value_heads": 3, "vocab_size": 53}
        | {"max_position_embeddings": 80, "sliding_window": 6, "query_pre_attn_scalar": 20},
    ),
    "mixtral": (
        "MixtralConfig",
        {"hidden_size": 24, "intermediate_size": 36, "num_hidden_layers": 2, "vocab_size": 40}
        | {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
        | {"num_local_experts": 4, "num_experts_per_tok": 2},
        {"hidden_size": 36, "intermediate_size": 44, "num_hidden_layers": 3, "vocab_size": 53}
        | {"num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 80}
        | {"num_local_experts": 5, "num_experts_per_tok": 3},
    ),
    "mamba": (
        "MambaConfig",
        {"hidden_size": 24, "state_size": 4, "num_hidden_layers": 2, "vocab_size": 40},
        {"hidden_size": 30, "state_size": 6, "num_hidden_layers": 3, "vocab_size": 53}
        | {"conv_kernel": 3, "time_step_rank": 5},
    ),
}


def built(kind: str, values: dict[str, Any]) -> Any:
    """A model with weights drawn at random, norms and biases too."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, kind)(**values)
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def loaded(source: str, model: Any) -> Any:
    """The file's model at the sizes of torch's, with its weights."""
    from torch2mlx.language import language_model

    name = "all_sizes_model"
    made = sys.modules[name] = types.ModuleType(name)
    exec(compile(source, f"<{name}>", "exec", dont_inherit=True), made.__dict__)
    config = json.loads(model.config.to_json_string(use_diff=False))
    module = made.Model(made.ModelArgs.from_dict(config))
    weights = language_model(model, check=False).weights
    module.load_weights(list(weights.items()), strict=True)
    module.eval()
    return module


def apart(model: Any, module: Any) -> float:
    """The largest difference of logits, by the largest of torch's at its place."""
    from torch2mlx.export.state.causal import some_tokens
    from torch2mlx.export.state.generating import differences

    ids = (some_tokens(model, batch, LENGTH, batch) for batch in (1, 3))
    return max(max(differences(model, module, one, PIECES)) for one in ids)


def line_of(family: str) -> tuple[str, str]:
    """What came of a family: a word, and the rest of its line."""
    from torch2mlx.errors import Torch2MLXError
    from torch2mlx.language import language_model

    kind, own, other = FAMILIES[family]
    start = time.process_time()
    try:
        made = language_model(built(kind, own), sizes=True)
    except Torch2MLXError as problem:
        return "refused", " ".join(str(problem).split())[:300]
    spent = time.process_time() - start
    model = built(kind, other)
    try:
        found = apart(model, loaded(made.source, model))
    except ValueError as problem:  # of the file, for sizes that it does not take
        return "refused", f"at other sizes: {problem}"
    notes = "".join(f"; {note}" for note in made.notes)
    return "ok" if found <= ALLOWED else "differs", f"{found:.1e}, {spent:.0f} s{notes}"


def main() -> int:
    """Prints the lines; fails where one is not ok."""
    warnings.simplefilter("ignore")
    count: Counter[str] = Counter()
    for family in sys.argv[1:] or FAMILIES:
        word, told = line_of(family)
        count[word] += 1
        print(f"{word:8} {family:12} {told}", flush=True)
    told = ", ".join(f"{n} {word}" for word, n in count.most_common())
    print(f"{told} of {count.total()} families")
    return 1 if set(count) != {"ok"} else 0


if __name__ == "__main__":
    sys.exit(main())
