"""Networks on disk that need no class to be loaded: their graph and weights, by torch.export."""

from __future__ import annotations

import copy
import functools
import io
from pathlib import Path
from typing import Any

import torch
from torch import nn

from helpers.lib.modes import in_eval_mode, logits_of

FEWEST_PLACES = 4  # a side: a map with fewer hardly says where


class WithMaps(nn.Module):
    """A network's logits, and with them what one of its layers gives, if a layer is named."""

    def __init__(self, network: nn.Module, layer: str) -> None:
        super().__init__()
        self.network, self.layer = network, layer

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        if not self.layer:
            return logits_of(self.network(images))
        caught: list[torch.Tensor] = []

        def catch(_layer: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
            caught.append(output)
            return output.clone()  # what follows may write into it in place

        hook = self.network.get_submodule(self.layer).register_forward_hook(catch)
        try:
            return logits_of(self.network(images)), caught[0]
        finally:
            hook.remove()


def without_wrapper(model: nn.Module) -> nn.Module:
    """The network inside torch.compile, DataParallel or DistributedDataParallel.

    Saved as they are, its weights would have other names, and fit no network built anew.
    """
    while True:
        inner = getattr(model, "_orig_mod", None)  # of torch.compile
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def choose_cam_layer(model: nn.Module, images: torch.Tensor) -> str:
    """The name of the last layer whose maps have at least 4 x 4 places; "" when none has maps."""
    sides: dict[str, int] = {}

    def note(name: str, layer: nn.Module, _inputs: Any, output: Any) -> None:
        is_padding = type(layer).__module__ == "torch.nn.modules.padding"  # finds nothing
        if isinstance(output, torch.Tensor) and output.dim() == 4 and not is_padding:
            sides.pop(name, None)  # to the end
            sides[name] = min(output.shape[-2:])

    hooks = [
        layer.register_forward_hook(functools.partial(note, name))
        for name, layer in model.named_modules()
        if name
    ]
    try:
        with torch.no_grad(), in_eval_mode(model):
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    large = [name for name, side in sides.items() if side >= FEWEST_PLACES]
    return (large or list(sides) or [""])[-1]


def export_network(
    model: nn.Module, images: torch.Tensor, cam_layer: str | None, path: Path
) -> tuple[str, str]:
    """Write a network that maps a batch to its logits, and the maps of a layer, to a .pt2 file.

    `images` are two samples of what it takes; by default the last suitable layer is taken. Returns
    the name of the layer, "" for none; and "", or why torch.export cannot do it.
    """
    network = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    network = network.to(memory_format=torch.contiguous_format)
    layer = cam_layer or ""
    try:
        layer = choose_cam_layer(network, images) if cam_layer is None else cam_layer
        whole = WithMaps(network, layer)
        batch = torch.export.Dim("batch")
        program = torch.export.export(whole, (images,), dynamic_shapes=({0: batch},))
        written = io.BytesIO()  # torch ends the process when it cannot write its file to the end
        torch.export.save(program, written)
    except Exception as error:  # whatever torch.export cannot follow
        reason = (str(error).strip().splitlines() or [""])[0]
        return layer, f"{type(error).__name__}: {reason:.200}"
    path.write_bytes(written.getbuffer())
    return layer, ""


def load_exported(path: Path) -> nn.Module:
    """The network in a .pt2 whose hash is known to be right: torch's own loader may run code."""
    return torch.export.load(path).module()
