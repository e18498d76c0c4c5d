"""Language models with experts take weights as the hub stores them, one matrix for each expert,
tensor by tensor, and answer as torch's with these weights."""

import shutil

import pytest

from tests.support import need

torch, mx, transformers, mlx_lm = need("torch", "mlx.core", "transformers", "mlx_lm")

from mlx.utils import tree_flatten

import torch2mlx
from tests.checkpoint.source.test_as_loaded import OTHER, SIZES, config_of
from torch2mlx.cli import main
from torch2mlx.export.state.causal import some_tokens
from torch2mlx.export.state.generating import differences

pytestmark = pytest.mark.slow


def drawn(config, seed):
    """A model whose weights tell one from another, and none from the next by being large."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("sizes", [SIZES, OTHER])
@pytest.mark.parametrize("kind", ["MixtralConfig", "PhimoeConfig", "DeepseekV3Config"])
def test_logits_are_torchs_with_another_checkpoints_weights(kind, sizes, tmp_path):
    model = drawn(config_of(kind, sizes), seed=1)
    model.save_pretrained(tmp_path / "stored")
    made = torch2mlx.language_model(drawn(model.config, seed=2), check=False)
    folder = made.save(tmp_path / "made", weights=tmp_path / "stored")
    module, _ = mlx_lm.utils.load_model(folder, trust_remote_code=True)
    for batch in (1, 3):
        ids = some_tokens(model, batch, 12, seed=batch)
        assert max(differences(model, module, ids, (4, 5))) <= 1e-4
    shutil.copy(tmp_path / "stored" / "model.safetensors", folder / "model.safetensors")
    beside, _ = mlx_lm.utils.load_model(folder, trust_remote_code=True)
    assert mx.array_equal(beside(mx.array(ids.numpy())), module(mx.array(ids.numpy())))
    own = dict(tree_flatten(module.parameters()))
    assert beside.sanitize(own).keys() == own.keys()


def test_a_stored_folder_is_streamed_and_verified(tmp_path, capsys):
    drawn(config_of("MixtralConfig"), seed=1).save_pretrained(tmp_path / "stored")
    stored, made = str(tmp_path / "stored"), str(tmp_path / "made")
    assert main(["translate", stored, made, "--stream"]) == 0, capsys.readouterr()
    assert main(["verify", stored, made, "--stream"]) == 0, capsys.readouterr()
