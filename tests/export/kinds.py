"""Small forwards that ask for the rank or the dtype of what they get, each in another spelling."""

import functools

import torch
from torch import nn

ASKING: dict[str, tuple] = {}


def asking(*example, others=(), wrong=()):
    """Registers a forward with the makers of an example, of inputs at which torch answers as the
    program does, and of those at which it does not."""

    def register(function):
        ASKING[function.__name__] = (function, example, others, wrong)
        return function

    return register


class Does(nn.Module):
    """A forward that is a function."""

    def __init__(self, function):
        super().__init__()
        self.does, self.linear = function, nn.Linear(4, 4)

    def forward(self, x, *others):
        return self.does(self, x, *others)

    @property
    def rank(self):
        """The rank of what came last."""
        return self.last.dim()

    def of_two(self, x):
        """For matrices."""
        return x * 2

    def of_three(self, x):
        """For stacks of matrices."""
        return x * 3


def normal(*shape, dtype=torch.float32):
    return lambda: torch.randn(shape).to(dtype)


def whole(*shape, dtype=torch.int64):
    return lambda: torch.randint(1, 5, shape).to(dtype)


MATRIX, STACK, IMAGES = normal(3, 4), normal(2, 3, 4), normal(2, 3, 4, 5)


@asking(STACK, others=[IMAGES], wrong=[MATRIX])
def by_dim(self, x):
    if x.dim() == 2:
        x = x.unsqueeze(0) * 2
    return x.cumsum(0)


@asking(STACK, wrong=[MATRIX, IMAGES])
def by_ndim_and_early_return(self, x):
    if x.ndim == 3:
        return x.mean(1)
    return x.sum(-1)


@asking(STACK, others=[IMAGES], wrong=[MATRIX])
def by_length_of_shape(self, x):
    return x * 2 if len(x.shape) > 2 else x * 3


@asking(STACK, wrong=[MATRIX, IMAGES])
def by_size_kept_in_a_name(self, x):
    size = x.size()
    rank = len(size)
    return x.sum(0) if rank == 3 else x


@asking(STACK, wrong=[MATRIX, IMAGES])
def by_match(self, x):
    match x.dim():
        case 2:
            return x * 2
        case 3:
            return x * 3
        case _:
            return x * 4


@asking(STACK, wrong=[MATRIX, IMAGES])
def by_match_of_shape(self, x):
    match x.shape:
        case (_, _):
            return x * 2
        case (_, _, _):
            return x * 3
    return x


@asking(STACK, wrong=[MATRIX, IMAGES])
def by_table(self, x):
    return {2: torch.relu, 3: torch.tanh, 4: torch.sin}[x.ndim](x)


@asking(STACK, wrong=[MATRIX])
def by_name_of_method(self, x):
    return getattr(self, f"of_{('no', 'one', 'two', 'three')[x.ndim]}")(x)


@asking(STACK, wrong=[MATRIX, IMAGES])
def by_property(self, x):
    self.last = x
    rank = self.rank
    self.last = None
    return x * 2 if rank == 3 else x


@asking(STACK, wrong=[MATRIX, IMAGES])
def by_error(self, x):
    try:
        _, _, _ = x.shape
    except ValueError:
        return x * 9
    return x * 2


@asking(STACK, wrong=[MATRIX])
def by_assertion(self, x):
    assert x.dim() >= 3, "a stack"
    return torch.relu(self.linear(x))


def lifted(x):
    """A helper of the file."""
    return x[None] if x.dim() < 3 else x


@asking(STACK, wrong=[MATRIX])
def by_helper(self, x):
    x = lifted(x)
    return x + 1 if x.ndimension() == 3 else x - 1


@asking(MATRIX, wrong=[IMAGES])
def of_a_result(self, x):
    x = x.mean(-1)
    return x * 2 if x.dim() < 2 else x * 3


@asking(STACK, normal(2, 3), wrong=[(STACK, STACK)])
def of_the_second_argument(self, x, mask):
    if mask.dim() == 2:
        mask = mask.unsqueeze(-1)
    return x * mask


@asking(normal(2, 6), wrong=[normal(2, 2, 3)])
def by_dim_of_what_is_folded(self, x):
    if x.dim() == 2:
        x = x.view(x.shape[0], 2, 3)
    return x.softmax(1)


@asking(MATRIX, others=[normal(3, 4, dtype=torch.bfloat16)], wrong=[normal(3, 4, dtype=torch.half)])
def by_dtype(self, x):
    if x.dtype == torch.float16:
        x = x.float() * 0.5
    return x + 1


@asking(MATRIX, wrong=[whole(3, 4), whole(3, 4, dtype=torch.uint8), whole(3, 4, dtype=torch.int32)])
def by_being_floating(self, x):
    if not x.is_floating_point():
        x = x.float() / 255
    return x * 2


@asking(MATRIX, wrong=[whole(3, 4)])
def by_function_of_torch(self, x):
    return x * 2 if torch.is_floating_point(x) else x * 3


@asking(MATRIX, others=[whole(3, 4)], wrong=[normal(3, 4, dtype=torch.complex64)])
def by_being_complex(self, x):
    y = x.abs() if x.is_complex() else x
    return y * 2


@asking(MATRIX, wrong=[normal(3, 4, dtype=torch.half), whole(3, 4)])
def by_class_of_tensors(self, x):
    return x * 2 if isinstance(x, torch.FloatTensor) else x * 3


@asking(whole(3, 4), others=[whole(3, 4, dtype=torch.int32)], wrong=[MATRIX])
def of_whole_numbers(self, x):
    if x.dtype in (torch.int64, torch.int32):
        x = x * 2
    return x + 1


class Real:
    """Marks floating-point arrays."""


class Whole:
    """Marks arrays of whole numbers."""


@functools.singledispatch
def scaled(kind, x):
    return x * 5


@scaled.register
def _(kind: Real, x):
    return x * 2


@scaled.register
def _(kind: Whole, x):
    return x * 3


@asking(MATRIX, wrong=[whole(3, 4), normal(3, 4, dtype=torch.half)])
def by_single_dispatch(self, x):
    return scaled({torch.float32: Real(), torch.int64: Whole()}.get(x.dtype, 0), x)


@asking(MATRIX, wrong=[whole(3, 4)])
def by_text_of_dtype(self, x):
    return x * 2 if "float" in str(x.dtype) else x * 3


@asking(MATRIX, wrong=[normal(3, 4, dtype=torch.half)])
def by_width(self, x):
    return x * 2 if x.element_size() == 4 else x.float() * 3
