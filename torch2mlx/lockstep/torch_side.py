"""The torch script under a recorder: what reaches modules, backward passes and optimizers."""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from torch2mlx.lockstep import torch_draws
from torch2mlx.lockstep.kinks import Kinks
from torch2mlx.lockstep.options import module_options
from torch2mlx.lockstep.records import Recorder, read
from torch2mlx.lockstep.scripts import kept_by, leave, line_of, name_of, run, seed_all

#: The relative size of the rounding that a second run of torch puts in: some float32 steps.
ROUNDING = 1e-6
Pieces = Callable[[Any], list[dict[str, Any]]]


def host(tensor: Any) -> np.ndarray:
    """A tensor's values now, floating-point ones as float32, sparse ones as dense."""
    import torch

    value = tensor.detach().cpu()
    if value.layout is not torch.strided:  # MLX has dense arrays alone
        value = value.to_dense()
    if value.dtype.is_floating_point and str(value.dtype) != "torch.float64":
        value = value.float()
    return np.array(value.resolve_conj().resolve_neg().numpy())


def arrays_in(value: Any, kind: type) -> list[Any]:
    """The arrays of nested lists, tuples, dicts and dataclass-like objects, in order."""
    if isinstance(value, kind):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [found for item in value for found in arrays_in(item, kind)]
    return []


