"""With what a training run really ran: for its record, and to know its checkpoint again."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import math
import re
from collections.abc import Mapping
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, TensorDataset

from helpers.lib.datasets import ids_of, innermost, labels_of
from helpers.lib.devices import name_of
from helpers.lib.identity import kit_version
from helpers.lib.loaders import generators_of

LIBRARIES = ("torch", "torchvision", "helpers", "efficientnet_pytorch", "builtins")
SHORTEST_TEXT = 40  # characters: longer values are named but not shown
# Of a schedule: how far it is, not what it is.
PROGRESS = ("last_epoch", "best", "num_bad_epochs", "cooldown_counter", "last_lr")


def settings_of_run(
    loader: DataLoader,
    criterion: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler | None,
    *,
    step_scheduler: str,
    device: torch.device,
    precision: torch.dtype,
    **others: Any,
) -> dict[str, Any]:
    """What a run is made of, in plain JSON types, read off the objects themselves."""
    tensors = criterion.state_dict() if isinstance(criterion, nn.Module) else {}
    own = _simple(getattr(criterion, "__dict__", {})) | _simple(tensors)
    return {
        "criterion": {"name": _name(criterion), **own},
        "optimizer": {
            "name": _name(optimizer),
            "groups": [_group(group) for group in optimizer.param_groups],
        },
        "scheduler": None
        if scheduler is None
        else {"name": _name(scheduler), "step": step_scheduler, **_schedule(scheduler)},
        "batch_size": batch_size_of(loader),
        "device": device.type,
        "precision": name_of(precision),
        **others,
    }


def batch_size_of(loader: DataLoader) -> int | None:
    """The size of a loader's batches, however it makes them; None when it does not tell."""
    parts = (loader, loader.batch_sampler, loader.sampler)
    return next(filter(None, (getattr(part, "batch_size", None) for part in parts)), None)


def flat(settings: Any, name: str = "") -> dict[str, str]:
    """Nested settings as texts under names such as "optimizer.groups.1.lr"."""
    if isinstance(settings, list):
        settings = dict(enumerate(settings, start=1))
    if not isinstance(settings, dict):
        return {name: str(settings)}
    found: dict[str, str] = {}
    for key, value in settings.items():
        found |= flat(value, f"{name}.{key}" if name else str(key))
    return found


def _name(value: object) -> str:
    return getattr(value, "__qualname__", type(value).__qualname__)


def _simple(values: Mapping[str, Any]) -> dict[str, Any]:
    """The public values that JSON has, or almost."""
    found = {}
    for name, value in values.items():
        if not name.startswith("_") and name != "training":
            with contextlib.suppress(TypeError):
                found[name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    """A value in JSON's types; raises `TypeError` for what has no such form."""
    if isinstance(value, torch.Tensor | np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    raise TypeError


def _group(group: dict[str, Any]) -> dict[str, Any]:
    """A parameter group: its rate is the highest of its schedule, or the one it began with."""
    values = {name: value for name, value in group.items() if name != "params"}
    values["lr"] = group.get("max_lr", group.get("initial_lr", group["lr"]))
    if "max_momentum" in group:  # the schedule moves it
        values.pop("momentum", None)
        values.pop("betas", None)
    return {"tensors": len(group["params"]), **_simple(values)}


def _schedule(scheduler: LRScheduler) -> dict[str, Any]:
    values = _simple(scheduler.state_dict())
    if functions := getattr(scheduler, "lr_lambdas", None):
        values["functions"] = digest([code_of(one) for one in functions])[:16]
    return {name: value for name, value in values.items() if name not in PROGRESS}


def describe(model: nn.Module, loaders: Mapping[str, DataLoader]) -> dict[str, str]:
    """The network and the samples of a run as texts, to be compared with those of another."""
    frozen = [name for name, value in model.named_parameters() if not value.requires_grad]
    shapes = [(name, value.shape) for name, value in model.state_dict().items()]
    seeds = [one.initial_seed() for one in generators_of(loaders["train"])]
    facts = {
        "version of the kit": kit_version(),
        "version of torch": torch.__version__,
        "network": digest([_text(model), frozen, shapes]),
        "code of the network": digest([code_of(layer) for layer in model.modules()]),
        "seed of the batches": str(seeds[-1] if seeds else None),
    }
    for split in ("train", "val"):
        dataset = loaders[split].dataset
        facts[f"{split} samples"] = digest([ids_of(dataset), labels_of(dataset)])
        inner = innermost(dataset)
        transform = getattr(inner, "transform", None)
        steps = [inner, transform, *getattr(transform, "transforms", [])]
        code = digest([code_of(one) for one in steps])[:16]
        facts[f"transform of {split}"] = f"{_text(transform)} {code}"
        tensors = inner.tensors if isinstance(inner, TensorDataset) else ()
        facts[f"tensors of {split}"] = digest(list(tensors))
    return facts


def code_of(value: object) -> list[Any]:
    """What Python makes of a function of one's own, or of the methods of an object's class.

    [] for what comes with torch and this kit: their versions are noted.
    """
    if isinstance(value, FunctionType):
        return _bytes_of(inspect.unwrap(value).__code__, value.__doc__)
    found = []
    for kind in type(value).__mro__:
        if kind.__module__.partition(".")[0] not in LIBRARIES:
            found += [code_of(one) for one in vars(kind).values() if isinstance(one, FunctionType)]
    function = getattr(value, "lambd", None)  # of transforms.Lambda
    return [*found, code_of(function)] if isinstance(function, FunctionType) else found


def _bytes_of(code: CodeType, docstring: str | None = None) -> list[Any]:
    """The instructions of a function, the names in it and its constants."""
    constants: list[Any] = []
    for one in code.co_consts:
        if isinstance(one, CodeType):
            constants.append(_bytes_of(one))
        elif isinstance(one, frozenset):
            constants.append(sorted(map(str, one)))  # their order is another in each process
        elif one is not None and one != docstring:
            constants.append(str(one))
    return [code.co_code.hex(), list(code.co_names), constants]


def differences(before: dict[str, str], now: dict[str, str]) -> str:
    """Which facts have changed, the first three with their values."""
    names = [name for name in {**now, **before} if before.get(name) != now.get(name)]
    # A schedule follows from the other settings: it is named when nothing else has changed.
    names = [name for name in names if not name.startswith("scheduler.")] or names
    texts = []
    for name in names[:3]:
        old, new = before.get(name, "none"), now.get(name, "none")
        short = max(len(old), len(new)) <= SHORTEST_TEXT
        texts.append(f"{name} was {old}, is {new}" if short else name)
    return "; ".join(texts) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def digest(value: Any) -> str:
    """SHA-256 over nested dicts, lists and tensors; a memory format makes no difference."""
    sha = hashlib.sha256()
    _feed(sha, value)
    return sha.hexdigest()


def _feed(sha: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        flat_values = value.detach().cpu().reshape(-1).contiguous()
        sha.update(f"{value.dtype}{tuple(value.shape)}".encode())
        sha.update(flat_values.view(torch.uint8).numpy())
    elif isinstance(value, dict):
        for key, item in value.items():
            sha.update(f"\n{key}: ".encode())
            _feed(sha, item)
    elif isinstance(value, list | tuple):
        for item in value:
            sha.update(b"\n- ")
            _feed(sha, item)
    else:
        sha.update(_text(value).encode())


def _text(value: object) -> str:
    """A value as a text that is the same in every process."""
    return re.sub(r" at 0x[0-9A-Fa-f]+", "", str(value))
