"""Weights in a quarter of their size: 8-bit whole numbers and one scale for each output channel."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch

from helpers.errors import KitError
from helpers.lib.files import written_atomically

_SCALE = "/scale"  # after a parameter's name: the scales of its rows
_LARGEST = 127


def pack(state: dict[str, torch.Tensor], path: Path) -> None:
    """Write a state dict to `path`, an .npz file, replacing it in one step.

    A tensor of two or more dimensions becomes int8 with a float32 scale for each index of its
    first dimension (the output channel). All others (biases, BatchNorm) stay as they are.
    """
    arrays: dict[str, Any] = {}
    for name, tensor in state.items():
        values = tensor.detach().cpu()
        if values.ndim < 2:
            arrays[name] = values.numpy()
            continue
        scale = values.flatten(1).abs().amax(dim=1).clamp_min(1e-12) / _LARGEST
        shaped = scale.view(-1, *[1] * (values.ndim - 1))
        arrays[name] = (values / shaped).round().to(torch.int8).numpy()
        arrays[name + _SCALE] = scale.numpy()
    with written_atomically(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def unpack(path: Path) -> dict[str, torch.Tensor]:
    """Read what `pack` wrote, as float32, executing nothing; raises `KitError` when damaged."""
    try:
        stream = io.BytesIO(path.read_bytes())
        with np.load(stream, allow_pickle=False) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
        for name in [name for name in arrays if name.endswith(_SCALE)]:
            numbers = arrays[name.removesuffix(_SCALE)]
            scale = arrays.pop(name).view(-1, *[1] * (numbers.ndim - 1))
            arrays[name.removesuffix(_SCALE)] = numbers.float() * scale
    except Exception as error:  # a damaged archive can fail in a dozen ways
        raise KitError(f"{path} is no file of packed weights, or damaged ({error})") from None
    return arrays
