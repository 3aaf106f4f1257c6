"""Checkpoints: what a training run leaves on the disk after each epoch, so that it can go on.

A checkpoint belongs to the settings of a run and to what it starts from. When both are the same, a
run goes on where it was interrupted, or is loaded when it is complete; when one has changed, the
run starts anew. Reading a checkpoint runs no code. With `num_workers=0` a run that went on ends as
if it had never been interrupted, bit for bit.

In its folder, `KEY.pt` holds the state of a run, and `KEY.json` its settings, to be read by people.
"""

from __future__ import annotations

import contextlib
import copy
import datetime
import math
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from helpers.errors import Interrupted, KitError, WriteError
from helpers.lib.files import only_writer, read_json, save_tensors, write_json, written_atomically
from helpers.lib.loaders import generators_of
from helpers.lib.randomness import random_states, set_random_states
from helpers.lib.run_settings import describe, differences, digest, flat

SCHEMA = 2
KEPT = 2  # checkpoints in one folder: of the present settings, and of those before
ALIKE = 1e-3  # relative: two first losses that differ by less are of the same network
# Of writing: the disk is full, or a schedule of one's own holds what cannot be written or read.
_FAULTS = (KitError, OSError, RuntimeError, pickle.PickleError, AttributeError, TypeError)


class Checkpoint:
    """Keeps a training run safe while the block runs, and says how it goes on.

    Without a folder nothing is written. However the block ends before its time, the model is left
    with the best weights so far, and optimizer and schedule as they were before the run, so that
    the same cell can run again; when that was the stop button, `Interrupted` says how to go on.
    """

    def __init__(
        self,
        folder: Path | None,
        settings: dict[str, Any],
        *,
        loaders: Mapping[str, DataLoader],
        model: nn.Module,
        optimizer: Optimizer,
        scheduler: LRScheduler | None,
        scaler: torch.amp.GradScaler,
        best: Any,
        history: list[dict[str, float]],
        first_loss: float,
        feature_seconds: float,
        rerun: bool,
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        self.loaders, self.model, self.best, self.history = loaders, model, best, history
        # What has a state of its own besides the model.
        self.keepers: dict[str, Any] = {"optimizer": optimizer, "scaler": scaler}
        if scheduler is not None:
            self.keepers["scheduler"] = scheduler
        self.first_loss, self.feature_seconds = first_loss, feature_seconds
        self.num_epochs = settings["num_epochs"]
        self.resumed, self.ended, self.told = 0, "", False
        self.found: dict[str, Any] = {}
        self.stack = contextlib.ExitStack()
        vars(model).pop("interrupted", None)
        if self.folder is not None:
            self.fresh = {
                name: copy.deepcopy(one.state_dict()) for name, one in self.keepers.items()
            }
            self.start = {
                "first weights": digest(model.state_dict()),
                "random state (torch.manual_seed)": digest(torch.get_rng_state()),
            }
            self.settings = flat(settings) | describe(model, loaders)
            self.path = self._find(rerun)

    @property
    def is_new(self) -> bool:
        return not self.found

    def _find(self, rerun: bool) -> Path:
        """The file of this run's checkpoint; what is in it, if it can be used, is in `found`."""
        notes = self._notes()
        for path, note in notes.items():
            again = self.start["first weights"] == note["left"]  # the same cell runs again
            if note["settings"] == self.settings and (again or note["start"] == self.start):
                if rerun and again and note["start"]["first weights"] != note["left"]:
                    raise KitError(
                        "rerun=True starts from the first weights of the network, but this one has "
                        "been trained already: run the cell that makes it again"
                    )
                self.start = note["start"]
                if not rerun:
                    self.found = self._read(path, again)
                return path
        if notes and not rerun:
            note = next(iter(notes.values()))
            before, now = note["settings"] | note["start"], self.settings | self.start
            print(f"training anew, because something has changed: {differences(before, now)}")
        assert self.folder is not None
        return self.folder / f"{digest({**self.settings, **self.start})[:16]}.pt"

    def _notes(self) -> dict[Path, dict[str, Any]]:
        """What is noted beside each checkpoint in the folder, the newest first."""
        assert self.folder is not None
        paths = sorted(self.folder.glob("*.pt"), key=lambda path: path.stat().st_mtime)
        found = {}
        for path in reversed(paths):
            with contextlib.suppress(KitError, KeyError, TypeError):  # damaged: as if not there
                note = read_json(path.with_suffix(".json"))
                found[path] = {key: note[key] for key in ("settings", "start", "left")}
        return found

    def _read(self, path: Path, again: bool) -> dict[str, Any]:
        """The content of the checkpoint; {} for one that is damaged, or of another network."""
        try:
            content = read_checkpoint(path)
            # What the network's code calls may have changed although its own code has not.
            first_loss = content["first_loss"]
            if not again and not math.isclose(first_loss, self.first_loss, rel_tol=ALIKE):
                raise KitError(
                    f"its first loss is {first_loss:.4f}, this network's is {self.first_loss:.4f}"
                )
            return content
        except KitError as error:
            print(f"training anew, because the checkpoint {path.name} cannot be used: {error}")
            return {}

    def epochs_left(self, num_epochs: int) -> Iterator[int]:
        """The numbers of the epochs that are still to run."""
        last = 0 if self.ended else num_epochs
        yield from range(len(self.history) + 1, last + 1)

    def __enter__(self) -> Checkpoint:
        if self.folder is None:
            return self
        if self.found and self.found["finished"]:
            self._load()
            return self
        try:
            what = f"the checkpoint of {self.folder.name}"
            self.stack.enter_context(only_writer(self.folder / ".lock", what))
        except WriteError as error:
            self._tell(error)
            self.folder = None
            return self
        for rest in self.folder.glob(".*.part"):
            rest.unlink(missing_ok=True)  # of a run that was killed while it wrote
        if self.found:
            self._load()
            return self
        self._write()
        for path in list(self._notes())[KEPT:]:
            path.unlink()
            path.with_suffix(".json").unlink()
        return self

    def _load(self) -> None:
        """Make the next step the one that the checkpoint was written before, and say so."""
        content, self.found = self.found, {}
        when = f"{datetime.datetime.fromisoformat(content['time']).astimezone():%Y-%m-%d %H:%M}"
        self.history[:] = content["history"]
        vars(self.best).update(content["best"])
        self.first_loss, self.feature_seconds = content["first_loss"], content["feature_seconds"]
        self.resumed = content["resumed"]
        if content["finished"]:
            self.ended = content["time"]
            print(f"loaded: this run ended on {when}, rerun=True would train it again")
            return
        epoch = len(self.history) + 1
        print(f"going on with epoch {epoch} of {self.num_epochs}: interrupted on {when}")
        self.model.load_state_dict(content["model"])
        for name, keeper in self.keepers.items():
            keeper.load_state_dict(content[name])
        for name, generator in self._generators().items():
            generator.set_state(content["generators"][name])
        set_random_states(content["random states"])
        if content["device state"] is not None:
            self._device_module().set_rng_state(content["device state"])
        self.resumed += epoch > 1

    def epoch_done(self) -> None:
        """Write a checkpoint; that of the last epoch is written as the block ends."""
        if self.folder is not None and len(self.history) < self.num_epochs:
            self._write()

    def _write(self, *, finished: bool = False) -> None:
        """Write the checkpoint; when that fails the run goes on, and says so once."""
        content: dict[str, Any] = {
            "schema": SCHEMA,
            "time": _now(),
            "finished": finished,
            "history": self.history,
            "best": dict(vars(self.best)),
            "first_loss": self.first_loss,
            "feature_seconds": self.feature_seconds,
            "resumed": self.resumed,
        }
        if finished:
            self.ended = content["time"]
        else:  # everything that the next step depends on
            is_best = self.best.epoch == len(self.history) > 0  # equal weights are stored once
            module = self._device_module()
            content |= {
                "model": self.best.state if is_best else self.model.state_dict(),
                **{name: keeper.state_dict() for name, keeper in self.keepers.items()},
                "generators": {name: one.get_state() for name, one in self._generators().items()},
                "random states": random_states(),
                "device state": module.get_rng_state().cpu() if module else None,
            }
        try:
            with written_atomically(self.path) as temporary:
                save_tensors(content, temporary)
            self._note(left=self.best.state if finished else None)
        except _FAULTS as error:
            self._tell(error)

    def _generators(self) -> dict[str, torch.Generator]:
        """The generators of the loaders and of their samplers."""
        return {
            f"{split} {number}": generator
            for split, loader in self.loaders.items()
            for number, generator in enumerate(generators_of(loader))
        }

    def _device_module(self) -> Any:
        """torch.cuda or torch.mps, where the network is on such a device; else None."""
        device = next(self.model.parameters()).device.type
        return getattr(torch, device) if device in ("cuda", "mps") else None

    def _note(self, *, left: dict[str, torch.Tensor] | None) -> None:
        """Note beside the checkpoint what it is of, and the weights that the model is left with."""
        note = {"settings": self.settings, "start": self.start, "left": left and digest(left)}
        write_json(self.path.with_suffix(".json"), note)

    def _tell(self, error: Exception) -> None:
        if not self.told:
            reason = str(error).splitlines()[0]
            print(f"NOTE: this run cannot go on if it is interrupted ({reason})")
        self.told = True

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        stopped = kind is not None and issubclass(kind, KeyboardInterrupt)
        with self.stack:
            if kind is not None and (stopped or self.folder is not None):
                self._leave()
            elif kind is None and not self.ended:
                self.ended = _now()
                if self.folder is not None:
                    self._write(finished=True)
        if self.folder is not None:
            for name, keeper in self.keepers.items():  # so that the same cell can run again
                keeper.load_state_dict(self.fresh[name])
        if stopped:
            raise Interrupted(self._how_to_go_on()) from None

    def _leave(self) -> None:
        """Leave the model with the best weights so far, the first ones when there are no others."""
        if self.best.epoch:
            self.best.restore(self.model)
        elif self.folder is not None and self.path.is_file():
            self.model.load_state_dict(read_checkpoint(self.path)["model"])
        vars(self.model)["interrupted"] = self._how_far()  # there is nothing to record yet
        if self.folder is not None:
            with contextlib.suppress(*_FAULTS):
                self._note(left=self.model.state_dict())

    def _how_far(self) -> str:
        return f"in epoch {min(len(self.history) + 1, self.num_epochs)} of {self.num_epochs}"

    def _how_to_go_on(self) -> str:
        best = self.best
        model = "its first weights" if self.folder else "the weights of this moment"
        if best.epoch:
            model = f"its best weights so far, of epoch {best.epoch} ({best.accuracy:.1%} on val)"
        go_on = "Run this again to go on from there. " if self.folder and not self.told else ""
        return f"stopped {self._how_far()}. {go_on}The model has {model}"


def check_finished(model: nn.Module) -> None:
    """Raise `KitError` when the training of a model, or of a part of it, was interrupted."""
    for part in model.modules():
        if how_far := vars(part).get("interrupted"):
            raise KitError(
                f"the training of this model was stopped {how_far}, so there is nothing to record "
                "yet: run the cell that trains it again"
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


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
