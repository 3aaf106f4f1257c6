"""Loaders whose workers cannot start, or die: the batches are the same, and one line says so."""

from __future__ import annotations

import multiprocessing
import os
import warnings

import pytest
import torch
from tiny import vector_data
from torch.utils.data import DataLoader, get_worker_info

from helpers.data import as_is, make_loader
from helpers.errors import KitError
from helpers.training import Features


class Samples(Features):
    """Vectors that answer with their indices and draws, as the transform of pictures would."""

    fault = None

    def __getitems__(self, draws):
        if self.fault is not None:
            self.fault(draws)
        return super().__getitems__(draws)


def batches_of(loader) -> list[list]:
    return [[vectors.tolist(), labels.tolist()] for vectors, labels in loader]


def loader_of(samples_class: type, num_workers: int, method: str | None = None):
    given = vector_data((40, 8, 8)).train.dataset
    samples = samples_class(given.vectors, given.labels, given.ids)
    loader = make_loader(samples, 8, seed=4, shuffle=True, num_workers=num_workers)
    if method:
        loader.multiprocessing_context = method
    return loader


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_workers_that_cannot_start_are_done_without(method, capsys):
    class OfANotebook(Samples):  # like a class in a cell: it cannot be sent to another process
        def __reduce__(self):
            raise TypeError("cannot pickle it")

    loader = loader_of(OfANotebook, 1, method)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = batches_of(loader)
    assert got == batches_of(loader_of(Samples, 0))
    said = capsys.readouterr().out
    if method == "fork":  # sends nothing
        assert said == ""
    else:
        assert said == (
            "going on without worker processes (num_workers=0), for TypeError: cannot pickle it\n"
        )
        assert loader.num_workers == 0
        batches_of(loader)
        assert capsys.readouterr().out == ""


class DiesInAWorker(Samples):
    """Samples whose second batch kills the worker that prepares it."""

    def fault(self, draws):
        if get_worker_info() is not None and self.labels[draws[0][0]] != self.labels[0]:
            os._exit(1)


def test_a_worker_that_dies_costs_no_batch(capsys):
    loader, alone = loader_of(DiesInAWorker, 1), loader_of(Samples, 0)
    for _ in range(2):  # the next epoch is the right one, too
        assert batches_of(loader) == batches_of(alone)
    said = capsys.readouterr().out
    assert said.startswith("going on without worker processes (num_workers=0), for RuntimeError: ")
    assert len(said.splitlines()) == 1


class Unreadable(Samples):
    """Samples of which one cannot be read."""

    def fault(self, draws):
        if 5 in [index for index, _ in draws]:
            raise KitError("picture 5 is damaged")


def test_an_error_of_the_data_stays_what_it_is():
    with pytest.raises(KitError, match="picture 5 is damaged"):
        batches_of(loader_of(Unreadable, 1))


def test_without_workers_nothing_is_different():
    loader = loader_of(Samples, 0)
    torch.manual_seed(3)
    list(loader)
    after = torch.rand(1)
    torch.manual_seed(3)
    list(DataLoader(loader.dataset, batch_sampler=loader.batch_sampler, collate_fn=as_is))
    assert torch.equal(torch.rand(1), after)
