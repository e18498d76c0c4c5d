"""Operators that MLX lacks and the kit defines by others: through translate, at the options that
torch has, in value and, where they have one, gradient."""

import pytest

from tests.support import need

need("torch", "mlx.core", "mlx.nn")

import mlx.core as mx
import numpy as np
import torch
from torch.nn import functional as F

import torch2mlx
from torch2mlx.errors import UnsupportedOperatorError
from torch2mlx.export.ir.structures import to_mlx

torch.manual_seed(0)
SOUND, MATRICES = torch.randn(2, 100), torch.randn(3, 4, 4) + 3 * torch.eye(4)
HANN = torch.hann_window(32)
SPECTRUM = torch.randn(2, 17, 9, dtype=torch.cfloat)
MIRRORED = torch.cat([SPECTRUM, SPECTRUM[:, 1:16].flip(1).conj()], 1)
NUMBERS, TABLE = torch.tensor([3, 1, 3, 2, 2, 1]), torch.randn(5, 4)
STARTS = torch.tensor([0, 2, 2, 4])

CALLS = {
    "stft win_length": (
        lambda x: torch.stft(x, 32, 8, 20, HANN[:20], normalized=True, return_complex=True).abs(),
        (SOUND,),
    ),
    "stft two-sided": (
        lambda x: torch.stft(x, 32, onesided=False, return_complex=True).abs(),
        (SOUND,),
    ),
    "stft pad_mode": (
        lambda x: torch.stft(x, 32, pad_mode="circular", return_complex=True).abs(),
        (SOUND,),
    ),
    "stft in real numbers": (
        lambda x: torch.stft(x, 16, center=False, return_complex=False),
        (SOUND,),
    ),
    "stft of complex numbers": (
        lambda x: torch.stft(x + 1j * x, 32, 8, window=HANN, return_complex=True).abs(),
        (SOUND,),
    ),
    "istft": (lambda z: torch.istft(z, 32, 8, window=HANN), (SPECTRUM,)),
    "istft length": (
        lambda z: torch.istft(z, 32, 8, 20, HANN[:20], normalized=True, length=60),
        (SPECTRUM,),
    ),
    "istft too long": (lambda z: torch.istft(z, 32, 8, window=HANN, length=110), (SPECTRUM,)),
    "istft two-sided": (lambda z: torch.istft(z, 32, 8, window=HANN, onesided=False), (MIRRORED,)),
    "istft complex": (
        lambda z: torch.istft(z, 32, 8, window=HANN, onesided=False, return_complex=True).real,
        (MIRRORED,),
    ),
    "istft whole frames": (lambda z: torch.istft(z, 32, 8, center=False), (SPECTRUM,)),
    "hfft": (lambda z: torch.fft.hfft(z, n=20, norm="ortho"), (SPECTRUM,)),
    "hfft along the first axis": (lambda z: torch.fft.hfft(z, dim=0), (SPECTRUM,)),
    "hfftn": (lambda z: torch.fft.hfftn(z, dim=(0, 1), norm="forward"), (SPECTRUM,)),
    "ihfft2": (lambda x: torch.fft.ihfft2(x).abs(), (SOUND,)),
    "fftfreq": (lambda x: x[0, :8] * torch.fft.fftfreq(8, d=0.25), (SOUND,)),
    "rfftfreq": (lambda x: x[0, :5] * torch.fft.rfftfreq(8), (SOUND,)),
    "kaiser_window": (lambda x: x[0, :8] * torch.kaiser_window(8, True, 5.0), (SOUND,)),
    "repeat_interleave": (
        lambda x, n: x.repeat_interleave(n, 0),
        (TABLE, torch.tensor([1, 0, 2, 1, 3])),
    ),
    "repeat_interleave of counts": (lambda n: torch.repeat_interleave(n), (NUMBERS,)),
    "unique": (lambda n: torch.unique(n, return_inverse=True, return_counts=True), (NUMBERS,)),
    "unique rows": (
        lambda n: torch.unique(n.view(3, 2) % 2, dim=0, return_inverse=True),
        (NUMBERS,),
    ),
    "unique columns": (lambda n: torch.unique(n.view(3, 2) % 2, dim=1), (NUMBERS,)),
    "unique_consecutive": (lambda n: torch.unique_consecutive(n, return_counts=True), (NUMBERS,)),
    "unique_consecutive rows": (
        lambda n: torch.unique_consecutive(n.view(3, 2) % 2, dim=0),
        (NUMBERS,),
    ),
    "mode": (lambda n: torch.mode(n.view(2, 3), 0, True), (NUMBERS,)),
    "index_reduce": (
        lambda x, t: t.index_reduce(
            0, torch.tensor([0, 4, 4]), x[:1].view(25, 4)[:3], "mean", include_self=False
        ),
        (SOUND, TABLE),
    ),
    "index_reduce_": (
        lambda x: torch.ones(2, 3).index_reduce_(1, torch.tensor([0, 1, 1]), x[:, :3], "amin"),
        (SOUND,),
    ),
    "segment_reduce": (
        lambda t: torch.segment_reduce(t, "max", lengths=torch.tensor([2, 0, 3])),
        (TABLE,),
    ),
    "segment_reduce of NaN": (
        lambda t: torch.segment_reduce(
            torch.where(t > 1, float("nan"), t), "min", lengths=torch.tensor([2, 0, 3])
        ),
        (TABLE,),
    ),
    "segment_reduce offsets": (
        lambda t: torch.segment_reduce(
            t,
            "mean",
            offsets=torch.tensor([0, 1, 1, t.shape[0]]),  # torch reads past a shorter t
        ),
        (TABLE,),
    ),
    "embedding max_norm": (
        lambda n, t: F.embedding(n, t * 2, max_norm=0.5, norm_type=1.0),
        (NUMBERS, TABLE),
    ),
    "embedding_bag mean": (lambda n, t: F.embedding_bag(n, t, STARTS), (NUMBERS, TABLE)),
    "embedding_bag max": (
        lambda n, t: F.embedding_bag(n.view(2, 3), t, mode="max"),
        (NUMBERS, TABLE),
    ),
    "embedding_bag weights": (
        lambda n, t, w: F.embedding_bag(
            n.view(2, 3), t, mode="sum", per_sample_weights=w, padding_idx=1
        ),
        (NUMBERS, TABLE, torch.randn(2, 3)),
    ),
    "embedding_bag last offset": (
        lambda n, t: F.embedding_bag(
            n, t, torch.tensor([0, 2, 6]), mode="sum", include_last_offset=True
        ),
        (NUMBERS, TABLE),
    ),
    "triu_indices": (lambda t: t[torch.triu_indices(3, 4, 1).unbind(0)], (TABLE,)),
    "tril_indices": (lambda t: t[torch.tril_indices(4, 3, -1).unbind(0)], (TABLE,)),
    "nonzero_static": (lambda t: torch.nonzero_static(t > 0, size=30), (TABLE,)),
    "trapezoid": (lambda t, x: torch.trapezoid(t, x, dim=0), (TABLE, torch.rand(5))),
    "cumulative_trapezoid": (lambda t: torch.cumulative_trapezoid(t, dx=0.5, dim=0), (TABLE,)),
    "lu": (lambda a: torch.linalg.lu(a), (MATRICES,)),
    "lu_factor": (lambda a: torch.linalg.lu_factor(a[:, :, :3]), (MATRICES,)),
    "lu_solve": (
        lambda a: torch.linalg.lu_solve(*torch.linalg.lu_factor(a), a, left=False),
        (MATRICES,),
    ),
    "lu_solve adjoint": (
        lambda a, y: torch.linalg.lu_solve(*torch.linalg.lu_factor(a), y, adjoint=True),
        (MATRICES, torch.randn(3, 4, 2)),
    ),
    "lu_unpack": (lambda a: torch.lu_unpack(*torch.linalg.lu_factor(a)), (MATRICES,)),
    "cholesky_inverse": (
        lambda a: torch.cholesky_inverse(torch.linalg.cholesky(a @ a.mT)),
        (MATRICES,),
    ),
    "tensorinv": (lambda a: torch.linalg.tensorinv(a[0].reshape(2, 2, 4)), (MATRICES,)),
    "tensorsolve": (
        lambda a: torch.linalg.tensorsolve(a[0].reshape(2, 4, 2), a[1, 0], dims=(0, 2)),
        (MATRICES,),
    ),
    "eig": (lambda a: torch.linalg.eig(a)[0].abs().sort()[0], (MATRICES,)),
    "eigvals": (lambda a: torch.linalg.eigvals(a).real.sort()[0], (MATRICES,)),
    "matrix_rank": (
        lambda a: torch.linalg.matrix_rank(a @ a.new_tensor([1.0, 2, 0, 0]).diag()),
        (MATRICES,),
    ),
    "cond": (lambda a: (torch.linalg.cond(a), torch.linalg.cond(a, 1)), (MATRICES,)),
}


