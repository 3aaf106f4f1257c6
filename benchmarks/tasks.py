"""What is measured in processes of their own, which begin with nothing decoded or warmed up."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

from benchmarks import kit_way
from benchmarks.kit_way import epoch_seconds
from benchmarks.measure import fresh_process, peak_memory
from benchmarks.plan import Bench, Plan, open_bench
from benchmarks.sides import from_files, tutorial_resnet18
from helpers.workspace import find_workspace


def ask(bench: Bench, task: str) -> Any:
    """Carry out a task of `TASKS` in a process of its own; returns what it answers."""
    code = "import sys; from benchmarks.tasks import answer; answer(*sys.argv[1:])"
    return json.loads(fresh_process(code, task, json.dumps(dataclasses.asdict(bench.plan))))


def answer(task: str, plan: str) -> None:
    """The other end of `ask`: print the answer as the last line."""
    print(json.dumps(TASKS[task](Plan(**json.loads(plan)))))


def first_epochs(plan: Plan) -> list[float]:
    """Seconds of the kit's first epochs in this process."""
    return epoch_seconds(from_files(kit_way.finetune, open_bench(plan), 1 + plan.rounds)())


def kit_memory(plan: Plan) -> int:
    """Peak bytes of this process after an epoch of the kit."""
    from_files(kit_way.finetune, open_bench(plan), 1)()
    return peak_memory()


def tutorial_memory(plan: Plan) -> int:
    """Peak bytes of this process after an epoch of the tutorial way, memory handled as usual."""
    bench = Bench(find_workspace(profile=plan.profile), plan)  # no start(): it keeps freed memory
    data = bench.data(bench.recipe("resnet18_finetune"))
    tutorial_resnet18(bench, data, kit_way.resnet18(bench, data))(1)
    return peak_memory()


TASKS: dict[str, Callable[[Plan], Any]] = {
    task.__name__: task for task in (first_epochs, kit_memory, tutorial_memory)
}
