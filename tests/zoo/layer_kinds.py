"""Few layers of a model that has several kinds of them: at least one of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

FEWEST = 2
#: So long are the patterns that a model repeats at most.
_PATTERN = 6
#: How configurations name what repeats.
_PERIODS = ("_period", "_interval", "_group_size")


def with_each_kind(config: Any, small: Any) -> Any:
    """What `small(config)` makes of a configuration, with layers of every kind that it had."""
    kept = {id(part): _kept(part) for part in _parts(config)}
    parts = list(_parts(config))
    made = small(config)
    for part in parts:
        _restore(part, kept[id(part)])
    return made


def _parts(config: Any, depth: int = 0) -> Iterator[Any]:
    from transformers import PretrainedConfig

    yield config
    for value in list(config.__dict__.values()):
        if isinstance(value, PretrainedConfig) and depth < 3:
            yield from _parts(value, depth + 1)


def arguments_of_layers(config: Any, copies: int) -> dict[str, Any]:
    """Arguments of a configuration's class for few layers, `copies` of each kind."""
    count, lists = _kept(config, copies)
    return {"num_hidden_layers": count, **lists} if count else {}


def _kept(config: Any, copies: int = 1) -> tuple[int, dict[str, list[Any]]]:
    """How many layers there will be, and what each list that has an item for each is then."""
    depth = getattr(config, "num_hidden_layers", None)
    if not isinstance(depth, int) or depth < FEWEST:
        return 0, {}
    lists = {
        name: list(value)
        for name, value in config.__dict__.items()
        if isinstance(value, (list, tuple)) and len(value) == depth
    }
    rows = list(zip(*lists.values(), strict=True)) if lists else []
    chosen = [
        i
        for i, row in enumerate(rows)
        if any(sum(row[k] == rows[j][k] for j in range(i)) < copies for k in range(len(row)))
    ]
    chosen += [i for i in range(depth) if i not in chosen][: max(0, FEWEST - len(chosen))]
    chosen.sort()
    patterns = [
        len(value)
        for name, value in config.__dict__.items()
        if isinstance(value, (list, tuple))
        and name.endswith(("_types", "_pattern"))
        and FEWEST < len(value) <= min(_PATTERN, depth - 1)
    ]
    count = max([len(chosen), *patterns]) if not lists else len(chosen)
    return count, {name: [value[i] for i in chosen] for name, value in lists.items()}


def _restore(config: Any, kept: tuple[int, dict[str, list[Any]]]) -> None:
    count, lists = kept
    if not count:
        return
    for name, value in vars(config).copy().items():
        if isinstance(value, int) and name.endswith(_PERIODS) and value > FEWEST:
            _set(config, name, FEWEST)
            offset = f"{name.rpartition('_')[0]}_offset"
            if getattr(config, offset, 0) >= FEWEST:
                _set(config, offset, FEWEST - 1)
    _set(config, "num_hidden_layers", count)
    for name, values in lists.items():
        _set(config, name, values)


def _set(config: Any, name: str, value: Any) -> None:
    try:
        setattr(config, name, value)
    except Exception:  # some configurations compute a field, or refuse a value: it stays
        return
