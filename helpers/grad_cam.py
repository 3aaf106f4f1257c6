"""Where a network looks: the places of a picture that speak for a class."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from .kit.errors import KitError
from .models import check_layer, in_eval_mode


def grad_cam(
    model: nn.Module, layer: nn.Module, images: torch.Tensor, classes: torch.Tensor | None = None
) -> torch.Tensor:
    """Where in each picture a layer finds what speaks for a class (Selvaraju et al., 2016).

    A channel counts as much as the logit of the class would rise with it, on average over the
    positions; the weighted channels are summed, and what speaks against the class is cut off.
    `images` are (pictures, 3, height, width) as the loaders give them; `classes` are the indices
    asked about, one a picture, by default what the model says. Returns (pictures, height, width)
    in 0 ... 1, with 1 at the strongest place of each picture, or zeros where nothing speaks for the
    class. Frozen layers may be asked, too. The model and its gradients are left as they were.
    Raises `KitError` when the layer is of another network, or has no positions to point at.
    """
    check_layer(model, layer)
    caught: list[torch.Tensor] = []

    def start_here(_layer: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        maps = output.detach().requires_grad_()  # the way back ends here, at a frozen layer, too
        caught.append(maps)
        return maps.clone()  # what follows may write into it in place

    hook = layer.register_forward_hook(start_here)
    try:
        with torch.enable_grad(), in_eval_mode(model):
            logits = model(images.to(next(model.parameters()).device))
            if len(caught) != 1 or caught[0].dim() != 4:
                raise KitError(
                    "Grad-CAM needs a layer that runs once and gives maps (pictures, channels, "
                    "height, width), such as the last convolution"
                )
            asked = logits.argmax(dim=1) if classes is None else classes.to(logits.device)
            (gradient,) = torch.autograd.grad(logits.gather(1, asked[:, None]).sum(), caught)
    finally:
        hook.remove()
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    maps = F.relu((weights * caught[0].detach()).sum(dim=1, keepdim=True)).float()
    maps = F.interpolate(maps, images.shape[-2:], mode="bilinear")[:, 0]
    return (maps / maps.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)).cpu()
