"""Constructors of torch.nn: which class of mlx.nn or of the kit takes the same arguments."""

from __future__ import annotations

#: Layers that know which axis the channels are.
SPATIAL = [
    f"{kind}{n}d"
    for kind in ("Conv", "ConvTranspose", "BatchNorm", "InstanceNorm", "MaxPool", "AvgPool")
    for n in (1, 2, 3)
]
SPATIAL += [
    f"{kind}{n}d"
    for kind in ("LPPool", "AdaptiveAvgPool", "AdaptiveMaxPool", "MaxUnpool", "Dropout", "ZeroPad")
    for n in (1, 2, 3)
]
SPATIAL += [
    f"{kind}{n}d"
    for kind in ("ConstantPad", "ReflectionPad", "ReplicationPad", "CircularPad")
    for n in (1, 2, 3)
]
SPATIAL += ["GroupNorm", "Upsample", "PixelShuffle", "PixelUnshuffle", "ChannelShuffle", "Fold"]
SPATIAL += ["Unfold", "LocalResponseNorm", "UpsamplingNearest2d", "UpsamplingBilinear2d", "PReLU"]
SPATIAL += ["Softmax2d", "FeatureAlphaDropout"]
#: The same name and arguments in mlx.nn.
_STOCK = [
    "Linear",
    "Module",
    "Dropout",
    "Identity",
    "Sequential",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Tanh",
]
_STOCK += ["Softsign", "ReLU6", "LogSigmoid", "Mish", "SELU", "Bilinear"]
_LOSSES = [
    *("CrossEntropyLoss", "NLLLoss", "MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "BCELoss"),
    *("BCEWithLogitsLoss", "KLDivLoss", "PoissonNLLLoss", "GaussianNLLLoss", "HingeEmbeddingLoss"),
    *("SoftMarginLoss", "MarginRankingLoss", "CosineEmbeddingLoss", "TripletMarginLoss"),
    *("MultiMarginLoss", "MultiLabelMarginLoss", "MultiLabelSoftMarginLoss", "CTCLoss"),
]
_RECURRENT = ["RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"]
_KIT = ["MultiheadAttention"]
_KIT += ["Transformer", "EmbeddingBag", "TransformerEncoderLayer", "TransformerDecoderLayer"]
_KIT += ["LayerNorm", "RMSNorm", "AdaptiveLogSoftmaxWithLoss", "LinearCrossEntropyLoss"]

#: torch.nn class -> (class in MLX, what to know).
LAYERS: dict[str, tuple[str, str]] = {
    **{name: (f"nn.{name}", "") for name in _STOCK},
    **{name: (f"kit.{name}", "torch's arguments and answers") for name in _KIT},
    **{
        name: (f"kit.layers.{name}", "torch's arguments and answers, and both of its biases")
        for name in _RECURRENT
    },
    **{
        name: (
            f"kit.channels_first.{name}",
            "takes (N, C, ...) as torch; mlx.nn's is channels-last",
        )
        for name in SPATIAL
    },
    **{name: (f"kit.layers.{name}", "torch's reduction and options") for name in _LOSSES},
    **{
        name: (f"kit.layers.{name}", "torch's options")
        for name in (
            *("Embedding", "Flatten", "Unflatten", "Softmax", "LogSoftmax"),
            *("GELU", "LeakyReLU", "ELU", "CELU", "Hardtanh", "Hardswish", "Hardsigmoid", "GLU"),
            *("Softplus", "Softshrink", "Hardshrink", "Tanhshrink", "Threshold", "Softmin"),
            *("TransformerEncoder", "TransformerDecoder", "CosineSimilarity", "PairwiseDistance"),
            *("AlphaDropout", "RReLU"),
        )
    },
}
#: Names of arguments that mlx.nn's layers have others for.
RENAMED = {
    "Linear": {"in_features": "input_dims", "out_features": "output_dims"},
    "Bilinear": {
        "in1_features": "input1_dims",
        "in2_features": "input2_dims",
        "out_features": "output_dims",
    },
}
#: Layers whose arguments that MLX decides are dropped.
DROPPED = ("inplace", "device", "dtype", "enable_nested_tensor", "mask_check")
REFUSED = {
    "DataParallel": "one device only",
    "SyncBatchNorm": "one device only: BatchNorm",
    "LazyLinear": "lazy layers: give the number of inputs",
}
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
    "Adamax": ("lr", "betas", "eps", "weight_decay"),
    "RMSprop": ("lr", "alpha", "eps", "weight_decay", "momentum", "centered"),
    "Adagrad": ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps"),
    "Adadelta": ("lr", "rho", "eps", "weight_decay"),
}
SCHEDULERS = frozenset(
    [
        *("StepLR", "MultiStepLR", "ExponentialLR", "CosineAnnealingLR", "LambdaLR", "LinearLR"),
        *("ConstantLR", "PolynomialLR", "OneCycleLR", "SequentialLR", "ReduceLROnPlateau"),
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
#: Of torch.distributions.
DISTRIBUTIONS = ("Bernoulli", "Categorical", "Independent", "Normal", "Uniform", "kl_divergence")
