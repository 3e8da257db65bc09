"""Sums of samples gathered from a table `[sample, slice]`: what projector and backprojection are made of.

Slices stand last: where a sample lies and what it weighs is computed once for all slices, and one gather
moves a vector of them. Samples are computed in parts, few enough at a time to stay in the cache of a CPU and
enough to fill a GPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ctenhance.runtime.errors import InputError

#: Lines are refined this many times before samples are taken, so that the nearest one will do.
REFINE = 4
#: Slices that share one table: more of them save little time and cost memory.
SLICES_AT_ONCE = 32
_CPU_SAMPLES, _GPU_SAMPLES = 1 << 18, 1 << 24


def samples_at_once(device: torch.device) -> int:
    """How many samples' indices may exist at one time."""
    return _CPU_SAMPLES if device.type == "cpu" else _GPU_SAMPLES


def gather_sum(table: torch.Tensor, index: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """`[bag, slice]`: sum over the samples of `weight * table[index]`.

    `table` `[row, slice]`, contiguous; `index` int32 and `weight` (or None: 1) `[bag, sample]`, or for a
    single slice `[sample, bag]`, the order in which single numbers are gathered fastest."""
    if table.shape[1] == 1:
        values = table.view(-1).index_select(0, index.reshape(-1)).view(index.shape)
        return (values if weight is None else values.mul_(weight)).sum(0)[:, None]
    if table.device.type == "mps":  # has no embedding bag in the older versions of torch
        return _sum_by_sample(table, index, weight)
    return F.embedding_bag(index, table, mode="sum", per_sample_weights=weight)


def _sum_by_sample(table: torch.Tensor, index: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    total = table.new_zeros(index.shape[0], table.shape[1])
    for sample in range(index.shape[1]):
        rows = table.index_select(0, index[:, sample])
        total += rows if weight is None else rows * weight[:, sample, None]
    return total


def as_slices(x: torch.Tensor, expected: tuple[int, int], what: str) -> tuple[torch.Tensor, torch.Size]:
    """`x` as `[slice, ., .]`, and its leading shape; InputError for a shape that is not the geometry's."""
    if tuple(x.shape[-2:]) != expected:
        raise InputError(
            f"The {what} ends in {tuple(x.shape[-2:])} but the geometry says {expected}: use the geometry "
            "that it was made with."
        )
    return x.reshape(-1, *expected), x.shape[:-2]
