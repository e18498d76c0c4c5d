"""The file of an encoder-decoder model: the class of its caches, and what is added to its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch2mlx.export.capture.trace import Traced
from torch2mlx.export.ir.nodes import Program
from torch2mlx.export.state.lifting import CACHE
from torch2mlx.export.structure.checks import Checks
from torch2mlx.export.structure.sure import refused

HEAD = '''
class Cache:
    """What a block of the decoder keeps from call to call: keys and values of its own attention,
    which grow, and at its places 0 and 1 those of what is encoded, which stay."""

    step = 64

    def __init__(self):
        self.keys = self.values = None
        self.offset = 0
        self.encoded = [None, None]

    def update_and_fetch(self, keys, values):
        start, self.offset = self.offset, self.offset + keys.shape[2]
        while self.keys is None or self.keys.shape[2] < self.offset:
            B, H = keys.shape[:2]
            more = [mx.zeros((B, H, self.step, x.shape[3]), x.dtype) for x in (keys, values)]
            if self.keys is not None:
                more = [mx.concatenate(pair, axis=2) for pair in zip(self.held(), more)]
            self.keys, self.values = more
        self.keys[:, :, start : self.offset] = keys
        self.values[:, :, start : self.offset] = values
        return self.keys[:, :, : self.offset], self.values[:, :, : self.offset]

    def held(self):
        return self.keys, self.values

    def __getitem__(self, place):
        return self.encoded[place]

    def __setitem__(self, place, value):
        self.encoded[place] = value


def length_of(cache):
    """How many tokens a cache holds."""
    return cache.offset
'''
MAKE = '''
    def make_cache(self, {arguments}):
        """New caches, with keys and values of what is encoded."""
        cache = [Cache() for _ in range({count})]
        self.begin({given})
        return cache
'''
LOAD = '''
def load(folder):
    """The model with the weights in a folder."""
    model = {name}()
    model.load_weights(f"{{folder}}/model.safetensors")
    model.eval()
    return model
'''


def make_cache(arguments: Sequence[str], count: int) -> str:
    """The method that gives new caches; `arguments` are those of `begin`."""
    given = [name for name in arguments if name != CACHE]
    return MAKE.format(arguments=", ".join(given), given=", ".join(arguments), count=count)


def checks_of(
    program: Program, traced: Traced, given: Mapping[str, Sequence[str]], prefix: str
) -> dict[str, list[str]]:
    """What each method checks of the lengths of its arguments, by the name of the method, but for
    what `encode` has checked; names of tables have no `prefix`."""
    lengths = traced.lengths
    wrong, known = refused(program), set[Any]()
    found: dict[str, list[str]] = {}
    for method, names in given.items():
        inputs = tuple(i for i in program.inputs if i.path[0] in names)
        axes = tuple(axis for axis in lengths.axes if axis.way[0] in names)
        told = {s for axis in axes if axis.free for s in axis.expression.free_symbols}
        conditions = [
            replace(c, table=c.table.removeprefix(prefix))
            for c in lengths.conditions
            if c.expression.free_symbols <= told and not c.expression.free_symbols <= known
        ]
        known |= told if method == "encode" else set()
        kinds = tuple(kind for kind in lengths.kinds if kind.way[0] in names)
        part = replace(lengths, axes=axes, conditions=tuple(conditions), kinds=kinds)
        checks = Checks(
            replace(program, inputs=inputs, baked=frozenset()), part, traced.dynamic, wrong
        )
        found[method] = [line for check in checks.all() for line in check.lines()]
    return found