def module(function, args):
    names = ", ".join(f"a{i}" for i in range(len(args)))
    scope = {"f": function}
    exec(f"def forward(self, {names}): return f({names})", scope)
    return type("M", (torch.nn.Module,), {"forward": scope["forward"]})()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CALLS)
def test_translated_as_torch_computes_it(name):
    function, args = CALLS[name]
    model = module(function, args)
    found = torch2mlx.verify(model, torch2mlx.translate(model, args), args)
    assert found.ok, str(found)


@pytest.mark.parametrize(
    "name",
    (
        "index_reduce",
        "embedding_bag max",
        "embedding_bag weights",
        "trapezoid",
        "cumulative_trapezoid",
    ),
)
def test_gradients(name):
    function, args = CALLS[name]
    made = torch2mlx.translate(module(function, args), args, dynamic=False).module
    place = next(i for i, a in enumerate(args) if a.is_floating_point())
    leaf = args[place].clone().requires_grad_()
    given = [*args[:place], leaf, *args[place + 1 :]]
    (function(*given) ** 2).sum().backward()
    arrays = [to_mlx(a) for a in args]

    def loss(value):
        return mx.sum(mx.square(made(*arrays[:place], value, *arrays[place + 1 :])))

    np.testing.assert_allclose(
        np.array(mx.grad(loss)(arrays[place])), leaf.grad.numpy(), 1e-4, 1e-5
    )


def test_a_complex_window_is_refused():
    model = module(
        lambda x: torch.stft(x, 8, window=torch.ones(8) + 0j, return_complex=True).abs(), (SOUND,)
    )
    with pytest.raises(UnsupportedOperatorError, match="with a complex window"):
        torch2mlx.translate(model, (SOUND,))


def test_results_of_embedding_bag_that_nothing_computes_are_refused():
    model = module(lambda n, t: torch.embedding_bag(t, n, STARTS)[2], (NUMBERS, TABLE))
    with pytest.raises(UnsupportedOperatorError, match="results are read that were not asked for"):
        torch2mlx.translate(model, (NUMBERS, TABLE))
