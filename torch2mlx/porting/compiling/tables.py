"""What the code of a step may call: libraries, functions and methods that only compute."""

LIBRARIES = (
    "abc.",
    "collections.",
    "copy.",
    "dataclasses.",
    "einops.",
    "enum.",
    "functools.",
    "itertools.",
    "math.",
    "mlx.",
    "numpy.",
    "operator.",
    "torch2mlx.kit",
    "typing.",
)
#: Of these, what acts on something else, draws from another generator, or reads arrays.
BARRED = (
    "itertools.count",
    "itertools.cycle",
    "mlx.core.async_eval",
    "mlx.core.distributed",
    "mlx.core.eval",
    "mlx.core.load",
    "mlx.core.random.seed",
    "mlx.core.save",
    "mlx.core.set_",
    "mlx.core.synchronize",
    "numpy.load",
    "numpy.print",
    "numpy.random",
    "numpy.save",
    "numpy.set",
    "torch2mlx.kit.data",
    "torch2mlx.kit.distributed",
    "torch2mlx.kit.files",
    "torch2mlx.kit.hooks",
    "torch2mlx.kit.optimizers",
    "torch2mlx.kit.repeated",
    "torch2mlx.kit.schedulers",
    "torch2mlx.kit.tensorboard",
    "torch2mlx.kit.tensors.assign",
    "torch2mlx.kit.training.assign",
    "torch2mlx.kit.training.freeze",
    "torch2mlx.kit.training.hide",
    "torch2mlx.kit.training.set_trainable",
    "torch2mlx.kit.training.unfreeze",
    "torch2mlx.kit.vision",
)
_BUILTINS = """
abs all any bool bytes complex dict divmod enumerate filter float frozenset getattr hasattr int
isinstance issubclass len list map max min pow range repr reversed round set slice sorted str sum
super tuple type zip
"""
BUILTINS = frozenset(_BUILTINS.split())
_METHODS = """
T abs all any argmax argmin astype at conj conjugate cos cummax cummin cumprod cumsum diag diagonal
dtype exp flatten imag log log10 log1p log2 logaddexp logcumsumexp logsumexp max mean min moveaxis
ndim prod real reciprocal reshape round rsqrt shape sin size split sqrt square squeeze std sum
swapaxes transpose var view
add subtract multiply maximum minimum items keys values get index count copy
format join lower upper replace startswith endswith strip rstrip lstrip removeprefix
as_linear log_prob entropy sample rsample cdf icdf apply parameters trainable_parameters
named_modules modules children __call__ __getitem__ __init__
save_for_backward mark_non_differentiable set_materialize_grads
"""
#: Methods that change no owner: of arrays, of containers, of words, of layers and distributions.
METHODS = frozenset(_METHODS.split())
#: Methods that read numbers of arrays.
HOST = ("item", "tolist", "numpy", "__array__", "__float__")
#: Methods that put something into what they are called on.
PUTTING = ("append", "extend", "insert")
#: Methods that change what they are called on.
CHANGING = (
    *PUTTING,
    "add",
    "appendleft",
    "clear",
    "discard",
    "pop",
    "popleft",
    "remove",
    "reverse",
    "setdefault",
    "sort",
    "update",
)
#: What arrays have; a name of which only these are taken may be one.
OF_ARRAYS = frozenset(
    ["T", "astype", "dtype", "mean", "ndim", "reshape", "shape", "size", "squeeze", "sum"]
)
