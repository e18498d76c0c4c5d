"""The C core. Every function raises CoreError (status, message, offset, name) for bad data."""

from collections.abc import Callable, Sequence
from typing import Any, final

DTYPES: tuple[tuple[str, int, str, str, str], ...]
"""Rows of (torch name, bytes, safetensors tag, MLX name or "", numpy name)."""

MAX_RANK: int

class CoreError(ValueError):
    """args: (status name, message, byte offset, name of the culprit)."""

@final
class Tensor:
    """Borrowed memory seen through a shape, strides and a dtype; read-only."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def strides(self) -> tuple[int, ...]:
        """In bytes, of any sign."""
    @property
    def dtype(self) -> str:
        """A torch name."""
    @property
    def nbytes(self) -> int: ...
    @property
    def address(self) -> int: ...
    @property
    def numpy(self) -> bool:
        """Whether a file of torch.save held it as an array or a scalar of numpy's."""
    def permute(self, axes: Sequence[int], /) -> Tensor: ...
    def split(self, sizes: Sequence[int], /) -> Tensor:
        """Each dimension as one or more whose sizes multiply to it, in order."""
    def narrow(self, axis: int, start: int, length: int, /) -> Tensor: ...
    def dense(self, dtype: str | None = None, threads: int = 0, simd: bool = True) -> Tensor:
        """A copy in C order, cast when asked."""
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Mapping:
    """A file mapped into memory, read-only; supports the buffer protocol."""

    def __init__(self, path: str | bytes) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Foreign:
    """A value of a checkpoint that is no data, or a tensor that has no form here."""

    @property
    def name(self) -> str: ...
    @property
    def is_tensor(self) -> bool: ...
    @property
    def dtype(self) -> str | None:
        """A tensor's dtype as its file names it, where known."""
    @property
    def shape(self) -> tuple[int, ...] | None: ...
    @property
    def nbytes(self) -> int:
        """Of a tensor in the file; 0 where not known."""
    @property
    def offset(self) -> int:
        """Byte of the file where it is named; 0 where not known."""
    @property
    def holds_data(self) -> bool:
        """Whether tensors, or bytes that may be some, are within it."""

@final
class Unresolved:
    """A tensor of a file whose stored items are not its values yet."""

    tensor: Tensor
    conj: bool
    neg: bool
    swapped: bool

def from_buffer(object: Any, dtype: str, /) -> Tensor: ...
def from_dlpack(object: Any, /) -> Tensor: ...
def borrow_plain(
    entries: dict[str, Any],
    borrowed: type,
    check: Callable[..., Any] | None,
    kinds: tuple[type, ...],
    dtypes: frozenset[Any],
    strided: object,
    export: Callable[[Any], Any] | None,
    /,
) -> dict[str, Any]:
    """The entries, with `borrowed(key, tensor, shape, dtype, check)` for what only has to be
    borrowed; all else is there as it was.

    That is every `Tensor`, and objects whose exact type is one of `kinds`: in CPU memory, of one
    of `dtypes` and of the layout `strided`, not nested and without lazy bits, of which `export`
    gives a DLPack capsule (their check is None).
    """

def compare(a: Tensor, b: Tensor, /) -> dict[str, float]: ...
def largest(tensor: Tensor, /) -> float:
    """The largest finite magnitude of a float64 tensor; 0 where there is none."""

def read_safetensors(
    buffer: Any, /
) -> tuple[list[tuple[str, Tensor | Foreign]], dict[str, str]]: ...
def read_torch(buffer: Any, /) -> tuple[Any, list[tuple[int, int, int, int, str]]]:
    """The saved object, and (address, offset, bytes, CRC-32, key) of each storage with one."""

def crc32(buffer: Any, start: int, length: int, crc: int = 0, simd: bool = True) -> int: ...
def safetensors_header(
    entries: list[tuple[str, str, tuple[int, ...]]], metadata: dict[str, str], /
) -> bytes: ...
def write(
    fd: int,
    start: int,
    jobs: list[tuple[Tensor, str]],
    *,
    threads: int = 0,
    span: int = 0,
    simd: bool = True,
    flush: bool = False,
    progress: Callable[[int], object] | None = None,
) -> list[int]: ...
def exchange(a: str | bytes, b: str | bytes, /) -> bool: ...
def rules() -> tuple[tuple[str, str, str, str], ...]: ...
def fact_kinds() -> tuple[str, ...]: ...
def analyze(
    modules: Any, facts: Any, class_count: int, /
) -> tuple[list[tuple[int, int, int | None, int]], int, int, tuple[int, ...], tuple[int, ...]]: ...
def nest(tensors: dict[str, Any], lists: bool = True) -> Any: ...
def shown_modules(keys: list[str]) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]: ...
def owners(
    paths: list[str],
    wrappers: list[tuple[int, str, tuple[str, ...]]],
    renames: list[tuple[int, dict[str, str]]],
    keys: list[str],
) -> list[tuple[int, str, dict[str, str]]]: ...
def plan_moves(
    rows: list[tuple[int, str, dict[str, str]]],
    rules: list[Any],
    tensors: dict[str, Any],
    actions: dict[str, Any],
    types: tuple[type, type, type, type],
    calls: tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any] | None],
    pieces: list[Any],
    traces: dict[str, Any],
    /,
) -> None:
    """Plans the tensors of modules that are only moved: `pieces` and `traces` are added to.

    `rows` are those of `owners`, `rules` the weight rule of each module (None: not planned here),
    `types` are (deferred source, piece, trace, view), `calls` are (classify, other, identity):
    classify(row, {name: source}) is asked once for each kind of module and answers
    ((name, target, None or (layout, sizes, shape, rearrange)), ...), or None for those that
    other(row, {name: source}) plans. None for `identity` where no two tensors are tied.
    """

def collision(keys: list[str]) -> tuple[int, int] | None: ...
def flatten(
    tree: Any,
    prefix: str = "",
    is_leaf: Callable[[Any], bool] | None = None,
    pairs: bool = True,
) -> Any:
    """[(key, leaf), ...], or {key: leaf} unless `pairs`."""
