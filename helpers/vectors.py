"""Vectors that stand for pictures: a view of them in two dimensions, and who is next to whom."""

from __future__ import annotations

import torch


def principal_components(vectors: torch.Tensor) -> tuple[torch.Tensor, float]:
    """The view of `vectors` (samples, width) in which they vary most (PCA; Pearson, 1901).

    Returns their places (samples, 2), around zero, and the part of the variance that these two
    dimensions hold, in 0 ... 1. Which way an axis points is settled, so that two machines agree.
    """
    centred = (vectors - vectors.mean(dim=0)).double()
    _, scales, axes = torch.linalg.svd(centred, full_matrices=False)
    axes = axes[:2]
    largest = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True))
    places = centred @ (axes * largest.sign()).T
    places = torch.nn.functional.pad(places, (0, 2 - places.shape[1]))  # of a single vector
    variances = scales.square()
    held = float(variances[:2].sum() / variances.sum()) if variances.sum() > 0 else 1.0
    return places.float(), held


def neighbours_alike(vectors: torch.Tensor, labels: torch.Tensor) -> float:
    """The part of the vectors whose nearest neighbour has the same label, in 0 ... 1.

    All numbers of a vector count, not only those that a figure shows.
    """
    distances = torch.cdist(vectors.float(), vectors.float())
    nearest = distances.fill_diagonal_(float("inf")).argmin(dim=1)
    return float((labels[nearest] == labels).double().mean())
