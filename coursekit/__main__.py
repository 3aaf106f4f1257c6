"""The command line: `python -m coursekit run | train | submit | grade | ...`."""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import pkgutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Commands = Any  # what `add_subparsers` returns; argparse has no public name for it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The words after `python -m coursekit`; None: those of this process.

    Returns:
        The exit status: 0, 1 (not all went well), 2 (`KitError`), 130 (interrupted) or 141 (nobody
        reads the output).
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Not every terminal and log can show every name: one that cannot shows its code.
            stream.reconfigure(errors="backslashreplace")
    options = vars(_parser().parse_args(arguments))
    command = options.pop("command")
    try:
        # Imported when it is known which: --help answers at once, `check` also without packages.
        run = pkgutil.resolve_name(command) if isinstance(command, str) else command
        status = run(**options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Who read the output has gone, as `head -1` does. Nothing is left to be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as a shell says of a program that was ended by SIGPIPE
    except KeyboardInterrupt as error:
        kept = "what was finished is kept; `run --resume` and `train` go on with it"
        print(str(error) or f"stopped: {kept}", file=sys.stderr)
        return 130
    except Exception as error:
        from helpers.errors import KitError

        if not isinstance(error, KitError):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    return status if isinstance(status, int) else 0


class _Version(argparse.Action):
    """Prints the version; read when it is asked for, because that imports the package."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        text = "print the version of the kit"
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS,
                         help=text)  # fmt: skip

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from helpers.lib.identity import kit_version

        print(kit_version())
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m coursekit",
        description="Run the notebooks of the assignment, fetch what they need, check the machine.",
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands)
    _add_train(commands)
    _add_download(commands)
    _add_check(commands)
    _add_submit(commands)
    # A student's edition of the kit goes without these.
    if importlib.util.find_spec("coursekit.handin.release"):
        _add_release(commands)
    if importlib.util.find_spec("coursekit.grading"):
        _add_grade(commands)
    return parser


# An argument takes few lines, not one for each of its words.
# fmt: off


def _add_run(commands: Commands) -> None:
    run = commands.add_parser(
        "run",
        help="run notebooks and write the report",
        description="Run notebooks in order, each in a fresh kernel, and write "
        "results/PROFILE/report.html. Earlier results of the same notebooks are moved to "
        "results/PROFILE/previous/.",
    )
    add = run.add_argument
    add("--profile", choices=("mini", "full"),
        help="mini: drawn flowers, minutes; full: Flowers102, hours on a CPU (default: "
        "KIT_PROFILE, else full when Flowers102 is there, else mini; see the README for other "
        "pictures than flowers)")
    add("--notebooks", nargs="+", metavar="NAME", dest="names",
        help="only these, by number or name: --notebooks 01 04 (default: all six)")
    add("--extensions", action="store_true",
        help="run the extensions, 07 to 12, instead of the six of the assignment")
    add("--dataset", metavar="NAME",
        help="a data set that the assignment allows, or a folder of class folders in the data "
        "folder, for this run (default: as notebook 01 chooses)")
    add("--resume", action="store_true",
        help="skip notebooks that ran to their end before, and go on with an interrupted training")
    add("--save-notebooks", action="store_true",
        help="write the executed notebooks over those in notebooks/ (for maintainers)")
    run.set_defaults(command="coursekit.run.runner:run_notebooks")


def _add_train(commands: Commands) -> None:
    train = commands.add_parser(
        "train",
        help="train one method, as its notebook does but outside of it",
        description="Train, test and record one method from its recipe, as its notebook does. "
        "An interrupted run goes on where it stopped, a finished one is not trained again. "
        "An earlier result of it is moved to results/PROFILE/previous/. With torchrun it trains "
        "on several processes or machines: torchrun --nproc_per_node=2 -m coursekit train ...",
    )
    add = train.add_argument
    add("--method", required=True, metavar="NAME",
        help="such as resnet18_finetune; helpers/recipes.py has all")
    add("--profile", metavar="NAME", help="mini or full (default: as for run)")
    add("--dataset", metavar="NAME",
        help="a data set that the assignment allows, or a folder of class folders in the data "
        "folder (default: as notebook 01 has chosen, else Flowers102, drawn on the mini "
        "profile)")
    add("--device", metavar="NAME", help="cpu, cuda or mps (default: the fastest there is)")
    add("--epochs", type=int, metavar="N", dest="num_epochs",
        help="how many (default: the recipe's)")
    add("--workers", type=int, default=0, metavar="N", dest="num_workers",
        help="processes that prepare pictures ahead (default: 0, none)")
    add("--rerun", action="store_true", help="train anew, also when such a run is there")
    train.set_defaults(command=_train)


def _train(**options: Any) -> None:
    from coursekit.train.parallel import joined
    from coursekit.train.train import train_method

    with joined() as processes:
        train_method(**options, processes=processes)


def _add_download(commands: Commands) -> None:
    download = commands.add_parser(
        "download",
        help="fetch a data set and the pretrained weights",
        description="Fetch what is missing of a data set and of the ImageNet weights of both "
        "networks, and check every file. KIT_DATA and TORCH_HOME say where they are kept. What "
        "is interrupted goes on where it stopped. Files fetched by hand count, too. KIT_MIRROR "
        "may name a web folder of your own that has the same files; it is asked first.",
    )
    add = download.add_argument
    add("--weights-only", action="store_true", help="only the weights, 162 MB")
    add("--dataset", default="Flowers102", metavar="NAME",
        help="Flowers102 (345 MB, default), OxfordIIITPet, DTD, FGVCAircraft or EuroSAT; for the "
        "extensions CIFAR10 or CIFAR100 (170 MB each)")
    download.set_defaults(command="coursekit.download:download")


def _add_check(commands: Commands) -> None:
    check = commands.add_parser(
        "check",
        help="say what this machine has and lacks",
        description="Print what this machine has and lacks, and what to do about it. "
        "Exit status 0 when the mini profile can run, else 1.",
    )
    check.add_argument("--dataset", metavar="NAME",
        help="also look at each picture of a data set or folder (default: the one that notebook 01 "
        "has chosen, if it is not Flowers102)")
    check.set_defaults(command="coursekit.check:check_machine")


def _add_submit(commands: Commands) -> None:
    submit = commands.add_parser(
        "submit",
        help="check your work and pack it for handing in",
        description="Check that the six notebooks ran from top to bottom, that the results are "
        "theirs and that the questions are answered, then write submission-ID.zip. Exit status 1 "
        "when something is missing and nothing was written.",
    )
    add = submit.add_argument
    add("--name", help="your name, for the people who read it")
    add("--anyway", action="store_true",
        help="hand in what there is, marked as incomplete (the mini profile always is)")
    add("--out", type=Path, default=Path(), metavar="DIR", help="where to write it (default: here)")
    submit.set_defaults(command="coursekit.handin.submit:submit")


def _add_release(commands: Commands) -> None:
    release = commands.add_parser(
        "release",
        help="make the student's edition (for instructors)",
        description="Make the edition of the kit that students get: solutions become TODOs, model "
        "answers go, outputs are cleared; asserts and questions stay. Checks that each TODO has "
        "an assert and that no solution is left.",
    )
    add = release.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="a new or empty folder")
    add("--nbgrader", type=Path, metavar="DIR",
        help="also write the notebooks with their solutions and nbgrader's metadata there, as "
        "nbgrader's source/ASSIGNMENT")
    add("--check", action="store_true",
        help="first run the notebooks with their solutions on the mini profile: every assert that "
        "students get must hold")
    add("--repository", metavar="OWNER/NAME",
        help="where on GitHub you will put it (OWNER/NAME@BRANCH if not main): the notebooks get "
        "badges that open them in Google Colab, and a first cell that works there")
    release.set_defaults(command="coursekit.handin.release:release")


def _add_grade(commands: Commands) -> None:
    grade = commands.add_parser(
        "grade",
        help="grade the hand-ins of a class",
        description="Read hand-ins (a folder or zip of zips and folders, as learning systems "
        "export them), and write grades.csv, class.html, a feedback page a student, and tables for "
        "Canvas, Moodle and nbgrader. Without --rerun, nothing of a student's is run. Each hand-in "
        "gets a row, whatever is wrong with it. Free-text answers wait for you: read them in "
        "class.html, fill in points.csv, and give the same command again: it grades all anew, and "
        "keeps your points.",
    )
    add = grade.add_argument
    add("submissions", type=Path, help="the folder or zip of hand-ins")
    add("--rubric", type=Path, metavar="TOML", dest="rubric_path",
        help="points and what they depend on (default: coursekit/grading/default_rubric.toml)")
    add("--out", type=Path, default=Path("grades"), metavar="FOLDER", help="default: grades")
    add("--workers", type=_positive(int), metavar="N", help="processes (default: one a processor)")
    add("--rerun", nargs="+", default=[], metavar="STUDENT",
        help="also execute the notebooks of these students again, on the mini profile ('all': of "
        "everybody). THIS RUNS THEIR CODE, with your rights to your files: time is limited "
        "everywhere, memory and network only where the system can, and that is no sandbox. Do it "
        "in a container, see docs/grading.md. What comes of it gives and takes no "
        "points")
    add("--rerun-minutes", type=_positive(float), default=20.0, metavar="N",
        help="time limit for all notebooks of one student (default: 20)")
    add("--rerun-memory", type=_positive(float), default=8.0, metavar="GB",
        help="memory limit of one notebook (default: 8; Linux)")
    grade.set_defaults(command=_grade)


def _grade(rerun_minutes: float, rerun_memory: float, **options: Any) -> None:
    from coursekit.grading.grade import Limits, grade_class

    grades = grade_class(**options, limits=Limits(rerun_minutes, rerun_memory))
    unread = sum(not grade.was_read for grade in grades)
    flagged = sum(bool(grade.flags) for grade in grades)
    out = options["out"]
    print(f"{len(grades)} hand-ins: {unread} could not be graded, {flagged} have flags")
    print(f"see {out / 'class.html'} and {out / 'grades.csv'}")


def _positive(kind: type[float]) -> Callable[[str], float]:
    """What makes a number of an option's text, and refuses one that is not above 0."""

    def read(text: str) -> float:
        if not 0 < (number := kind(text)) < float("inf"):
            raise argparse.ArgumentTypeError(f"{text}: use more than 0")
        return number

    return read


if __name__ == "__main__":
    sys.exit(main())
