"""Vectors in two dimensions: what must hold for any."""

from __future__ import annotations

import math

import pytest
import torch

from helpers.vectors import neighbours_alike, principal_components


def vectors(count: int = 20, width: int = 6) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(1))


def test_identical_vectors_land_on_the_same_point():
    places, held = principal_components(torch.cat([vectors(), vectors()]))
    assert places.shape == (40, 2)
    assert torch.allclose(places[:20], places[20:], atol=1e-5)
    assert 0 < held < 1


def test_a_plane_is_seen_as_it_is():
    flat = vectors(width=2) @ torch.linalg.qr(vectors(6, 2)).Q.T + 3  # in six dimensions
    places, held = principal_components(flat)
    assert held == pytest.approx(1)
    assert torch.allclose(torch.cdist(places, places), torch.cdist(flat, flat), atol=1e-4)


def test_it_is_the_view_with_the_most_variance():
    every = vectors()
    places, held = principal_components(every)
    total = every.var(dim=0).sum()
    assert float(places.var(dim=0).sum() / total) == pytest.approx(held, abs=1e-5)
    assert held > float(every[:, :2].var(dim=0).sum() / total)
    assert torch.allclose(places.mean(dim=0), torch.zeros(2), atol=1e-5)


def test_the_order_of_the_vectors_makes_no_difference():
    order = torch.randperm(20, generator=torch.Generator().manual_seed(2))
    places, _ = principal_components(vectors())
    assert torch.allclose(principal_components(vectors()[order])[0], places[order], atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_vectors_or_all_the_same(count):
    places, held = principal_components(vectors(count))
    assert places.shape == (count, 2)
    assert places.isfinite().all()
    assert 0 <= held <= 1
    places, held = principal_components(torch.ones(count, 6))
    assert torch.equal(places, torch.zeros(count, 2))
    assert math.isfinite(held)


def test_neighbours():
    line = torch.tensor([[0.0], [1.0], [10.0], [11.0], [12.0]])
    assert neighbours_alike(line, torch.tensor([0, 0, 1, 1, 1])) == 1
    assert neighbours_alike(line, torch.tensor([0, 1, 2, 0, 1])) == 0
    assert neighbours_alike(line, torch.tensor([0, 0, 1, 1, 0])) == pytest.approx(4 / 5)
