"""Several methods of a model's class: what the file calls the calls of one module that are made one
after the other, and the arguments that each takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch2mlx.export.ir.regions import Region

#: The calls of a module within one of the methods have numbers from a multiple of this on.
STRIDE = 1000


@dataclass(frozen=True)
class Entrances:
    """The methods beside `__call__`, by their numbers from 1 on; the module whose methods are the
    model's own, and the order of the arguments of these."""

    names: Sequence[str] = ()
    module: str = ""
    order: Sequence[str] = ()

    def name(self, region: Region) -> str:
        """What the method that a call is one of is called, where it is not taken."""
        number = int(region.path.partition("@")[2] or 0) // STRIDE
        return self.names[number - 1] if 0 < number <= len(self.names) else "__call__"

    def arrange(self, root: Region) -> None:
        """Puts the arguments of the model's methods in their order."""
        places = {name: i for i, name in enumerate(self.order)}
        for region in (r for r in root.regions() if self.module and r.module == self.module):
            pairs = list(zip(region.inputs, region.given, strict=True))
            pairs.sort(key=lambda pair: places.get(pair[0].name, len(places)))
            region.inputs = [inside for inside, _ in pairs]
            region.given = [outside for _, outside in pairs]


#: One method, the call.
ONE = Entrances()


def numbered(path: str, method: int) -> str:
    """The path of a call as one of a method's, which is numbered from 1 on."""
    module, _, number = path.partition("@")
    return f"{module}@{method * STRIDE + int(number or 0)}"
