"""Where a network computes and in what precision: chosen once, by what the machine does fast."""

from __future__ import annotations

import platform

import torch
from torch import nn

from helpers.errors import KitError


def choose_device(wanted: str | torch.device | None) -> torch.device:
    """The device asked for, else CUDA, else Apple's MPS, else the CPU."""
    usable = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted is None:
        return torch.device(next(name for name, works in usable.items() if works))
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise KitError(f"unknown device {wanted!r}: use 'cpu', 'cuda' or 'mps'") from None
    if not usable.get(device.type, False):
        raise KitError(f"this machine has no {device.type!r} device: use device='cpu'")
    return device


def choose_precision(device: torch.device) -> torch.dtype:
    """bfloat16 where the device computes it natively, float16 on older CUDA, else float32."""
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if native else torch.float16
    # Emulated by a processor, bfloat16 is slower than float32.
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    native = device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in names)
    return torch.bfloat16 if native else torch.float32


def precision_for(model: nn.Module, device: torch.device, precision: torch.dtype) -> torch.dtype:
    """`precision`, or float32 where it would be slower: depthwise bfloat16 on processors."""
    convolutions = (layer for layer in model.modules() if isinstance(layer, nn.Conv2d))
    is_depthwise = any(layer.groups == layer.in_channels > 1 for layer in convolutions)
    return torch.float32 if device.type == "cpu" and is_depthwise else precision


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's parameters; the CPU when it has none."""
    return next((value.device for value in model.parameters()), torch.device("cpu"))


def memory_format(device: torch.device) -> torch.memory_format:
    """Channels last is faster for convolutions, but wrong on MPS (pytorch issue 175189)."""
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def move_model(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a model to a device, in the memory format that its convolutions like there.

    What they are given takes on the format of their weights. In channels last, `view` of maps is an
    error: a network whose own `forward` uses it keeps the format that it was written for.
    """
    forwards = (getattr(type(layer).forward, "__code__", None) for layer in model.modules())
    has_view = any("view" in code.co_names for code in forwards if code)
    wanted = torch.contiguous_format if has_view else memory_format(device)
    return model.to(device, memory_format=wanted)  # type: ignore[call-overload]


def move_images(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Move a batch to the device."""
    return images.to(device)


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Run what gains from it in `precision`; nothing changes when that is float32."""
    return torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32)


def device_name(device: torch.device) -> str:
    """What the device calls itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def name_of(precision: torch.dtype) -> str:
    """ "bfloat16" for torch.bfloat16."""
    return str(precision).removeprefix("torch.")
