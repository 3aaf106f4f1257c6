"""Where a notebook runs: profile, device, seed, folders. `start()` is the first line of each."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torchvision
from torch import nn

from .kit.display import show_small_figures
from .kit.errors import KitError
from .kit.files import read_json, write_json
from .kit.flowers import flowers102_is_present
from .kit.folders import folders, show_path
from .kit.identity import seed_of
from .kit.memory import keep_freed_memory
from .kit.session_log import log_cells

PROFILES = ("mini", "full")


@dataclass(frozen=True)
class Workspace:
    """What `start()` decided, once, for a whole notebook."""

    profile: str  # "mini" or "full"
    reason: str  # why this profile
    student: str | None
    seed: int
    device: torch.device
    precision: torch.dtype  # of the network's arithmetic; weights and losses stay float32
    threads: int  # processor threads that one operation may use
    data_dir: Path
    decoded_dir: Path  # for decoded pictures; they are made again when they are not there
    results_dir: Path  # of this profile
    pretrained: str  # where pretrained weights come from, for `resnet18` and `efficientnet_b5`
    processes: int = 1  # that train together, with `threads` each

    @property
    def checkpoints_dir(self) -> Path:
        """Where training runs keep what they need to go on after an interruption."""
        return self.results_dir / "checkpoints"

    def suited_to(self, model: nn.Module) -> Workspace:
        """This workspace in the precision that suits `model`; prints it when it is another one.

        Processors have no fast way to multiply bfloat16 in depthwise convolutions, in which each
        channel is filtered by itself: a network made of them stays with float32 there.
        """
        if self.device.type != "cpu" or self.precision == torch.float32 or not is_depthwise(model):
            return self
        name = str(self.precision).removeprefix("torch.")
        print(f"precision float32: on a CPU, {name} slows depthwise convolutions down")
        return replace(self, precision=torch.float32)

    def __str__(self) -> str:
        weights = Path(torch.hub.get_dir()).parent
        dtype = str(self.precision).removeprefix("torch.")
        lines = [
            f"profile  {self.profile}: {self.reason}",
            f"machine  {self.device}, {self.threads} threads, {dtype}; torch {torch.__version__}, "
            f"torchvision {torchvision.__version__}, Python {platform.python_version()}",
            f"folders  data {show_path(self.data_dir)}, results {show_path(self.results_dir)}, "
            f"weights {show_path(weights)}",
            f"student  {self.student or 'none given'}, seed {self.seed}",
        ]
        if self.profile == "mini":
            lines.append(
                "NOTE     mini pictures are DRAWINGS: its numbers say nothing of real flowers"
            )
        return "\n".join(lines)


def start(
    student: str | None = None,
    *,
    profile: str | None = None,
    device: str | torch.device | None = None,
) -> Workspace:
    """Decide profile, device, seed and folders, and print them as a short banner.

    `student` is an id such as "s1234567": the seed, and with it the order of the batches and
    the first weights of each new layer, then comes from it, and later notebooks remember it.
    `profile` ("mini" or "full") and `device` ("cpu", "cuda", "mps") override what is found.
    Environment: `KIT_PROFILE`, `KIT_DATA`, `KIT_RESULTS`, `TORCH_HOME`; relative paths resolve
    against the folder of the kit. From now on each cell that runs leaves a line in
    results/<profile>/log.jsonl, for `python -m helpers submit`. Raises `KitError` for an unknown
    profile or device, and when only a part of Flowers102 is in the data folder.
    """
    keep_freed_memory()
    show_small_figures()
    workspace = find_workspace(student, profile=profile, device=device)
    print(workspace)
    log_cells(workspace.results_dir)
    return workspace


def find_workspace(
    student: str | None = None,
    *,
    profile: str | None = None,
    device: str | torch.device | None = None,
) -> Workspace:
    """What `start()` decides, without the banner: for programs that run or read notebooks."""
    data_dir, results_dir = folders()
    profile, reason = choose_profile(profile, data_dir)
    student = remember_student(student, results_dir)
    device = choose_device(device)
    return Workspace(
        profile=profile,
        reason=reason,
        student=student,
        seed=seed_of(student),
        device=device,
        precision=choose_precision(device),
        threads=torch.get_num_threads(),
        data_dir=data_dir,
        decoded_dir=data_dir / "decoded",
        results_dir=results_dir / profile,
        pretrained="imagenet" if profile == "full" else "drawn",
    )


def choose_profile(wanted: str | None, data_dir: Path) -> tuple[str, str]:
    """The profile and the reason: the argument, else `KIT_PROFILE`, else what data is there."""
    source = "asked for" if wanted else "set by KIT_PROFILE"
    wanted = wanted or os.environ.get("KIT_PROFILE") or None
    if wanted is not None and wanted not in PROFILES:
        raise KitError(f"unknown profile {wanted!r}: use 'mini' or 'full'")
    if wanted == "mini":
        return "mini", source
    place = show_path(data_dir)
    if flowers102_is_present(data_dir):
        return "full", source if wanted else f"all of Flowers102 is in {place}"
    if wanted == "full":
        raise KitError(
            f"the full profile needs Flowers102, and {place} holds none of it: "
            "run `python -m helpers download`, or set KIT_DATA to the folder that holds flowers-102"
        )
    return "mini", f"no Flowers102 in {place}; `python -m helpers download` fetches it"


def remember_student(student: str | None, results_dir: Path) -> str | None:
    """Keep the id in assignment.json, so that it is typed once; without one, read it there."""
    path = results_dir / "assignment.json"
    saved = read_json(path) if path.exists() else {}
    known = saved.get("student") if isinstance(saved, dict) else saved
    if known is not None and not (isinstance(known, str) and known.isprintable()):
        raise KitError(f"{path} holds no student id: delete it and give the id to start() again")
    if student is None or str(student).strip() in ("", known):
        return known
    student = str(student).strip()
    write_json(path, {"student": student})
    return student


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
    if device.type == "cpu" and cpu_has_bfloat16():
        return torch.bfloat16
    return torch.float32


def is_depthwise(model: nn.Module) -> bool:
    """Whether a network has convolutions that filter each channel by itself."""
    convolutions = (layer for layer in model.modules() if isinstance(layer, nn.Conv2d))
    return any(layer.groups == layer.in_channels > 1 for layer in convolutions)


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; emulated, it is slower than float32."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)
