"""The command line: `python -m coursekit run | train | submit | grade | ...`."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from helpers.errors import Interrupted, KitError
from helpers.recipes import METHODS

# Heavy modules are imported where they are used, so that --help answers at once.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 0, 1 (not all went well), 2 (`KitError`), 130."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except KitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "stopped: what was finished is kept, `run --resume` or `grade` goes on", file=sys.stderr
        )
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m coursekit",
        description="Run the notebooks of the assignment, fetch what they need, check the machine.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands)
    _add_train(commands)
    _add_download(commands)
    check = commands.add_parser(
        "check",
        help="say what this machine has and lacks",
        description="Print what this machine has and lacks, and what to do about it. "
        "Exit status 0 when the mini profile can run, else 1.",
    )
    check.add_argument(
        "--dataset",
        metavar="NAME",
        help="also look at each picture of a data set or folder (default: the one that notebook 01 "
        "has chosen, if it is not Flowers102)",
    )
    check.set_defaults(command=_check)
    _add_submit(commands)
    if _has_room("grading.release"):  # a student's edition of the kit goes without
        _add_release(commands)
    if _has_room("grading.grade"):
        _add_grade(commands)
    return parser


def _has_room(name: str) -> bool:
    """Whether this copy of the kit has that module."""
    return importlib.util.find_spec(f"{__package__}.{name}") is not None


def _add_run(commands: argparse._SubParsersAction) -> None:
    run = commands.add_parser(
        "run",
        help="run notebooks and write the report",
        description="Run notebooks in order, each in a fresh kernel, and write "
        "results/PROFILE/report.html. Earlier results of the same notebooks are moved to "
        "results/PROFILE/previous/.",
    )
    run.add_argument(
        "--profile",
        choices=("mini", "full"),
        help="mini: drawn flowers, minutes; full: Flowers102, hours on a CPU "
        "(default: KIT_PROFILE, else full when Flowers102 is there, else mini; see the README "
        "for other pictures than flowers)",
    )
    run.add_argument(
        "--notebooks",
        nargs="+",
        metavar="NAME",
        help="only these, by number or name: --notebooks 01 04 (default: all six)",
    )
    run.add_argument(
        "--extensions",
        action="store_true",
        help="run the extensions, 07 to 11, instead of the six of the assignment",
    )
    run.add_argument(
        "--resume",
        action="store_true",
        help="skip notebooks that ran to their end before, and go on with an interrupted training",
    )
    run.add_argument(
        "--save-notebooks",
        action="store_true",
        help="write the executed notebooks over those in notebooks/ (for maintainers)",
    )
    run.set_defaults(command=_run)


def _add_train(commands: argparse._SubParsersAction) -> None:
    train = commands.add_parser(
        "train",
        help="train one method, as its notebook does but outside of it",
        description="Train, test and record one method from its recipe, as its notebook does. "
        "An interrupted run goes on where it stopped, a finished one is not trained again. "
        "An earlier result of it is moved to results/PROFILE/previous/. With torchrun it trains "
        "on several processes or machines: torchrun --nproc_per_node=2 -m helpers train ...",
    )
    train.add_argument(
        "--method", required=True, metavar="NAME", help=f"one of {', '.join(METHODS)}"
    )
    train.add_argument("--profile", metavar="NAME", help="mini or full (default: as for run)")
    train.add_argument(
        "--dataset",
        metavar="NAME",
        help="a data set that the assignment allows, or a folder of class folders in the data "
        "folder (default: as notebook 01 has chosen, else Flowers102, drawn on the mini profile)",
    )
    train.add_argument(
        "--device", metavar="NAME", help="cpu, cuda or mps (default: the fastest there is)"
    )
    train.add_argument("--epochs", type=int, metavar="N", help="how many (default: the recipe's)")
    train.add_argument(
        "--workers",
        type=int,
        default=0,
        metavar="N",
        help="processes that prepare pictures ahead (default: 0, none)",
    )
    train.add_argument(
        "--rerun", action="store_true", help="train anew, also when such a run is there"
    )
    train.set_defaults(command=_train)


def _add_download(commands: argparse._SubParsersAction) -> None:
    download = commands.add_parser(
        "download",
        help="fetch a data set and the pretrained weights",
        description="Fetch what is missing of a data set and of the ImageNet weights of both "
        "networks, and check every file. KIT_DATA and TORCH_HOME say where they are kept. What "
        "is interrupted goes on where it stopped. Files fetched by hand count, too. KIT_MIRROR "
        "may name a web folder of your own that has the same files; it is asked first.",
    )
    download.add_argument("--weights-only", action="store_true", help="only the weights, 162 MB")
    download.add_argument(
        "--dataset",
        default="Flowers102",
        metavar="NAME",
        help="Flowers102 (345 MB, default), OxfordIIITPet, DTD, FGVCAircraft or EuroSAT; for the "
        "extensions CIFAR10 or CIFAR100 (170 MB each)",
    )
    download.set_defaults(command=_download)


def _add_submit(commands: argparse._SubParsersAction) -> None:
    submit = commands.add_parser(
        "submit",
        help="check your work and pack it for handing in",
        description="Check that the six notebooks ran from top to bottom, that the results are "
        "theirs and that the questions are answered, then write submission-ID.zip. Exit status 1 "
        "when something is missing and nothing was written.",
    )
    submit.add_argument("--name", help="your name, for the people who read it")
    submit.add_argument(
        "--anyway",
        action="store_true",
        help="hand in what there is, marked as incomplete (the mini profile always is)",
    )
    submit.add_argument(
        "--out", type=Path, default=Path(), metavar="DIR", help="where to write it (default: here)"
    )
    submit.set_defaults(command=_submit)


def _add_release(commands: argparse._SubParsersAction) -> None:
    release = commands.add_parser(
        "release",
        help="make the student's edition (for instructors)",
        description="Make the edition of the kit that students get: solutions become TODOs, model "
        "answers go, outputs are cleared; asserts and questions stay. Checks that each TODO has "
        "an assert and that no solution is left.",
    )
    release.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="a new or empty folder"
    )
    release.add_argument(
        "--nbgrader",
        type=Path,
        metavar="DIR",
        help="also write the notebooks with their solutions and nbgrader's metadata there, "
        "as nbgrader's source/ASSIGNMENT",
    )
    release.add_argument(
        "--check",
        action="store_true",
        help="first run the notebooks with their solutions on the mini profile: every assert that "
        "students get must hold",
    )
    release.add_argument(
        "--repository",
        metavar="OWNER/NAME",
        help="where on GitHub you will put it (OWNER/NAME@BRANCH if not main): the notebooks get "
        "badges that open them in Google Colab, and a first cell that works there",
    )
    release.set_defaults(command=_release)


def _add_grade(commands: argparse._SubParsersAction) -> None:
    grade = commands.add_parser(
        "grade",
        help="grade the hand-ins of a class",
        description="Read hand-ins (a folder or zip of zips and folders, as learning systems "
        "export them), and write grades.csv, class.html, a feedback page a student, and tables for "
        "Canvas, Moodle and nbgrader. Without --rerun, nothing of a student's is run. Each hand-in "
        "gets a row, whatever is wrong with it. Free-text answers wait for you: read them in "
        "class.html, fill in points.csv, and give the same command again. An interrupted run goes "
        "on the same way.",
    )
    grade.add_argument("submissions", type=Path, help="the folder or zip of hand-ins")
    grade.add_argument(
        "--rubric",
        type=Path,
        metavar="TOML",
        help="points and what they depend on (default: coursekit/grading/default_rubric.toml)",
    )
    grade.add_argument(
        "--out", type=Path, default=Path("grades"), metavar="FOLDER", help="default: grades"
    )
    grade.add_argument(
        "--workers", type=int, metavar="N", help="processes (default: one a processor)"
    )
    grade.add_argument(
        "--rerun",
        nargs="+",
        default=[],
        metavar="STUDENT",
        help="also execute the notebooks of these students again, on the mini profile ('all': of "
        "everybody). THIS RUNS THEIR CODE, with your rights to your files: time is limited "
        "everywhere, memory and network only where the system can, and that is no sandbox. Do it "
        "in a container, see docs/grading.md. What comes of it gives and takes no points",
    )
    grade.add_argument(
        "--rerun-minutes",
        type=float,
        default=20.0,
        metavar="N",
        help="time limit for all notebooks of one student (default: 20)",
    )
    grade.add_argument(
        "--rerun-memory",
        type=float,
        default=8.0,
        metavar="GB",
        help="memory limit of one notebook (default: 8; Linux)",
    )
    grade.set_defaults(command=_grade)


def _run(options: argparse.Namespace) -> int:
    from coursekit.run.runner import run_notebooks

    run_notebooks(
        profile=options.profile,
        names=options.notebooks,
        extensions=options.extensions,
        resume=options.resume,
        save_notebooks=options.save_notebooks,
    )
    return 0


def _train(options: argparse.Namespace) -> int:
    from coursekit.train.parallel import joined
    from coursekit.train.train import train_method

    try:
        with joined() as processes:
            train_method(
                options.method,
                profile=options.profile,
                dataset=options.dataset,
                device=options.device,
                num_epochs=options.epochs,
                num_workers=options.workers,
                rerun=options.rerun,
                processes=processes,
            )
    except Interrupted as error:
        print(error, file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("stopped: nothing was recorded", file=sys.stderr)
        return 130
    return 0


def _download(options: argparse.Namespace) -> int:
    """Fetch item by item; a failure does not keep the next item from being fetched."""
    failures = []
    for name, fetch in _items(options).items():
        try:
            fetch()
            print(f"{name}: complete")
        except KitError as error:
            failures.append(f"{name}: {error}")
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return int(bool(failures))


def _items(options: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """What to fetch, by name. Raises `KitError` for an unknown data set."""
    from helpers.lib import downloads, sources, weights
    from helpers.lib.folders import folders

    data_dir, _ = folders()
    items: dict[str, Callable[[], object]] = {}
    dataset = options.dataset
    if options.weights_only:
        pass
    elif dataset == "Flowers102":
        items[dataset] = lambda: downloads.download_flowers102(data_dir)
    elif dataset in sources.TORCHVISION_SETS:
        items[dataset] = lambda: downloads.download_torchvision_set(dataset, data_dir)
    elif dataset in sources.SMALL_SETS:
        items[dataset] = lambda: downloads.download_small_set(dataset, data_dir)
    else:
        known = ", ".join(["Flowers102", *sources.TORCHVISION_SETS, *sources.SMALL_SETS])
        raise KitError(f"no data set {dataset!r}: use one of {known}")
    for network in weights.IMAGENET:
        items[f"weights of {network}"] = lambda network=network: weights.fetch_weights(network)
    return items


def _grade(options: argparse.Namespace) -> int:
    """Grade, and say how many hand-ins a person must look at."""
    from coursekit.grading.grade import Limits, grade_class

    if options.workers is not None and options.workers < 1:
        raise KitError(f"--workers {options.workers}: use at least 1")
    for name in ("rerun_minutes", "rerun_memory"):
        if not 0 < (value := getattr(options, name)) < 1e6:
            raise KitError(f"--{name.replace('_', '-')} {value:g}: use more than 0")
    grades = grade_class(
        options.submissions,
        options.out,
        rubric_path=options.rubric,
        workers=options.workers,
        rerun=options.rerun,
        limits=Limits(options.rerun_minutes, options.rerun_memory),
    )
    unread = sum(not grade.was_read for grade in grades)
    flagged = sum(bool(grade.flags) for grade in grades)
    print(f"{len(grades)} hand-ins: {unread} could not be graded, {flagged} have flags")
    print(f"see {options.out / 'class.html'} and {options.out / 'grades.csv'}")
    return 0


def _check(options: argparse.Namespace) -> int:
    from coursekit.check import check_machine

    return check_machine(options.dataset)


def _submit(options: argparse.Namespace) -> int:
    from coursekit.handin.submit import submit

    return submit(name=options.name, anyway=options.anyway, out=options.out)


def _release(options: argparse.Namespace) -> int:
    from coursekit.handin.release import release

    release(
        options.out,
        nbgrader=options.nbgrader,
        check=options.check,
        repository=options.repository,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