class TorchRecorder:
    """Patches torch from outside and keeps what happens, step by step."""

    def __init__(self, job: dict[str, Any], pieces: Pieces) -> None:
        self.job, self.pieces = job, pieces
        self.script = Path(job["script"]).resolve()
        self.kept = Recorder()
        self.steps: list[dict[str, Any]] = []
        self.draws: list[dict[str, Any]] = []
        self.made: list[Any] = []
        self.optimizers: list[Any] = []
        self.stack: list[Any] = []
        self.paths: dict[int, tuple[int, str]] = {}
        self.roots: list[Any] = []
        self.start: dict[str, Any] | None = None
        self.known = 0  # optimizers when models were looked for
        self.noise: Any = np.random.RandomState(1) if job.get("noise") else None
        self.kinks = Kinks()
        self.plain: Any = read(Path(job["plain"])) if job.get("noise") else None
        self.step = self._fresh()

    def _fresh(self) -> dict[str, Any]:
        return {"calls": [], "losses": [], "raw": {}, "backwards": 0, "first_draw": len(self.draws)}

    # --- what the patches call

    def note_draw(self, draw: dict[str, Any]) -> None:
        """A draw; its values are put aside."""
        self.draws.append(
            {**draw, "values": self.kept.put(draw["values"], given=True), "step": len(self.steps)}
        )

    def running(self) -> str:
        """The path of the module that runs."""
        return self.path_of(self.stack[-1])[1] if self.stack else ""

    def path_of(self, module: Any) -> tuple[int, str]:
        """The root that a module belongs to, by its number, and its path there."""
        return self.paths.get(id(module), (-1, type(module).__name__))

    def call(self, original: Any, module: Any, args: Any, kwargs: Any) -> Any:
        """A module's call, recorded where it belongs to a model that is trained."""
        import torch

        if not self.stack:
            self.begin()
            trains = module.training and torch.is_grad_enabled() and id(module) in self.paths
            if trains and len(self.steps) >= self.job["steps"]:
                self.finish("")
        if self.start is None or id(module) not in self.paths:
            self.stack.append(module)
            try:
                return original(module, *args, **kwargs)
            finally:
                self.stack.pop()
        inputs = self._put(args, kwargs)
        draw = len(self.draws)
        if self.noise is not None and not self.stack:
            args = tuple(self._rounded(a) for a in args)
        self.stack.append(module)
        try:
            out = original(module, *args, **kwargs)
        finally:
            self.stack.pop()
        root, path = self.path_of(module)
        self.step["calls"].append(
            {
                "root": root,
                "path": path,
                "kind": type(module).__name__,
                "training": module.training,
                "depth": len(self.stack),
                "inputs": inputs,
                "outputs": self._put(out, {}),
                "draws": [draw, len(self.draws)],
                "line": line_of(self.script.parent) if not self.stack else "",
            }
        )
        return out

    def _put(self, args: Any, kwargs: Any) -> list[Any]:
        import torch

        found = arrays_in([args, kwargs], torch.Tensor)
        return [self.kept.put(host(a)) for a in found]

    def _rounded(self, value: Any) -> Any:
        """An input with rounding put in, for the run that measures what rounding does."""
        import torch

        if isinstance(value, torch.Tensor) and value.is_floating_point() and value.is_leaf:
            noise = self.noise.uniform(-1, 1, tuple(value.shape)).astype(np.float32)
            if not value.requires_grad:
                return value * (1 + ROUNDING * torch.from_numpy(noise).to(value.dtype))
        return value

    def begin(self) -> None:
        """Takes the first weights of the models that are there, once there are optimizers that
        train them; of those that are made later, once there are more optimizers."""
        import torch

        if self.known == len(self.optimizers):
            return
        self.known, first = len(self.optimizers), len(self.roots)
        made = [m for ref in self.made if (m := ref()) is not None]
        copied = kept_by(self.script.parent, torch.nn.Module)
        alive = {id(m): m for m in (*made, *copied) if id(m) not in self.paths}
        self.roots += roots_of(list(alive.values()))
        free = self._free()
        self.roots += [root for root, _ in free]
        variables = {id(root): name for root, name in free}
        new = list(enumerate(self.roots))[first:]
        for number, root in new:
            for path, module in root.named_modules():
                self.paths.setdefault(id(module), (number, path))
        named = [self._told(number, root, variables) for number, root in new]
        if self.noise is not None:
            self._round_weights(first)
        if self.start is None:
            self.start = {"roots": [], "tensors": [], "draws": len(self.draws)}
        self.start["roots"] += named
        self.start["tensors"] += [held for held in self._tensors(given=True) if held[0] >= first]
        self.start["ties"] = {
            name: same[0] for same in self._names().values() if len(same) > 1 for name in same
        }

    def _told(self, number: int, root: Any, variables: dict[int, str]) -> dict[str, Any]:
        """What is said of a model."""
        return {
            "name": variables.get(id(root))
            or name_of(root, f"model{number + 1}", self.script.parent),
            "kind": type(root).__name__,
            "since": len(self.steps),
            "pieces": [
                {**p, "index": self.kept.put(p["index"], given=True)} if "index" in p else p
                for p in self.pieces(root)
            ],
            "modules": _described(root),
        }

    def _free(self) -> list[tuple[Any, str]]:
        """Modules for trained tensors that no module holds, and the variables that hold these."""
        import torch

        known = {id(p) for root in self.roots for p in root.parameters()}
        found: dict[int, tuple[Any, str]] = {}
        for optimizer in filter(None, (ref() for ref in self.optimizers)):
            for p in (p for group in optimizer.param_groups for p in group["params"]):
                if id(p) not in known and id(p) not in found and p.is_leaf:
                    holder = torch.nn.Module()
                    holder._parameters["value"] = p
                    name = name_of(p, f"parameter{len(found) + 1}", self.script.parent)
                    found[id(p)] = (holder, name)
        return list(found.values())

    def _round_weights(self, first: int) -> None:
        seen = {id(p) for root in self.roots[:first] for p in root.parameters()}
        for root in self.roots[first:]:
            for p in root.parameters():
                if p.is_floating_point() and id(p) not in seen:
                    seen.add(id(p))
                    self._round(p)

    def _round(self, p: Any) -> None:
        import torch

        noise = self.noise.uniform(-1, 1, tuple(p.shape)).astype(np.float32)
        noise = np.asarray(noise + np.float32(self.noise.choice((-1, 1))))  # as long sums: one way
        # By `data`: a script without modules is first seen at its backward pass, for which autograd
        # has kept this parameter and would refuse one of another version.
        p.data.mul_(1 + ROUNDING * torch.from_numpy(noise).to(p.dtype))

    def _tensors(self, given: bool = False) -> list[list[Any]]:
        """[root, name, values, is parameter, requires grad] of all that the models hold; `given`:
        the other side starts from it."""
        found = []
        for number, root in enumerate(self.roots):
            both = (root.named_parameters(remove_duplicate=False), root.named_buffers())
            for trained, pairs in zip((True, False), both, strict=True):
                for name, tensor in pairs:
                    kept = self.kept.put(host(tensor), given)
                    found.append([number, name, kept, trained, bool(tensor.requires_grad)])
        return found

    def _gradients(self) -> dict[str, np.ndarray]:
        return {
            f"{number}:{name}": host(p.grad)
            for number, root in enumerate(self.roots)
            for name, p in root.named_parameters(remove_duplicate=False)
            if p.grad is not None
        }

    def backward(self, original: Any, tensors: Any, args: Any, kwargs: Any) -> Any:
        """A backward pass: the loss, and what it adds to the gradients."""
        import torch

        self.begin()
        if len(self.steps) >= self.job["steps"]:
            self.finish("")
        before = self._gradients()
        for tensor in arrays_in(tensors, torch.Tensor):
            if tensor.numel() == 1:
                self.step["losses"].append(
                    {"value": float(tensor.detach()), "line": line_of(self.script.parent)}
                )
        out = original(tensors, *args, **kwargs)
        self.step["backwards"] += 1
        for name, gradient in self._gradients().items():
            more = gradient - before[name] if name in before else gradient
            held = self.step["raw"].get(name)
            self.step["raw"][name] = more if held is None else held + more
        return out

    def stepping(self, optimizer: Any, *_: Any) -> None:
        """Before an optimizer's step: the gradients that reach it, and its options."""
        self.begin()
        if self.noise is not None:
            self._round_gradients(optimizer)
        names = self._names()
        owned, options = [], {}
        for group in optimizer.param_groups:
            plain = {k: v for k, v in group.items() if k != "params" and _plain(v)}
            plain = {k: list(v) if isinstance(v, tuple) else _number(v) for k, v in plain.items()}
            for p in group["params"]:
                for name in names.get(id(p), ()):
                    options[name] = plain
                    if p.grad is not None:
                        owned.append(name)
        gradients = self._gradients()
        self.step["optimizer"] = {
            "kind": type(optimizer).__name__,
            "number": self._number_of(optimizer),
            "line": line_of(self.script.parent),
            "options": {name: options[name] for name in options},
        }
        self.step["gradients"] = {n: self.kept.put(gradients[n]) for n in owned if n in gradients}
        self.step["before"] = self.step["backwards"]

    def _round_gradients(self, optimizer: Any) -> None:
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None and p.grad.numel():
                    import torch

                    size = float(p.grad.abs().max()) * ROUNDING
                    noise = self.noise.uniform(-size, size, tuple(p.shape)).astype(np.float32)
                    p.grad.add_(torch.from_numpy(noise).to(p.grad.dtype) * (p.grad != 0))

    def _names(self) -> dict[int, list[str]]:
        names: dict[int, list[str]] = {}
        for number, root in enumerate(self.roots):
            for name, p in root.named_parameters(remove_duplicate=False):
                names.setdefault(id(p), []).append(f"{number}:{name}")
        return names

    def _number_of(self, optimizer: Any) -> int:
        held = [ref() for ref in self.optimizers]
        return next((i for i, o in enumerate(held) if o is optimizer), -1)

    def stepped(self, optimizer: Any, *_: Any) -> None:
        """After an optimizer's step: everything that the models and the optimizer hold."""
        if self.step["backwards"] > self.step.pop("before"):
            self.stepping(optimizer)  # a closure has made the gradients within the step
            self.step.pop("before")
        names = self._names()
        slots = {}
        for p, state in optimizer.state.items():
            for name in names.get(id(p), ()):
                slots[name] = {
                    k: self.kept.put(host(v)) for k, v in state.items() if hasattr(v, "detach")
                }
        self.step["raw"] = {n: self.kept.put(g) for n, g in self.step["raw"].items()}
        self.step.update(slots=slots, after=self._tensors(), draws=len(self.draws))
        self.step["kinks"] = self.kinks.taken()
        self.steps.append(self.step)
        self._resume()
        self.step = self._fresh()

    def _resume(self) -> None:
        """With rounding: trained tensors go on from where they are without it, and some rounding,
        so that each step shows what rounding does to it, and not to all steps before it."""
        import torch

        if self.plain is None or self.start is None:
            return
        number = len(self.steps) - 1
        there = self.plain["steps"][number] if number < len(self.plain["steps"]) else {}
        if set(there.get("gradients", ())) != set(self.step["gradients"]):
            self.plain = None
            return
        after = {f"{root}:{name}": values for root, name, values, *_ in there["after"]}
        held = {name: p for r, root in enumerate(self.roots) for name, p in _named(r, root)}
        resumed = self.step["resumed"] = {}
        for name in there["gradients"]:
            if after.get(name) is not None and self.start["ties"].get(name, name) == name:
                with torch.no_grad():
                    held[name].copy_(torch.from_numpy(after[name]).reshape(held[name].shape))
                self._round(held[name])
        for name in there["gradients"]:
            if after.get(name) is not None:
                resumed[name] = self.kept.put(host(held[name]))

    def finish(self, failure: str) -> None:
        """Writes the recording and ends the process."""
        self.step["raw"], self.step["draws"] = {}, len(self.draws)
        data = {
            "failure": failure,
            "start": self.start,
            "steps": self.steps,
            "tail": self.step,
            "draws": self.draws,
            "optimizers": len(self.optimizers),
        }
        self.kept.save(Path(self.job["folder"]), data)
        leave()


