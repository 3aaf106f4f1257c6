"""Where a notebook runs: profile, data set, device, seed, folders. `start()` is its first line."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torchvision

from helpers.errors import KitError
from helpers.lib.assignment import read_assignment, remember, remember_student
from helpers.lib.cell_log import log_cells
from helpers.lib.devices import choose_device, choose_precision, name_of
from helpers.lib.files import check_writable
from helpers.lib.flowers import flowers102_is_present
from helpers.lib.folders import folders, show_path, weights_dir
from helpers.lib.identity import FLOWERS, seed_of
from helpers.lib.memory import keep_freed_memory
from helpers.lib.sources import list_pictures
from helpers.lib.weights import IMAGENET as IMAGENET_WEIGHTS

PRETRAINED = {"mini": "drawn", "full": "imagenet"}  # weights of each profile
WANTED, BY_VARIABLE = "asked for", "set by KIT_PROFILE"  # reasons that a data set cannot change


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

    @property
    def checkpoints_dir(self) -> Path:
        """Where training runs keep what they need to go on after an interruption."""
        return self.results_dir / "checkpoints"

    def __str__(self) -> str:
        lines = [
            f"profile  {self.profile}: {self.reason}",
            f"machine  {self.device}, {self.threads} threads, {name_of(self.precision)}; torch "
            f"{torch.__version__}, torchvision {torchvision.__version__}, Python "
            f"{platform.python_version()}",
            f"folders  data {show_path(self.data_dir)}, results {show_path(self.results_dir)}, "
            f"weights {show_path(weights_dir().parents[1])}",
            f"student  {self.student or 'none given'}, seed {self.seed}",
        ]
        if self.dataset != FLOWERS:
            lines.insert(1, f"data set {show_path(Path(self.dataset))}")
        if self.profile == "mini":
            note = "mini pictures are DRAWINGS: its numbers say nothing of real flowers"
            if self.dataset != FLOWERS:
                note = "mini: small pictures, few epochs; weights from DRAWINGS may not suit photos"
            lines.append(f"NOTE     {note}")
        return "\n".join(lines)


def start(
    student: str | None = None,
    *,
    profile: str | None = None,
    device: str | torch.device | None = None,
    dataset: str | Path | None = None,
) -> Workspace:
    """Decide profile, data set, device, seed and folders, and print them as a short banner.

    From now on each cell that runs leaves a line in results/<profile>/log.jsonl, for
    `python -m coursekit submit`. Environment: `KIT_PROFILE`, `KIT_DATASET`, `KIT_DATA`,
    `KIT_RESULTS`, `TORCH_HOME`; relative paths resolve against the folder of the kit.

    Args:
        student: an id such as "s1234567"; the seed, and with it the batches and the first weights
            of each new layer, comes from it, and later notebooks remember it.
        profile: "mini" or "full", instead of what is found.
        device: "cpu", "cuda" or "mps", instead of the fastest there is.
        dataset: for this workspace alone, instead of what `choose_dataset` has kept.

    Raises:
        KitError: for an unknown profile or device, and when only a part of Flowers102 is there.
    """
    keep_freed_memory()
    torch.hub.set_dir(weights_dir().parent)  # torch itself takes a relative TORCH_HOME otherwise
    workspace = find_workspace(student, profile=profile, device=device, dataset=dataset)
    check_writable(workspace.results_dir)
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
        pretrained=PRETRAINED[profile],
    )


def choose_dataset(workspace: Workspace, dataset: str | Path) -> Workspace:
    """Decide whose pictures all notebooks use.

    It is kept in results/assignment.json, where every `start()` finds it; `KIT_DATASET` goes
    before it. The profile may change with it, unless it was asked for.

    Args:
        workspace: from `start()`.
        dataset: "Flowers102", the assignment's own (drawn on the mini profile); another set that
            the assignment allows ("OxfordIIITPet", "DTD", "FGVCAircraft", "EuroSAT"); or a folder
            with a folder of pictures for each class, below the data folder or that of the kit.

    Returns:
        The workspace that uses it.

    Raises:
        KitError: when the set is refused, unknown, not on this machine or cannot be used; nothing
            is kept then.
    """
    dataset, by_variable = _text_of(dataset), _text_of(os.environ.get("KIT_DATASET"))
    if by_variable and by_variable != dataset:
        print(f"data set {by_variable}, set by KIT_DATASET: {dataset} is not used")
        return workspace
    if not dataset.isprintable():
        raise KitError(f"the data set {dataset!a} cannot be written in a line: rename its folder")
    results_dir = workspace.results_dir.parent
    profile, reason = workspace.profile, workspace.reason
    if reason not in (WANTED, BY_VARIABLE):
        profile, reason = choose_profile(None, workspace.data_dir, dataset)
    listing = list_pictures(
        dataset, profile=profile, data_dir=workspace.data_dir, seed=workspace.seed
    )
    remember(results_dir, "dataset", dataset)
    chosen = replace(
        workspace,
        dataset=dataset,
        profile=profile,
        reason=reason,
        results_dir=results_dir / profile,
        pretrained=PRETRAINED[profile],
    )
    if chosen != workspace:
        print(chosen)
        log_cells(chosen.results_dir)
    pictures = sum(len(paths) for paths, _ in listing.splits.values())
    print(f"{listing.name}: {len(listing.class_names)} classes, {pictures:,} pictures, "
          "for all six notebooks")  # fmt: skip
    for note in listing.notes:
        print(f"- {note}")
    return chosen


def chosen_dataset(results_dir: Path) -> str:
    """The data set of `KIT_DATASET`, else what `choose_dataset` has kept, else Flowers102."""
    kept = read_assignment(results_dir).get("dataset")
    return _text_of(os.environ.get("KIT_DATASET")) or _text_of(kept) or FLOWERS


def _text_of(dataset: str | Path | None) -> str:
    """A data set as text, with the slashes that every system understands; "" for none."""
    if dataset is None:
        return ""
    return dataset.as_posix() if isinstance(dataset, Path) else str(dataset).strip()


def choose_profile(wanted: str | None, data_dir: Path, dataset: str = FLOWERS) -> tuple[str, str]:
    """The profile and why: the argument, else `KIT_PROFILE`, else what is on this machine."""
    source = WANTED if wanted else BY_VARIABLE
    wanted = wanted or os.environ.get("KIT_PROFILE") or None
    if wanted is not None and wanted not in PRETRAINED:
        raise KitError(f"unknown profile {wanted!r}: use 'mini' or 'full'")
    if wanted is not None:
        return wanted, source
    if dataset == FLOWERS:
        place = show_path(data_dir)
        if flowers102_is_present(data_dir):
            return "full", f"all of Flowers102 is in {place}"
        return "mini", f"no Flowers102 in {place}; `python -m coursekit download` fetches it"
    place = show_path(weights_dir())  # another data set is looked for when it is loaded
    if all(file.path.is_file() for file in IMAGENET_WEIGHTS.values()):
        return "full", f"the ImageNet weights are in {place}"
    fetch = "`python -m coursekit download --weights-only` fetches them"
    return "mini", f"not all ImageNet weights are in {place}; {fetch}"
