"""MLX, patched to call the recorder; what was to be compiled runs as it is."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch2mlx.lockstep.mlx_side import MLXRecorder


def patch(recorder: MLXRecorder) -> None:
    """Has MLX call the recorder; what was to be compiled runs as it is."""
    import mlx.core

    mx: Any = mlx.core

    def uncompiled(function: Any = None, *_: Any, **__: Any) -> Any:
        return function if function is not None else lambda given: given

    mx.compile = uncompiled
    import mlx.nn
    import mlx.optimizers

    nn: Any = mlx.nn
    optim: Any = mlx.optimizers
    _patch_modules(recorder, nn.Module)
    _patch_optimizers(recorder, optim.Optimizer)
    _patch_calls(recorder, nn.Module)
    _patch_gradients(recorder, mx, nn)


def _patch_modules(recorder: MLXRecorder, module: Any) -> None:
    init, update, parameters = module.__init__, module.update, module.trainable_parameters

    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        recorder.made.append(weakref.ref(self))
        init(self, *args, **kwargs)

    def updated(self: Any, *args: Any, **kwargs: Any) -> Any:
        out = update(self, *args, **kwargs)
        recorder.updated(self)
        return out

    def trainable(self: Any) -> Any:
        if recorder.optimizers and not recorder.started:
            recorder.begin()
        return parameters(self)

    module.__init__, module.update, module.trainable_parameters = made, updated, trainable


def _patch_optimizers(recorder: MLXRecorder, optimizer: Any) -> None:
    started, first = optimizer.__init__, optimizer.init

    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        recorder.optimizers.append(weakref.ref(self))
        for kind in type(self).__mro__:
            if "apply_gradients" in vars(kind):
                _patch_apply(recorder, kind)
        started(self, *args, **kwargs)

    def initialised(self: Any, *args: Any, **kwargs: Any) -> None:
        recorder.begin()
        first(self, *args, **kwargs)

    optimizer.__init__, optimizer.init = made, initialised


def _patch_apply(recorder: MLXRecorder, kind: Any) -> None:
    original = vars(kind)["apply_gradients"]
    if hasattr(original, "recorded"):
        return

    def apply_gradients(self: Any, gradients: Any, parameters: Any) -> Any:
        return recorder.applied(
            self, gradients, parameters, lambda: original(self, gradients, parameters)
        )

    patched: Any = apply_gradients
    patched.recorded = True
    kind.apply_gradients = patched


def _below(kind: Any) -> list[Any]:
    below: list[Any] = kind.__subclasses__()
    return [k for sub in below for k in (sub, *_below(sub))]


def _patch_calls(recorder: MLXRecorder, module: Any) -> None:
    """Wraps `__call__` of every class of modules, there and to come."""

    def wrap(kind: Any) -> None:
        original = vars(kind).get("__call__")
        if original is not None and not hasattr(original, "recorded"):

            def call(self: Any, *args: Any, **kwargs: Any) -> Any:
                return recorder.call(original, self, args, kwargs)

            patched: Any = call
            patched.recorded = True
            kind.__call__ = patched

    for kind in _below(module):
        wrap(kind)

    def defined(cls: type, **kwargs: Any) -> None:
        super(module, cls).__init_subclass__(**kwargs)
        wrap(cls)

    module.__init_subclass__ = classmethod(defined)


def _patch_transform(recorder: MLXRecorder, mx: Any, name: str) -> None:
    """Has the recorder know that what `mx.vjp` and its like call is being transformed."""
    original = getattr(mx, name)

    def now(*args: Any, **kwargs: Any) -> Any:
        return recorder.tracing(lambda: original(*args, **kwargs))

    def later(*args: Any, **kwargs: Any) -> Any:
        made = original(*args, **kwargs)
        return lambda *a, **k: recorder.tracing(lambda: made(*a, **k))

    setattr(mx, name, later if name == "vmap" else now)


def _patch_gradients(recorder: MLXRecorder, mx: Any, nn: Any) -> None:
    value_and_grad, grad, of_module = mx.value_and_grad, mx.grad, nn.value_and_grad

    def watched(made: Any, value: bool, first: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            place = first[0] if isinstance(first, (list, tuple)) else first
            tree = lambda: args[place] if len(args) > (place or 0) else {}  # noqa: E731
            return recorder.differentiated(tree, lambda: made(*args, **kwargs), value)

        return call

    def functions(fun: Any, argnums: Any = None, argnames: Any = (), **more: Any) -> Any:
        return watched(value_and_grad(fun, argnums, argnames, **more), True, argnums or 0)

    def gradients(fun: Any, argnums: Any = None, argnames: Any = (), **more: Any) -> Any:
        return watched(grad(fun, argnums, argnames, **more), False, argnums or 0)

    def modules(model: Any, fn: Any) -> Any:
        mx.value_and_grad = value_and_grad
        try:
            recorder.begin()
            made = of_module(model, fn)
        finally:
            mx.value_and_grad = functions

        def call(*args: Any, **kwargs: Any) -> Any:
            return recorder.differentiated(lambda: model, lambda: made(*args, **kwargs), True)

        return call

    mx.value_and_grad, mx.grad, nn.value_and_grad = functions, gradients, modules
    recorder.same = mx.stop_gradient
    for name in ("vjp", "jvp", "vmap"):
        _patch_transform(recorder, mx, name)
    nn.utils.value_and_grad = modules
