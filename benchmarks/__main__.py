"""The command line: `python -m benchmarks [--quick] [--data DIR] [--cases NAME ...]`."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.cases import CASES
from benchmarks.measure import machine_facts
from benchmarks.plan import QUICK_ROUNDS, ROUNDS, Bench, make_bench
from benchmarks.report import Report, markdown, read_report
from helpers.errors import KitError
from helpers.lib.folders import show_path

RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns the exit status: 0, 1 (a case failed), 2 (`KitError`), 130 (stopped)."""
    options = _parser().parse_args(arguments)
    try:
        return _show(options) if options.show else _measure(options)
    except KitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped: rows that were measured are in the results folder", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Time the kit against PyTorch's transfer-learning tutorial, in turn.",
        epilog="cases:\n" + "\n".join(f"  {name:<12} {f.__doc__}" for name, f in CASES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick", action="store_true", help="a look in a minute or two, on a few small pictures"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="the folder that holds flowers-102 (default: KIT_DATA, else data)",
    )
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="only these (default: all)")
    parser.add_argument(
        "--rounds",
        type=int,
        metavar="N",
        help=f"measured after a warm-up (default: {ROUNDS}, with --quick {QUICK_ROUNDS})",
    )
    parser.add_argument(
        "--in-full",
        action="store_true",
        help="really train the tutorial's 25 epochs of extractor and finetune, and record how well "
        "they learn (hours on a CPU)",
    )
    parser.add_argument(
        "--out", type=Path, default=RESULTS, metavar="DIR", help="default: benchmarks/results"
    )
    parser.add_argument(
        "--show", type=Path, metavar="FILE", help="measure nothing: the table of earlier results"
    )
    return parser


def _show(options: argparse.Namespace) -> int:
    report = read_report(options.show)
    print(markdown(report))
    print(f"\nfigure: {show_path(report.write_figure(options.out))}")
    return 0


def _measure(options: argparse.Namespace) -> int:
    cases = _chosen(options.cases)
    with tempfile.TemporaryDirectory() as folder:
        bench = make_bench(
            profile=_use_folder(options.data),
            quick=options.quick,
            in_full=options.in_full,
            rounds=options.rounds,
            folder=Path(folder),
        )
        report = Report(machine_facts(bench.workspace), dataclasses.asdict(bench.plan))
        path = report.write(options.out)  # before hours of work: can it be written?
        _run(cases, bench, report, options.out)
    print(f"\n{markdown(report)}\n\nresults: {show_path(path)}")
    if report.rows:
        print(f"figure: {show_path(report.write_figure(options.out))}")
    for case, fault in report.failures.items():
        print(f"error: {case}: {fault}", file=sys.stderr)
    return int(bool(report.failures))


def _run(cases: Iterable[str], bench: Bench, report: Report, folder: Path) -> None:
    """Run the cases, and write the report after each row; a failure does not stop the others."""
    for name in cases:
        print(f"\n{name}: {CASES[name].__doc__}", flush=True)
        try:
            for row in CASES[name](bench):
                if bench.plan.quick:  # the aims are for the real thing
                    row = dataclasses.replace(row, aim=None)
                report.rows.append(row)
                report.write(folder)
        except KitError as error:
            report.failures[name] = str(error)
            report.write(folder)


def _chosen(names: Sequence[str] | None) -> list[str]:
    """The cases of that name, in the order of the table. Raises `KitError` for an unknown one."""
    for name in names or ():
        if name not in CASES:
            raise KitError(f"no case {name!r}: use one or more of {', '.join(CASES)}")
    return [name for name in CASES if not names or name in names]


def _use_folder(data: Path | None) -> str | None:
    """Let the kit, here and in processes of their own, find Flowers102 in `data`; the profile."""
    if data is None:
        return None
    if not data.is_dir():
        raise KitError(f"--data {data} is no folder: give the one that holds flowers-102")
    os.environ["KIT_DATA"] = str(data.resolve())
    return "full"


if __name__ == "__main__":
    sys.exit(main())