def _named(number: int, root: Any) -> list[tuple[str, Any]]:
    """The parameters of a root, by "root:name"."""
    pairs = root.named_parameters(remove_duplicate=False)
    return [(f"{number}:{name}", p) for name, p in pairs]


def _plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_plain(item) for item in value)
    return isinstance(value, (bool, int, float)) or getattr(value, "ndim", None) == 0


def _number(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float)) else float(value)


def _described(root: Any) -> dict[str, Any]:
    return {
        path: {"kind": type(module).__name__, "options": module_options(module)}
        for path, module in root.named_modules()
    }


def roots_of(modules: list[Any]) -> list[Any]:
    """The modules with parameters or buffers that no other one holds, in the order of making."""
    inner = {id(m) for module in modules for m in module.modules() if m is not module}
    held = [m for m in modules if id(m) not in inner]
    return [m for m in held if next(m.parameters(), None) is not None]


def patch(recorder: TorchRecorder) -> None:
    """Has torch call the recorder."""
    import torch
    from torch.optim import optimizer as optim

    library: Any = torch
    data, autograd = library.utils.data, library.autograd
    module = library.nn.Module
    init, call, backward = module.__init__, module.__call__, autograd.backward

    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        recorder.made.append(weakref.ref(self))
        init(self, *args, **kwargs)

    def uncompiled(model: Any = None, **_: Any) -> Any:
        return model if model is not None else lambda given: given

    module.__init__ = made
    module.__call__ = lambda self, *a, **k: recorder.call(call, self, a, k)
    module.compile = lambda self, *_, **__: None
    autograd.backward = lambda tensors, *a, **k: recorder.backward(backward, tensors, a, k)
    library.compile = uncompiled
    _patch_data(data)
    optim.register_optimizer_step_pre_hook(recorder.stepping)
    optim.register_optimizer_step_post_hook(recorder.stepped)
    stepping = library.optim.Optimizer
    started = stepping.__init__

    def optimizer(self: Any, *args: Any, **kwargs: Any) -> None:
        recorder.optimizers.append(weakref.ref(self))
        started(self, *args, **kwargs)

    stepping.__init__ = optimizer


