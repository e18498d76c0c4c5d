"""Toy language models, adapters trained on them, and folders of adapters made of numpy arrays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.support import need

VOCABULARY = 97


def llama(**options):
    """A Llama of three layers, its output layer apart from its embedding."""
    torch, transformers = need("torch", "transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
    sizes["vocab_size"] = VOCABULARY
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
    config = transformers.LlamaConfig(**{**sizes, **heads, "tie_word_embeddings": False, **options})
    return transformers.LlamaForCausalLM(config)


def gpt2():
    """A GPT-2 of three layers, whose linear layers are Conv1D; its output layer is tied."""
    torch, transformers = need("torch", "transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_embd=32, n_layer=3, n_head=4, vocab_size=VOCABULARY, n_positions=64
    )
    return transformers.GPT2LMHeadModel(config)


def tokens(rows=2, length=9, seed=4):
    """Token numbers (rows, length), the same each time."""
    return np.random.default_rng(seed).integers(3, VOCABULARY, (rows, length))


def trained(model, steps=5, **options):
    """An adapter of PEFT on a model, some steps on: no matrix of it is zero any more."""
    torch, peft = need("torch", "peft")
    given = {"task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 10, **options}
    adapted = peft.get_peft_model(model, peft.LoraConfig(**given))
    adapted.train()
    learned = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learned, lr=1e-2)
    ids = torch.from_numpy(tokens(4, 12, 3))
    for _ in range(steps):
        adapted(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return adapted.eval()


def logits(model, ids):
    """What a torch model answers, as an array."""
    (torch,) = need("torch")
    with torch.no_grad():
        return model(input_ids=torch.from_numpy(ids)).logits.float().numpy()


def in_mlx_lm(folder, ids, adapter=None):
    """What mlx-lm answers for the model in a folder, with an adapter loaded as it loads one."""
    mx, utils = need("mlx.core", "mlx_lm.utils")
    model, _ = utils.load_model(Path(folder))
    if adapter is not None:
        model = utils.load_adapters(model, str(adapter))
    model.eval()
    return np.array(model(mx.array(ids)).astype(mx.float32))


def save(path, tensors, metadata=None):
    """A safetensors file of numpy arrays."""
    (numpy,) = need("safetensors.numpy")
    numpy.save_file(
        {k: np.ascontiguousarray(v) for k, v in tensors.items()}, path, metadata or {"format": "pt"}
    )


def drawn(*shape, seed=0, dtype=np.float32):
    """Random numbers, the same each time."""
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


def matrices(module, rank=2, rows=8, columns=6, dora=False):
    """The tensors that PEFT saves of one linear layer (rows, columns)."""
    head = f"base_model.model.{module}."
    found = {
        f"{head}lora_A.weight": drawn(rank, columns, seed=len(module)),
        f"{head}lora_B.weight": drawn(rows, rank, seed=len(module)),
    }
    if dora:
        found[f"{head}lora_magnitude_vector"] = np.abs(drawn(rows)) + 1
    return found


def modules(layers=(0, 1), names=("self_attn.q_proj", "self_attn.v_proj")):
    """Names of linear layers as most of transformers' language models have them."""
    return [f"model.layers.{i}.{name}" for i in layers for name in names]


def config(**changed):
    """The entries that PEFT writes for LoRA, as far as they matter."""
    known = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "lora_dropout": 0.0, "bias": "none"}
    return {**known, "target_modules": ["q_proj", "v_proj"], **changed}


def peft_folder(folder, tensors=None, without=(), **changed):
    """A folder of PEFT; `without` are entries that its configuration lacks."""
    folder.mkdir(exist_ok=True)
    if tensors is None:
        tensors = {k: v for name in modules() for k, v in matrices(name).items()}
    content = {k: v for k, v in config(**changed).items() if k not in without}
    (folder / "adapter_config.json").write_text(json.dumps(content))
    save(folder / "adapter_model.safetensors", tensors)
    return folder


def base_folder(folder, layers=2, **changed):
    """The folder of a model, its weights left out."""
    folder.mkdir(exist_ok=True)
    content = {"model_type": "llama", "num_hidden_layers": layers, "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps({**content, **changed}))
    return folder


class Texts:
    """A data set as mlx-lm's trainer takes them: sequences of token numbers."""

    def __init__(self, rows):
        self.rows = [list(map(int, row)) for row in rows]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]

    def process(self, row):
        return row, 0


def trained_in_mlx(folder, out, steps=10, **changed):
    """An adapter that `mlx_lm.lora` trains on the model in a folder; what that answers then."""
    from types import SimpleNamespace

    mx, lora, utils = need("mlx.core", "mlx_lm.lora", "mlx_lm.utils")
    model, _ = utils.load_model(Path(folder))
    parameters = {"rank": 4, "dropout": 0.0, "scale": 5.0, **changed.pop("lora_parameters", {})}
    given = {
        **lora.CONFIG_DEFAULTS,
        **{"model": str(folder), "adapter_path": str(out), "iters": steps, "batch_size": 2},
        **{"learning_rate": 1e-2, "num_layers": -1, "lora_parameters": parameters},
        **{"val_batches": 1, "steps_per_eval": 1000, **changed},
    }
    rows = Texts(tokens(8, 12, 3))
    mx.disable_compile()  # on CPUs it runs a C++ compiler for every graph
    try:
        lora.train_model(SimpleNamespace(**given), model, rows, rows)
    finally:
        mx.enable_compile()
    model.eval()
    return lambda ids: np.array(model(mx.array(ids)))
