"""The laboratory of extension 11: an experiment with its fault and without, and its alarm."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from .data import Data
from .kit.errors import KitError
from .results import format_table

Alarm = Callable[[Mapping[str, object]], None]  # raises AssertionError when it notices a fault
WITH, WITHOUT = "with the fault", "without it"


@dataclass(frozen=True)
class Finding:
    """What one fault did: the first number of its experiment both ways, and what the alarm said."""

    title: str
    quantity: str
    values: tuple[object, object]  # with the fault and without it
    texts: tuple[str, str]  # the same, as they are shown
    alarm: str
    bet: str  # how near it came, "" without one


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
        experiment: Callable[[bool], dict[str, object]],
        alarm: Alarm,
        *,
        bet: float | str | None = None,
    ) -> tuple[dict[str, object], dict[str, object]]:
        """Run an experiment with its fault and without it, and print both side by side.

        Both begin with the same random state and see the same batches, so that nothing but the
        switch is different. `bet` is what you expected the first number to be with the fault.
        Returns what the two runs measured. Raises `KitError` unless the alarm goes off with the
        fault, and only then.
        """
        results = [self.run(experiment, faulty) for faulty in (True, False)]
        shown = [readable(result) for result in results]
        words = [rings(alarm, result) for result in results]
        rows = [
            {title: name, WITH: text, WITHOUT: shown[1].get(name, "")}
            for name, text in shown[0].items()
        ]
        print(format_table([*rows, {title: "the alarm", **alarm_row(words)}]))
        if words[0] is None or words[1] is not None:
            raise KitError(faulty_alarm(title, words))
        print(f"it says: {words[0]}")
        quantity = next(iter(shown[0]))
        told = bet_told(bet, results[0][quantity], shown[0][quantity])
        if told:
            print(told)
        self.findings[title] = Finding(
            title=title,
            quantity=quantity,
            values=(results[0][quantity], results[1][quantity]),
            texts=(shown[0][quantity], shown[1][quantity]),
            alarm=words[0],
            bet=told,
        )
        return results[0], results[1]

    def run(self, experiment: Callable[..., dict[str, object]], *switch: bool) -> dict[str, object]:
        """One run of an experiment, with its switch if it has one, begun as all of them are."""
        torch.manual_seed(self.seed)
        for data in self.data:
            data.train.batch_sampler.reseed()
        return experiment(*switch)

    def listen(self, result: Mapping[str, object], alarms: Sequence[Alarm]) -> list[str]:
        """Print which of several alarms go off at a result; returns the names of those."""
        said = {alarm.__name__: rings(alarm, result) for alarm in alarms}
        for name, words in said.items():
            print(f"{name:<24} {'silent' if words is None else f'RINGS: {words}'}")
        return [name for name, words in said.items() if words is not None]

    def summary(self, *, note: str = "") -> None:
        """Print all faults so far: what each did to its number, and what its alarm said."""
        rows = [
            {
                "Fault": one.title,
                "What was measured": one.quantity,
                "With": one.texts[0],
                "Without": one.texts[1],
            }
            for one in self.findings.values()
        ]
        lines = format_table(rows, note=note).splitlines()
        for place, one in enumerate(self.findings.values()):
            # Two lines of heading, then two for each fault: the row and its alarm.
            lines.insert(3 + 2 * place, f"      alarm: {one.alarm}")
        print("\n".join(lines))
        bets = [f"{one.title}: {one.bet}" for one in self.findings.values() if one.bet]
        if bets:
            print("", *bets, sep="\n")


def rings(alarm: Alarm, result: Mapping[str, object]) -> str | None:
    """What an alarm says to a result, None when it is silent."""
    try:
        alarm(result)
    except AssertionError as noticed:
        # pytest adds lines of its own to what an assert says
        return str(noticed).partition("\n")[0] or "something is wrong"
    return None


def alarm_row(words: Sequence[str | None]) -> dict[str, str]:
    """Whether the alarm went off in either run."""
    texts = ["is silent" if one is None else "RINGS" for one in words]
    return dict(zip((WITH, WITHOUT), texts, strict=True))


def faulty_alarm(title: str, words: Sequence[str | None]) -> str:
    """What is wrong with an alarm that says these words with the fault and without it."""
    if words[0] is None:
        return f"{title}: the alarm is silent although the fault is there, so it cannot notice it"
    return f"{title}: the alarm goes off without the fault, too ({words[1]})"


def readable(result: Mapping[str, object]) -> dict[str, str]:
    """The texts and numbers of a result, as they are shown; raises `KitError` if there is none."""
    shown = {}
    for name, value in result.items():
        if isinstance(value, str):
            shown[name] = value
        elif isinstance(value, int):
            shown[name] = f"{value:,}"
        elif isinstance(value, Real):
            shown[name] = f"{value:,.2f}"
    if not shown:
        raise KitError(f"the experiment measured nothing that can be shown: {', '.join(result)}")
    return shown


def bet_told(bet: float | str | None, value: object, text: str) -> str:
    """How near a bet came to what was measured; "" without a bet."""
    if bet is None:
        return ""
    if isinstance(bet, Real) and isinstance(value, Real):
        return f"you bet {bet:g}, it is {text}: {abs(value - bet):,.3g} off"
    return f"you bet {bet}, it is {text}"


def train_one_epoch(
    network: nn.Module,
    loader: Iterable[tuple[torch.Tensor, torch.Tensor]],
    optimizer: torch.optim.Optimizer,
    scheduler: LRScheduler | None = None,
) -> float:
    """One pass over batches, by the loop that everybody writes; returns the mean loss in nats.

    It begins with `network.train()`, and the schedule moves a step after each batch. It checks
    nothing: that is what makes it fit for a laboratory of faults. `train_model` is for real runs.
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
