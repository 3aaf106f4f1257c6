"""The laboratory of extension 11: an experiment with its fault and without, and its alarm."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from helpers.comparison import Table
from helpers.data import Data
from helpers.errors import KitError
from helpers.lib.loaders import reseed

Measured = dict[str, Any]  # what an experiment returns
Alarm = Callable[[Measured], None]  # raises AssertionError when it notices a fault
WITH, WITHOUT = "with the fault", "without it"


@dataclass(frozen=True)
class Finding:
    """What one fault did: the first number of its experiment both ways, and what the alarm said."""

    title: str
    quantity: str
    values: tuple[Any, Any]  # with the fault and without it
    texts: tuple[str, str]  # the same, as they are shown
    alarm: str  # what it said


class FaultLab:
    """Runs experiments with a fault and without it, and remembers what the fault did.

    An experiment is a function of one switch, `faulty`, that returns a dict: what it measured,
    the most telling number first. Texts and numbers are shown, whole numbers as they are and
    others with two decimals; all else is for the alarm, a function of that dict that asserts what
    must hold. `seed` is the random state that each run begins with.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.data: list[Data] = []
        self.findings: dict[str, Finding] = {}

    def add(self, data: Data) -> Data:
        """Let every run begin with the same batches of these data, too; returns them."""
        self.data.append(data)
        return data

    def compare(
        self,
        title: str,
        experiment: Callable[[bool], Measured],
        alarm: Alarm,
        *,
        bet: float | str | None = None,
    ) -> tuple[Measured, Measured]:
        """Run an experiment with its fault and without it, and print both side by side.

        Both begin with the same random state and see the same batches, so that nothing but the
        switch is different.

        Args:
            title: of the fault, with its number.
            experiment: a function of the switch.
            alarm: goes off with the fault, and only then.
            bet: what you expected the first number to be with the fault.

        Returns:
            What the two runs measured, the one with the fault first.

        Raises:
            KitError: when the alarm is silent with the fault, or goes off without it.
        """
        faulty, right = (self.run(experiment, switch) for switch in (True, False))
        shown, other = readable(faulty), readable(right)
        rows = [
            {title: name, WITH: text, WITHOUT: other.get(name, "")} for name, text in shown.items()
        ]
        said, false_alarm = rings(alarm, faulty), rings(alarm, right)
        states = ["is silent" if words is None else "RINGS" for words in (said, false_alarm)]
        rows.append({title: "the alarm", WITH: states[0], WITHOUT: states[1]})
        print(Table(rows))
        if said is None:
            raise KitError(
                f"{title}: the alarm is silent although the fault is there, so it cannot notice it"
            )
        if false_alarm is not None:
            raise KitError(f"{title}: the alarm goes off without the fault, too ({false_alarm})")
        print(f"it says: {said}")
        quantity = next(iter(shown))
        told = bet_told(bet, faulty[quantity], shown[quantity])
        if told:
            print(told)
        self.findings[title] = Finding(
            title=title,
            quantity=quantity,
            values=(faulty[quantity], right[quantity]),
            texts=(shown[quantity], other[quantity]),
            alarm=said,
        )
        return faulty, right

    def run(self, experiment: Callable[..., Measured], *switch: bool) -> Measured:
        """One run of an experiment, with its switch if it has one, begun as all of them are."""
        torch.manual_seed(self.seed)
        for data in self.data:
            reseed(data.train)
        return experiment(*switch)

    def listen(self, result: Measured, alarms: Sequence[Alarm]) -> list[str]:
        """Print which of several alarms go off at a result; returns the names of those."""
        said = {alarm.__name__: rings(alarm, result) for alarm in alarms}
        for name, words in said.items():
            print(f"{name:<24} {'silent' if words is None else f'RINGS: {words}'}")
        return [name for name, words in said.items() if words is not None]


def rings(alarm: Alarm, result: Measured) -> str | None:
    """What an alarm says to a result, None when it is silent."""
    try:
        alarm(result)
    except AssertionError as noticed:
        # pytest adds lines of its own to what an assert says
        return str(noticed).partition("\n")[0] or "something is wrong"
    return None


def readable(result: Measured) -> dict[str, str]:
    """The texts and numbers of a result, as they are shown; raises `KitError` if there is none."""
    shown = {}
    for name, value in result.items():
        if isinstance(value, str):
            shown[name] = value
        elif isinstance(value, Real):
            shown[name] = f"{value:,}" if isinstance(value, int) else f"{float(value):,.2f}"
    if not shown:
        raise KitError(f"the experiment measured nothing that can be shown: {', '.join(result)}")
    return shown


def bet_told(bet: float | str | None, value: object, text: str) -> str:
    """How near a bet came to what was measured; "" without a bet."""
    if bet is None:
        return ""
    if isinstance(bet, Real) and isinstance(value, Real):
        return f"you bet {bet:g}, it is {text}: {abs(float(value) - float(bet)):,.3g} off"
    return f"you bet {bet}, it is {text}"


def train_one_epoch(
    network: nn.Module,
    loader: Iterable[tuple[torch.Tensor, torch.Tensor]],
    optimizer: torch.optim.Optimizer,
    scheduler: LRScheduler | None = None,
) -> float:
    """One pass over batches, by the loop that everybody writes.

    It begins with `network.train()`. It checks nothing: that is what makes it fit for a laboratory
    of faults. `train_model` is for real runs.

    Args:
        network: from samples to logits.
        loader: gives samples and labels, on the network's device.
        optimizer: moves after each batch.
        scheduler: moves a step after each batch, too.

    Returns:
        The mean loss over the samples.
    """
    network.train()
    loss_sum, seen = 0.0, 0
    for samples, labels in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(samples), labels)
        loss.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        loss_sum += loss.item() * len(labels)
        seen += len(labels)
    return loss_sum / seen
