"""What a network is asked for: its layers in eval mode, and the logits of what it returns."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from helpers.errors import KitError


@contextlib.contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode, and each of its layers back in the mode it had."""
    modes = [(layer, layer.training) for layer in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode


def logits_of(output: object) -> torch.Tensor:
    """The logits (batch, classes) of what a network returns.

    Some return more: GoogLeNet and Inception add those of further heads while they train, and
    others an object with `logits`; the first are those that count.
    """
    if isinstance(output, torch.Tensor):
        return output
    main = getattr(output, "logits", None)
    if main is None and isinstance(output, tuple | list) and output:
        main = output[0]
    if not isinstance(main, torch.Tensor):
        raise KitError(f"the network gives a {type(output).__name__}: it must be logits, a tensor")
    return main