def _patch_data(data: Any) -> None:
    """Loaders without worker processes, whose draws would not be seen."""
    init, ordered = data.DataLoader.__init__, data.RandomSampler.__iter__
    names = ("num_workers", "collate_fn", "pin_memory", "drop_last", "timeout", "worker_init_fn")
    alone = {"num_workers": 0, "prefetch_factor": None, "persistent_workers": False}

    def loader(self: Any, *args: Any, **kwargs: Any) -> None:
        more = dict(zip(names, args[5:], strict=False))
        init(self, *args[:5], **{**more, **kwargs, **alone, "multiprocessing_context": None})

    def sampled(self: Any) -> Any:
        """As many places as were asked for: torch draws another permutation when they are out."""
        return itertools.islice(ordered(self), len(self))

    data.DataLoader.__init__, data.RandomSampler.__iter__ = loader, sampled


def record(job: dict[str, Any], pieces: Pieces) -> None:
    """Runs the script of a job under a recorder; the process ends with it."""
    import torch

    recorder = TorchRecorder(job, pieces)
    seed_all(job["seed"])
    torch.manual_seed(job["seed"])
    backends: Any = torch.backends
    backends.mps.is_available = lambda: False
    patch(recorder)
    torch_draws.numpy_permutations(recorder.note_draw)
    with torch_draws.watched(
        recorder.note_draw, recorder.script, recorder.running, recorder.kinks.see
    ):
        run(recorder.script, job["args"], recorder.finish)


def in_forks(run_job: Callable[..., None], job: dict[str, Any], pieces: Pieces) -> None:
    """Runs the job twice, plain and with rounding put in, after torch has been imported once."""
    import torch
    import torch._dynamo  # what the first optimizer would import

    folder = Path(job["folder"])
    for noise, name in ((False, "torch"), (True, "torch-again")):
        child = os.fork()
        if not child:
            more = {"noise": noise, "folder": str(folder / name), "plain": str(folder / "torch")}
            run_job({**job, **more}, pieces)
        os.waitpid(child, 0)
    del torch
