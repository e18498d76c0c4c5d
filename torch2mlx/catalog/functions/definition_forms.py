"""Rows of `forms` for functions that the kit defines by others: special ones, runs, spectra."""

from __future__ import annotations

DEFINED = """\
lgamma | input | kit.gamma.lgamma({input})
digamma | input | kit.gamma.digamma({input})
polygamma | n input | kit.gamma.polygamma({n}, {input})
mvlgamma | input p | kit.gamma.mvlgamma({input}, {p})
i0 | input | kit.bessel.i0({input})
mode | input dim keepdim | kit.sorting.mode({input}«, {dim}»«, keepdim={keepdim}»)
unique | input sorted return_inverse return_counts dim | kit.distinct.unique({input}\
«, return_inverse={return_inverse}»«, return_counts={return_counts}»«, dim={dim}»)
unique_consecutive | input return_inverse return_counts dim | kit.distinct.unique_consecutive(\
{input}«, return_inverse={return_inverse}»«, return_counts={return_counts}»«, dim={dim}»)
index_reduce | input dim index source reduce include_self | kit.segments.index_reduce({input},\
 {dim}, {index}, {source}, {reduce}«, include_self={include_self}»)
segment_reduce | data reduce lengths offsets axis initial | kit.segments.segment_reduce({data},\
 {reduce}«, lengths={lengths}»«, offsets={offsets}»«, axis={axis}»«, initial={initial}»)
istft | input n_fft hop_length win_length window center normalized onesided length\
 return_complex | kit.signal.istft({input}, {n_fft}«, hop_length={hop_length}»\
«, win_length={win_length}»«, window={window}»«, center={center}»«, normalized={normalized}»\
«, onesided={onesided}»«, length={length}»«, return_complex={return_complex}»)
cumulative_trapezoid | y x dx dim | kit.arrangements.cumulative_trapezoid({y}«, {x}»«, dx={dx}»\
«, dim={dim}»)
nonzero_static | input size fill_value | kit.indexing.nonzero_static({input}, {size}\
«, {fill_value}»)
cholesky_inverse | input upper | kit.decompositions.cholesky_inverse({input}«, {upper}»)
"""
