"""What reaches a layer while its network learns: the scale of each channel, step by step."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import torch
from torch import nn


@dataclasses.dataclass
class LayerInputs:
    """Mean and deviation of each channel of what reached a layer; a row for each training step."""

    rows: list[tuple[torch.Tensor, torch.Tensor]] = dataclasses.field(default_factory=list)

    @property
    def means(self) -> torch.Tensor:
        """(steps, channels) float32."""
        return torch.stack([mean for mean, _ in self.rows])

    @property
    def deviations(self) -> torch.Tensor:
        """(steps, channels) float32."""
        return torch.stack([deviation for _, deviation in self.rows])


@contextlib.contextmanager
def watch_inputs(layer: nn.Module) -> Iterator[LayerInputs]:
    """Note what reaches a layer at each training step of the block; it learns as if unwatched.

    `layer` gets maps (batch, channels, height, width). What passes in eval mode is not noted.
    """
    seen = LayerInputs()

    @torch.no_grad()
    def note(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if layer.training:
            variance, mean = torch.var_mean(inputs[0].float(), dim=(0, 2, 3))
            seen.rows.append((mean.cpu(), variance.sqrt().cpu()))

    hook = layer.register_forward_pre_hook(note)
    try:
        yield seen
    finally:
        hook.remove()
