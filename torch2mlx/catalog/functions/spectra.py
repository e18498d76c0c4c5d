"""Fourier transforms, of whole arrays and of windows."""

from __future__ import annotations

from torch2mlx.catalog.functions.entry import op

#: Functions under torch.fft that mlx.core.fft has under the same name.
_SAME = (
    "fft",
    "ifft",
    "rfft",
    "irfft",
    "fft2",
    "ifft2",
    "rfft2",
    "irfft2",
    "fftn",
    "ifftn",
    "rfftn",
    "irfftn",
    "fftshift",
    "ifftshift",
)

ENTRIES = (
    *(op(f"fft.{name}", same=f"mx.fft.{name}") for name in _SAME),
    *(op(f"fft.{name}", same=f"mx.fft.{name}", made=True) for name in ("fftfreq", "rfftfreq")),
    op(
        "stft",
        "input n_fft hop_length win_length window center pad_mode normalized onesided"
        " return_complex=True | kit.signal.stft({input}, {n_fft}«, hop_length={hop_length}»«, "
        "win_length={win_length}»«, window={window}»«, center={center}»«, "
        "pad_mode={pad_mode}»«, normalized={normalized}»«, onesided={onesided}»)",
        note="complex result",
    ),
    op(
        "istft",
        "input n_fft hop_length win_length window center normalized onesided length return_complex"
        " | kit.signal.istft({input}, {n_fft}«, hop_length={hop_length}»«, "
        "win_length={win_length}»«, window={window}»«, center={center}»«, "
        "normalized={normalized}»«, onesided={onesided}»«, length={length}»«, "
        "return_complex={return_complex}»)",
    ),
)
