"""Constructors of torch.nn: which class of mlx.nn or of the kit takes the same arguments."""

from __future__ import annotations

from torch2mlx.catalog.layers.entry import BUILTIN, REASONS, LayerSpec

#: Layers that know which axis the channels are, by what they take (see `LayerSpec.images`).
IMAGES = {
    name.removeprefix("torch.nn."): spec.images for name, spec in BUILTIN.items() if spec.images
}
#: Layers that treat every item alike.
ITEMWISE = frozenset(
    name.removeprefix("torch.nn.") for name, spec in BUILTIN.items() if spec.itemwise
)
_BASE = LayerSpec("torch.nn.Module", "mlx.nn.Module", source="nn.Module")


def known(name: str) -> LayerSpec | None:
    """The entry of a class of torch.nn that has a constructor in MLX."""
    spec = _BASE if name == "Module" else BUILTIN.get(f"torch.nn.{name}")
    return spec if spec is not None and spec.source else None


def why_not(name: str) -> str:
    """Why a class of torch.nn has none."""
    return REASONS.get(f"torch.nn.{name}", "no counterpart is known")


#: Functions of torch.nn.utils that give back the layer that they are given, and the kit's.
NORMALIZED = {
    f"torch.nn.utils.{name}": target
    for name, target in {
        "weight_norm": "weight_norm",
        "weight_norm.weight_norm": "weight_norm",
        "spectral_norm": "spectral_norm",
        "spectral_norm.spectral_norm": "spectral_norm",
        "parametrizations.weight_norm": "parametrized_weight_norm",
        "parametrizations.spectral_norm": "parametrized_spectral_norm",
        "remove_weight_norm": "remove",
        "weight_norm.remove_weight_norm": "remove",
        "remove_spectral_norm": "remove",
        "spectral_norm.remove_spectral_norm": "remove",
        "parametrize.remove_parametrizations": "remove",
    }.items()
}
#: Layers whose arguments that MLX decides are dropped.
DROPPED = ("inplace", "device", "dtype", "enable_nested_tensor", "mask_check", "process_group")
#: torch.optim class -> (mlx.optimizers class, its keyword for torch's, extra text), used when no
#: other option than these is given.
OPTIMIZERS = {
    "SGD": (
        "optim.SGD",
        {
            "lr": "learning_rate",
            "momentum": "momentum",
            "weight_decay": "weight_decay",
            "nesterov": "nesterov",
        },
        "",
    ),
    "Adam": (
        "optim.Adam",
        {"lr": "learning_rate", "betas": "betas", "eps": "eps"},
        "bias_correction=True",
    ),
    "AdamW": (
        "optim.AdamW",
        {"lr": "learning_rate", "betas": "betas", "eps": "eps", "weight_decay": "weight_decay"},
        "bias_correction=True",
    ),
}
#: Learning rate where torch has a default.
RATES = {"SGD": "1e-3", "Adam": "1e-3", "AdamW": "1e-3"}
#: All of kit.optimizers, with the order of torch's arguments after the parameters.
OPTIMIZER_ARGUMENTS = {
    "SGD": ("lr", "momentum", "dampening", "weight_decay", "nesterov"),
    "Adam": ("lr", "betas", "eps", "weight_decay", "amsgrad"),
    "AdamW": ("lr", "betas", "eps", "weight_decay", "amsgrad"),
    "NAdam": ("lr", "betas", "eps", "weight_decay", "momentum_decay"),
    "RAdam": ("lr", "betas", "eps", "weight_decay", "decoupled_weight_decay"),
    "Adamax": ("lr", "betas", "eps", "weight_decay"),
    "RMSprop": ("lr", "alpha", "eps", "weight_decay", "momentum", "centered"),
    "Adagrad": ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps"),
    "Adadelta": ("lr", "rho", "eps", "weight_decay"),
    "LBFGS": (
        *("lr", "max_iter", "max_eval", "tolerance_grad", "tolerance_change", "history_size"),
        "line_search_fn",
    ),
}
SCHEDULERS = frozenset(
    [
        *("StepLR", "MultiStepLR", "ExponentialLR", "CosineAnnealingLR", "LambdaLR", "LinearLR"),
        *("ConstantLR", "PolynomialLR", "OneCycleLR", "SequentialLR", "ReduceLROnPlateau"),
        *("CyclicLR", "MultiplicativeLR", "ChainedScheduler"),
        "CosineAnnealingWarmRestarts",
    ]
)
#: Of torchvision.transforms and torchvision.datasets.
VISION = frozenset(
    [
        *("Compose", "ToTensor", "Normalize", "Lambda", "RandomHorizontalFlip", "CenterCrop"),
        *("RandomCrop", "Resize", "MNIST", "FashionMNIST", "KMNIST"),
        *("CIFAR10", "CIFAR100", "ImageFolder", "make_grid", "save_image"),
    ]
)
DATA = frozenset(
    [
        *("Dataset", "IterableDataset", "TensorDataset", "Subset", "ConcatDataset", "random_split"),
        *("SequentialSampler", "RandomSampler", "SubsetRandomSampler", "WeightedRandomSampler"),
        *("DataLoader", "default_collate"),
    ]
)
#: Of torch.utils.tensorboard.
BOARD = ("SummaryWriter",)
#: Of torch.distributions, and where they are.
DISTRIBUTIONS = {
    **dict.fromkeys(("Bernoulli", "Categorical", "Distribution", "Independent"), "distributions"),
    **dict.fromkeys(("Normal", "Uniform", "kl_divergence"), "distributions"),
    **dict.fromkeys(("Beta", "Dirichlet", "Exponential", "Gamma"), "concentrations"),
    "MultivariateNormal": "normals",
}
