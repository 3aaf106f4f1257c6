"""Where a notebook runs: profile, data set, device, seed, folders. `start()` is its first line."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from .kit.display import show_small_figures
from .kit.errors import KitError
from .kit.files import read_json, write_json
from .kit.flowers import flowers102_is_present
from .kit.folders import folders, show_path
from .kit.identity import FLOWERS, seed_of
from .kit.memory import keep_freed_memory
from .kit.session_log import log_cells
from .kit.sources import list_pictures

PROFILES = ("mini", "full")
ASKED, BY_VARIABLE = "asked for", "set by KIT_PROFILE"  # reasons that a data set cannot change
# What assignment.json keeps, and how a message calls it.
KEPT = {"student": "student id", "dataset": "name of a data set"}


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
    dataset: str = FLOWERS  # whose pictures `load_data` takes: a name, or a folder
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
        if self.dataset != FLOWERS:
            lines.insert(1, f"data set {show_path(Path(self.dataset))}")
        if self.profile == "mini" and self.dataset == FLOWERS:
            lines.append(
                "NOTE     mini pictures are DRAWINGS: its numbers say nothing of real flowers"
            )
        elif self.profile == "mini":
            lines.append(
                "NOTE     mini: small pictures, few epochs, networks pretrained on DRAWINGS alone"
            )
        return "\n".join(lines)


def start(
    student: str | None = None,
    *,
    profile: str | None = None,
    device: str | torch.device | None = None,
    dataset: str | Path | None = None,
) -> Workspace:
    """Decide profile, data set, device, seed and folders, and print them as a short banner.

    `student` is an id such as "s1234567": the seed, and with it the order of the batches and
    the first weights of each new layer, then comes from it, and later notebooks remember it.
    `profile` ("mini" or "full") and `device` ("cpu", "cuda", "mps") override what is found, and
    `dataset`, for this workspace alone, what `choose_dataset` has kept. Environment: `KIT_PROFILE`,
    `KIT_DATASET`, `KIT_DATA`, `KIT_RESULTS`, `TORCH_HOME`; relative paths resolve against the
    folder of the kit. From now on each cell that runs leaves a line in results/<profile>/log.jsonl,
    for `python -m helpers submit`. Raises `KitError` for an unknown profile or device, and when
    only a part of Flowers102 is in the data folder.
    """
    keep_freed_memory()
    show_small_figures()
    workspace = find_workspace(student, profile=profile, device=device, dataset=dataset)
    print(workspace)
    log_cells(workspace.results_dir)
    return workspace


def find_workspace(
    student: str | None = None,
    *,
    profile: str | None = None,
    device: str | torch.device | None = None,
    dataset: str | Path | None = None,
) -> Workspace:
    """What `start()` decides, without the banner: for programs that run or read notebooks."""
    data_dir, results_dir = folders()
    dataset = _text_of(dataset) or chosen_dataset(results_dir)
    profile, reason = choose_profile(profile, data_dir, dataset)
    student = remember_student(student, results_dir)
    device = choose_device(device)
    return Workspace(
        profile=profile,
        reason=reason,
        dataset=dataset,
        student=student,
        seed=seed_of(student),
        device=device,
        precision=choose_precision(device),
        threads=torch.get_num_threads(),
        data_dir=data_dir,
        decoded_dir=data_dir / "decoded",
        results_dir=results_dir / profile,
        pretrained=weights_of(profile),
    )


def choose_dataset(workspace: Workspace, dataset: str | Path) -> Workspace:
    """Decide whose pictures all notebooks use; returns the workspace that uses them.

    `dataset` is "Flowers102", the assignment's own (drawn on the mini profile); another set that
    the assignment allows ("OxfordIIITPet", "DTD", "FGVCAircraft", "EuroSAT"); or a folder that
    holds a folder of pictures for each class, relative to the data folder or to that of the kit.
    It is kept in results/assignment.json, where every `start()` finds it; `KIT_DATASET` goes
    before it. The profile may change with it, unless it was asked for. Raises `KitError`, and keeps
    nothing, when the set is refused or unknown, is not on this machine, or cannot be used.
    """
    dataset, by_variable = _text_of(dataset), _text_of(os.environ.get("KIT_DATASET"))
    if by_variable and by_variable != dataset:
        print(f"data set {by_variable}, set by KIT_DATASET: {dataset} is not used")
        return workspace
    if not dataset.isprintable():
        raise KitError(f"the data set {dataset!a} cannot be written in a line: rename its folder")
    results_dir = workspace.results_dir.parent
    profile, reason = workspace.profile, workspace.reason
    if reason not in (ASKED, BY_VARIABLE):
        profile, reason = choose_profile(None, workspace.data_dir, dataset)
    listing = list_pictures(
        dataset, profile=profile, data_dir=workspace.data_dir, seed=workspace.seed
    )
    _remember(results_dir, "dataset", dataset)
    chosen = replace(
        workspace,
        dataset=dataset,
        profile=profile,
        reason=reason,
        results_dir=results_dir / profile,
        pretrained=weights_of(profile),
    )
    if chosen != workspace:
        print(chosen)
        log_cells(chosen.results_dir)
    pictures = sum(len(paths) for paths, _ in listing.splits.values())
    print(f"{listing.name}: {len(listing.class_names)} classes, {pictures:,} pictures, "
          "for all six notebooks")  # fmt: skip
    return chosen


def chosen_dataset(results_dir: Path) -> str:
    """The data set of `KIT_DATASET`, else the one that `choose_dataset` has kept, else Flowers102.

    Raises `KitError` when assignment.json holds what the kit would not write.
    """
    kept = read_assignment(results_dir).get("dataset")
    return _text_of(os.environ.get("KIT_DATASET")) or _text_of(kept) or FLOWERS


def _text_of(dataset: str | Path | None) -> str:
    """A data set as text, with the slashes that every system understands; "" for none."""
    if dataset is None:
        return ""
    return dataset.as_posix() if isinstance(dataset, Path) else str(dataset).strip()


def choose_profile(wanted: str | None, data_dir: Path, dataset: str = FLOWERS) -> tuple[str, str]:
    """The profile and the reason: the argument, else `KIT_PROFILE`, else what is on this machine.

    That is all of Flowers102, or for another data set, whose pictures are there when it is loaded,
    the ImageNet weights.
    """
    source = ASKED if wanted else BY_VARIABLE
    wanted = wanted or os.environ.get("KIT_PROFILE") or None
    if wanted is not None and wanted not in PROFILES:
        raise KitError(f"unknown profile {wanted!r}: use 'mini' or 'full'")
    if wanted is not None:
        return wanted, source
    if dataset != FLOWERS:
        return _profile_of_weights()
    place = show_path(data_dir)
    if flowers102_is_present(data_dir):
        return "full", f"all of Flowers102 is in {place}"
    return "mini", f"no Flowers102 in {place}; `python -m helpers download` fetches it"


def _profile_of_weights() -> tuple[str, str]:
    """The profile for pictures of any kind, and the reason."""
    from .kit.weights import IMAGENET  # here, because most notebooks start without it

    folder = show_path(next(iter(IMAGENET.values())).path.parent)
    if all(file.path.is_file() for file in IMAGENET.values()):
        return "full", f"the ImageNet weights are in {folder}"
    fetch = "`python -m helpers download --weights-only` fetches them"
    return "mini", f"not all ImageNet weights are in {folder}; {fetch}"


def weights_of(profile: str) -> str:
    """Where the pretrained weights of a profile come from, for `resnet18` and the like."""
    return "imagenet" if profile == "full" else "drawn"


def remember_student(student: str | None, results_dir: Path) -> str | None:
    """Keep the id in assignment.json, so that it is typed once; without one, read it there."""
    known = read_assignment(results_dir).get("student")
    if student is None or str(student).strip() in ("", known):
        return known
    student = str(student).strip()
    _remember(results_dir, "student", student)
    return student


def read_assignment(results_dir: Path) -> dict[str, Any]:
    """What assignment.json keeps from one notebook to the next; {} when there is none.

    Raises `KitError` when it is damaged, or holds what the kit would not write.
    """
    path = results_dir / "assignment.json"
    saved = read_json(path) if path.exists() else {}
    again = "delete it, and run notebook 01 again with your id in start()"
    if not isinstance(saved, dict):
        raise KitError(f"{path} holds no student id: {again}")
    for key, what in KEPT.items():
        value = saved.get(key)
        if value is not None and not (isinstance(value, str) and value.isprintable()):
            raise KitError(f"{path} holds no {what}, its {key!r} is {value!r:.40}: {again}")
    return saved


def _remember(results_dir: Path, key: str, value: str) -> None:
    """Keep a value in assignment.json, and whatever else is there."""
    saved = read_assignment(results_dir)
    default = FLOWERS if key == "dataset" else None
    if saved.get(key, default) != value:
        write_json(results_dir / "assignment.json", {**saved, key: value})


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
