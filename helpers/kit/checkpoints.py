"""Checkpoints: what a training run leaves on the disk after each epoch, so that it can go on.

A checkpoint belongs to everything that decides a result, its facts: when they are the same, a run
goes on where it was interrupted, or is loaded when it is complete; when one has changed, the run
starts anew. A file holds plain types and tensors, appears when it is complete, and reading it runs
no code. With `num_workers=0` a run that went on ends as if it had never been interrupted, bit for
bit; worker processes draw from the random state as they start, which changes later dropout.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import io
import json
import pickle
import re
import weakref
import zipfile
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from .errors import Interrupted, KitError, WriteError
from .files import only_writer, save_tensors, written_atomically
from .identity import kit_version
from .session_log import source_hash

SCHEMA = 1
KEPT = 2  # checkpoints in one folder: of the present settings, and of those before
HELPERS = Path(__file__).resolve().parents[1]
CODE = ("training.py", "data.py", "models.py")  # of helpers, which a result depends on
SHORTEST_TEXT = 40  # characters: longer values are named but not shown

# Of writing: the disk is full, or a schedule of one's own holds what cannot be written or read.
_FAULTS = (KitError, OSError, RuntimeError, pickle.PickleError, AttributeError, TypeError)
_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")


@dataclasses.dataclass
class Parts:
    """What a training run is made of; `best` and `history` are filled as it goes on."""

    model: nn.Module
    data: Any  # helpers.data.Data, which knows of this module
    criterion: Any
    optimizer: Optimizer
    scheduler: LRScheduler | None
    scaler: torch.amp.GradScaler
    best: Any  # helpers.training.BestWeights
    history: list[dict[str, float]]

    @property
    def order(self) -> Any:
        """What draws the batches of training."""
        return self.data.train.batch_sampler

    @property
    def device(self) -> torch.device:
        return next((value.device for value in self.model.parameters()), torch.device("cpu"))

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on; tensors are those of the run, not copies."""
        is_best = self.best.epoch == len(self.history) > 0  # then equal weights are stored once
        return {
            "model": self.best.state if is_best else self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else {},
            "scaler": self.scaler.state_dict(),
            "generators": self._generators(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Make the next step the one that `state()` was taken before."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler:
            self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        self.order.generator.set_state(state["generators"]["batches"])
        torch.set_rng_state(state["generators"]["cpu"])
        if self.device.type in ("cuda", "mps"):
            getattr(torch, self.device.type).set_rng_state(state["generators"]["device"])

    def _generators(self) -> dict[str, torch.Tensor]:
        states = {"batches": self.order.generator.get_state(), "cpu": torch.get_rng_state()}
        if self.device.type in ("cuda", "mps"):
            states["device"] = getattr(torch, self.device.type).get_rng_state().cpu()
        return states


class Checkpoints:
    """Keeps a training run safe while the block runs, and says how it goes on.

    Without a folder nothing is written. However the block ends before its time, the model is left
    with the best weights so far; when that was the stop button, `Interrupted` says how to go on.
    """

    def __init__(
        self, folder: Path | None, parts: Parts, *, rerun: bool, num_epochs: int, **settings: object
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        self.parts, self.num_epochs = parts, num_epochs
        self.first_loss, self.resumed, self.is_loaded = 0.0, 0, False
        self.feature_seconds, self.ended = parts.data.feature_seconds, ""
        self.path, self.stamp, self.found, self.told = Path(), None, None, False
        self.stack = contextlib.ExitStack()
        self.start: dict[str, str] = {}
        if folder is not None:
            settings = {"num_epochs": num_epochs, **settings}
            self._look(describe(parts, settings), rerun)

    @property
    def is_new(self) -> bool:
        """Whether this run starts with its first epoch, from what it was given."""
        return self.found is None

    @property
    def epochs_left(self) -> range:
        """The numbers of the epochs that are still to run."""
        last = 0 if self.is_loaded else self.num_epochs
        return range(len(self.parts.history) + 1, last + 1)

    def _look(self, settings: dict[str, str], rerun: bool) -> None:
        """Look for the checkpoint of this run; without one, say what has changed."""
        left = _LEFT.get(self.parts.model)
        starts = [describe_start(self.parts)]
        if left is not None and not rerun and left.fits(self.parts):
            starts.insert(0, left.start)  # the cell of a run that was left runs again
        for self.start in starts:
            self.facts = {**settings, **self.start}
            self.path = self.folder / f"{_hash(self.facts)[:16]}.pt"
            self.stamp = _stamp(self.path)
            self.found = self._read() if self.stamp and not rerun else None
            if self.found is not None:
                break
        if self.found is not None:
            self.is_loaded = self.found["finished"]
        elif not rerun and not self.stamp and (changed := self._changed()):
            print(f"training anew, for something has changed: {changed}")

    def _read(self) -> dict[str, Any] | None:
        """The content of the checkpoint; a damaged one is told of and taken for none."""
        try:
            content = read_checkpoint(self.path)
            check_fits(content, self.facts, self.parts)
            return content
        except (KitError, KeyError, TypeError, ValueError, AttributeError) as error:
            print(f"training anew, for the checkpoint {self.path} cannot be used: {error}")
            return None

    def _changed(self) -> str:
        """What differs from the newest other checkpoint in the folder, "" without one."""
        for path in self._others():
            with contextlib.suppress(KitError, KeyError, TypeError, AttributeError):
                return differences(read_checkpoint(path)["facts"], self.facts)
        return ""

    def _others(self) -> list[Path]:
        """The other checkpoints in the folder, the newest first."""
        paths = [path for path in self.folder.glob("*.pt") if path != self.path]
        return sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)

    def __enter__(self) -> Checkpoints:
        _LEFT.pop(self.parts.model, None)
        if self.is_loaded:
            self._resume()
        elif self.folder is not None:
            self._begin()
        return self

    def _begin(self) -> None:
        """Become the only one that writes here; then begin the run, or go on with it."""
        what = f"the checkpoint of {self.folder.name}"
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(only_writer(self.folder / ".lock", what))
            except WriteError as error:
                self._tell(error)
                self.folder = None
            for rest in self.folder.glob(".*.part") if self.folder else ():
                rest.unlink(missing_ok=True)  # of a run that was killed while it wrote
            if _stamp(self.path) != self.stamp:
                raise KitError(f"another run has just written {self.path}: run this again")
            if self.found is not None:
                self._resume()
            elif self.folder is not None:
                self._write_first()
            self.stack = stack.pop_all()

    def _write_first(self) -> None:
        """Write what the run starts from, make room for it, and see whether it can be read."""
        self._write()
        for path in self._others()[KEPT - 1 :]:
            path.unlink(missing_ok=True)
        stream = io.BytesIO()
        try:
            torch.save(plain({**self.parts.state(), "model": None}), stream)
            torch.load(io.BytesIO(stream.getvalue()), weights_only=True)
        except _FAULTS as error:
            self._tell(error)

    def _resume(self) -> None:
        """Give the parts what the checkpoint holds, and say so."""
        parts, content = self.parts, self.found
        when, epoch = _local(content["time"]), len(content["history"]) + 1
        if self.is_loaded:
            self.ended = content["time"]
            print(f"loaded: this run ended on {when}, rerun=True would train it again")
        else:
            print(f"going on with epoch {epoch} of {self.num_epochs}: interrupted on {when}")
        if not self.is_loaded:
            parts.load_state(content)
        parts.history[:] = content["history"]
        for name, value in content["best"].items():
            setattr(parts.best, name, value)
        self.first_loss, self.feature_seconds = content["first_loss"], content["feature_seconds"]
        self.resumed = content["resumed"] + (not self.is_loaded and len(parts.history) > 0)
        content.clear()  # the weights in it are as large as the network

    def epoch_done(self) -> None:
        """Write a checkpoint; that of the last epoch is written as the block ends."""
        if self.folder is not None and len(self.parts.history) < self.num_epochs:
            self._write_before_stopping()

    def _write_before_stopping(self, *, finished: bool = False) -> None:
        """Write, also when the stop button is pressed meanwhile: an epoch is not to be lost."""
        try:
            self._write(finished=finished)
        except KeyboardInterrupt:
            self._write(finished=finished)
            raise

    def _write(self, *, finished: bool = False) -> None:
        """Write the checkpoint; when that fails the run goes on, and says so once."""
        parts = self.parts
        best = {name: getattr(parts.best, name) for name in ("epoch", "accuracy", "state")}
        content = {
            "schema": SCHEMA,
            "facts": self.facts,
            "time": self.ended if finished else _now(),
            "finished": finished,
            "history": parts.history,
            "best": best,
            "first_loss": self.first_loss,
            "feature_seconds": self.feature_seconds,
            "resumed": self.resumed,
            **({} if finished else parts.state()),
        }
        try:
            with written_atomically(self.path) as temporary:
                save_tensors(plain(content), temporary)
        except _FAULTS as error:
            self._tell(error)

    def _tell(self, error: Exception) -> None:
        if not self.told:
            reason = str(error).splitlines()[0]
            print(f"NOTE: this run cannot go on if it is interrupted, for {reason}")
        self.told = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stopped = kind is not None and issubclass(kind, KeyboardInterrupt)
        with self.stack:
            if kind is None:
                self._end()
            elif stopped or self.folder is not None:
                self._leave()
        if stopped:
            raise Interrupted(self._how_to_go_on()) from None

    def _end(self) -> None:
        best = self.parts.best
        best.restore(self.parts.model)
        self._remember(weights=best.state)
        self.ended = self.ended or _now()
        if self.folder is not None and not self.is_loaded:
            self._write_before_stopping(finished=True)

    def _leave(self) -> None:
        """Leave the model with the best weights so far, the first ones when there are no others."""
        model, best = self.parts.model, self.parts.best
        if best.epoch:
            best.restore(model)
        elif self.path.is_file():
            model.load_state_dict(read_checkpoint(self.path)["model"])
        self._remember(weights=model.state_dict(), unfinished=self._how_far())

    def _remember(self, *, weights: dict[str, torch.Tensor], unfinished: str = "") -> None:
        parts = self.parts
        _LEFT[parts.model] = _Left(
            weights=digest(weights) if self.folder is not None else "",
            start=self.start,
            optimizer=weakref.ref(parts.optimizer),
            scheduler=weakref.ref(parts.scheduler) if parts.scheduler else None,
            unfinished=unfinished,
        )

    def _how_far(self) -> str:
        epoch = min(len(self.parts.history) + 1, self.num_epochs)
        return f"in epoch {epoch} of {self.num_epochs}"

    def _how_to_go_on(self) -> str:
        best, start = self.parts.best, "stopped " + self._how_far()
        if best.epoch:
            so_far = f"its best weights so far, of epoch {best.epoch} ({best.accuracy:.1%} on val)"
        else:
            so_far = "its first weights" if self.path.is_file() else "the weights of this moment"
        go_on = "Run this again to go on from there. " if self.folder and not self.told else ""
        return f"{start}. {go_on}The model has {so_far}"


@dataclasses.dataclass(frozen=True)
class _Left:
    """How this process left a model that it trained: by this it knows it again."""

    weights: str  # their digest
    start: dict[str, str]  # what the run started from
    optimizer: weakref.ref
    scheduler: weakref.ref | None
    unfinished: str  # how far the run came, "" when it is complete

    def fits(self, parts: Parts) -> bool:
        """Whether these are the same objects, as they were left."""
        scheduler = self.scheduler() if self.scheduler else None
        return (
            self.optimizer() is parts.optimizer
            and scheduler is parts.scheduler
            and self.weights == digest(parts.model.state_dict())
        )


_LEFT: weakref.WeakKeyDictionary[nn.Module, _Left] = weakref.WeakKeyDictionary()


def check_finished(model: nn.Module) -> None:
    """Raise `KitError` when the training of a model, or of a part of it, was interrupted."""
    for part in model.modules():
        if part in _LEFT and _LEFT[part].unfinished:
            raise KitError(
                f"the training of this model was stopped {_LEFT[part].unfinished}, so there is "
                "nothing to record yet: run the cell that trains it again"
            )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running code from it; raises `KitError` when it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch itself does not look at the checksums
        if damaged is not None:
            raise ValueError(f"{damaged} is damaged")
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise ValueError("another version of the kit wrote it")
        return content
    except Exception as error:  # a damaged file makes torch raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise KitError(f"the checkpoint {path.name} cannot be read ({reason})") from None


def check_fits(content: dict[str, Any], facts: dict[str, str], parts: Parts) -> None:
    """Raise an error unless a checkpoint is of this run, and whole."""
    if content["facts"] != facts:
        raise ValueError("it is of other settings")
    rows, epochs = content["history"], [row["epoch"] for row in content["history"]]
    if epochs != list(range(1, len(rows) + 1)) or (content["finished"] and not rows):
        raise ValueError("its history is not whole")
    sizes = shapes(parts.model.state_dict())
    weights = [content["best"]["state"]] if rows else []
    weights += [] if content["finished"] else [content["model"]]
    if any(shapes(state) != sizes for state in weights):
        raise ValueError("its weights are of another network")
    for value in (content["first_loss"], content["feature_seconds"], content["best"]["accuracy"]):
        float(value)


def shapes(state: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    """The shape of each tensor of a state."""
    return {name: value.shape for name, value in state.items()}


def differences(before: dict[str, str], now: dict[str, str]) -> str:
    """Which facts have changed, the first three with their values."""
    names = [name for name in {**now, **before} if before.get(name) != now.get(name)]
    # A schedule follows from the other settings: it is named when nothing else has changed.
    names = [name for name in names if not name.endswith("of the schedule")] or names
    texts = []
    for name in names[:3]:
        old, new = before.get(name, "none"), now.get(name, "none")
        short = max(len(old), len(new)) <= SHORTEST_TEXT
        texts.append(f"{name} was {old}, is {new}" if short else name)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return "; ".join(texts) + more


def describe(parts: Parts, settings: dict[str, object]) -> dict[str, str]:
    """Everything that decides a result but what it starts from, as texts."""
    data, criterion = parts.data, parts.criterion
    code = [source_hash((HELPERS / name).read_text(encoding="utf-8")) for name in CODE]
    facts = {
        "version of the kit": kit_version(),
        "version of torch": torch.__version__,
        **{f"helpers/{name}": value for name, value in zip(CODE, code, strict=True)},
        "device": parts.device.type,
        **settings,
        "data set": f"{data.name}, {data.size} pixels",
        "batch_size": parts.order.batch_size,
        "seed of the batches": parts.order.seed,
    }
    for split in ("train", "val"):
        samples = data.dataloaders[split].dataset
        facts[f"{split} samples"] = digest([samples.ids, samples.labels, data.fingerprint])
        while hasattr(samples, "samples"):  # a selection, or a share
            samples = samples.samples
        facts[f"transform of {split}"] = str(getattr(samples, "transform", "none"))
        facts[f"features of {split}"] = digest(getattr(samples, "vectors", None))
    own = {k: v for k, v in getattr(criterion, "__dict__", {}).items() if not k.startswith("_")}
    facts["criterion"] = getattr(criterion, "__qualname__", type(criterion).__qualname__)
    facts |= {f"{name} of the criterion": value for name, value in own.items()}
    if isinstance(criterion, nn.Module):
        facts["weights of the criterion"] = digest(criterion.state_dict())
    return {name: _text(value) for name, value in facts.items()}


def describe_start(parts: Parts) -> dict[str, str]:
    """What a run starts from, as texts: the network, how it is stepped, the random state."""
    model, optimizer, scheduler = parts.model, parts.optimizer, parts.scheduler
    frozen = [name for name, value in model.named_parameters() if not value.requires_grad]
    facts: dict[str, object] = {
        "network": digest([_text(model), frozen]),
        "first weights": digest(model.state_dict()),
        "optimizer": type(optimizer).__name__,
        "state of the optimizer": digest(optimizer.state_dict()["state"]),
    }
    for number, group in enumerate(optimizer.param_groups, start=1):
        facts[f"parameters of group {number}"] = len(group["params"])
        for name, value in group.items():
            if name != "params":
                facts[f"{name} of group {number}"] = value
    facts["schedule"] = type(scheduler).__name__
    if scheduler is not None:
        facts |= {f"{name} of the schedule": v for name, v in scheduler.state_dict().items()}
    facts["random state (set by torch.manual_seed)"] = digest(torch.get_rng_state())
    return {name: _text(value) for name, value in facts.items()}


def digest(value: Any) -> str:
    """SHA-256 over nested dicts, lists and tensors, as 64 hexadecimal digits.

    Where a tensor lies in memory, and in which order, makes no difference.
    """
    sha = hashlib.sha256()
    _feed(sha, value)
    return sha.hexdigest()


def _feed(sha: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        flat = value.detach().cpu().reshape(-1).contiguous()
        sha.update(f"{value.dtype}{tuple(value.shape)}".encode())
        sha.update(flat.view(torch.uint8).numpy())
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


def plain(value: Any) -> Any:
    """The same nested value without numpy's numbers, which `weights_only` refuses to read."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(item) for item in value)
    if hasattr(value, "item") and not isinstance(value, torch.Tensor):
        return value.item()
    return value


def _text(value: object) -> str:
    """A value as a text that is the same in every process."""
    return _ADDRESS.sub("", str(value))


def _hash(facts: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _stamp(path: Path) -> tuple[int, int] | None:
    """What tells one version of a file from the next, None without a file."""
    with contextlib.suppress(OSError):
        stat = path.stat()
        return stat.st_mtime_ns, stat.st_size
    return None


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")


def _local(time: str) -> str:
    """A time as the clock on the wall shows it."""
    return f"{datetime.datetime.fromisoformat(time).astimezone():%Y-%m-%d %H:%M}"
