"""`python -m coursekit grade`: read every hand-in, compare them, write the grade book and pages."""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from coursekit.grading import cache
from coursekit.grading.case import Case
from coursekit.grading.cells import Notebook, parse_notebook, questions_in
from coursekit.grading.class_page import class_page
from coursekit.grading.exports import write_exports
from coursekit.grading.feedback import feedback_page
from coursekit.grading.find import Place, find_hand_ins
from coursekit.grading.gradebook import (
    Grade,
    give_points,
    grade_case,
    grades_rows,
    name_pages,
    note_doubles,
    points_rows,
    read_points,
    write_csv,
)
from coursekit.grading.labels import Labels, known_labels
from coursekit.grading.read import read_hand_in
from coursekit.grading.rerun import Limits, keep, kept, run_again
from coursekit.grading.rubric import Rubric, read_rubric
from coursekit.grading.similarity import compare, model_material, template_code
from helpers.errors import KitError
from helpers.lib.files import only_writer, read_json, write_json, write_text
from helpers.lib.folders import MINI_FOLDER, folders
from helpers.lib.progress import track

MOST_WORKERS = 61  # Windows can wait for no more


@dataclass
class Grader:
    """What every hand-in is looked at with. It is sent to each worker once."""

    rubric: Rubric
    templates: dict[str, Notebook]
    labels: dict[str, Labels]
    cache_dir: Path
    template_code: np.ndarray = field(init=False)
    settings: str = field(init=False)  # a hash of all that decides a grade but the hand-in

    def __post_init__(self) -> None:
        self.template_code = template_code(self.templates)
        parts = {
            "grader": cache.grader_version(),
            "rubric": self.rubric.digest,
            "templates": [
                [cell.kind, cell.key, cell.source, *cell.tags]
                for template in self.templates.values()
                for cell in template.cells
            ],
            "labels": {profile: one.fingerprint for profile, one in self.labels.items()},
        }
        self.settings = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def grade(self, place: Place) -> Grade:
        """Look at one hand-in, or take what is kept of it; never raises for what is in it."""
        key = cache.key_of(place, self.settings)
        kept = self.cache_dir / f"{key}.json"
        known = cache.load(kept) if key else None
        if known is not None:
            return known
        grade = self._look(place)
        if key:
            cache.save(kept, grade)
        return grade

    def _look(self, place: Place) -> Grade:
        try:
            case = Case(read_hand_in(place, self.templates), self.templates, self.labels)
            return grade_case(case, self.rubric, self.template_code)
        except KitError:  # the disk is full, or the like: nothing of the student's
            raise
        except Exception as error:  # a fault of the grader's must not cost the class its grades
            return failed(
                place, f"the grader failed on it ({type(error).__name__}: {error!s:.200})"
            )


def failed(place: Place, why: str) -> Grade:
    """The row of a hand-in that a person has to look at."""
    return Grade(place=place.name, faults=[why])


def grade_class(
    submissions: Path,
    out: Path,
    *,
    rubric_path: Path | None = None,
    workers: int | None = None,
    rerun: Sequence[str] = (),
    limits: Limits | None = None,
) -> list[Grade]:
    """Grade all hand-ins of a folder or zip, and write everything below `out`.

    Writes grades.csv, class.html, feedback/ with a page a student, exports/, and points.csv, to be
    filled in while reading: the next run takes the points from there. What has been looked at is
    kept in `out`/.cache, so an interrupted run goes on where it stopped. `rerun` names students
    ("all": everybody) whose notebooks are executed again, within `limits`; without it no code of
    a student's runs. Returns the grades, in the order of grades.csv. Raises `KitError` when there
    is nothing to grade, `rerun` names nobody, or `out` cannot be written.
    """
    rubric = read_rubric(rubric_path)
    filled_in = out / "points.csv"
    given = read_points(filled_in, rubric) if filled_in.exists() else {}
    places = find_hand_ins(submissions, leave_out=out)
    try:
        (out / ".cache").mkdir(parents=True, exist_ok=True)
        write_text(
            out / ".cache" / "README.txt", "Kept so that grading can go on; delete at will.\n"
        )
    except OSError as error:
        raise KitError(f"cannot write {out}: {error.strerror or error}") from None
    with only_writer(out / ".cache" / ".lock", str(out), "give another --out"):
        grader = Grader(rubric, read_templates(), _labels(), out / ".cache")
        grades = list(track(grade_all(grader, places, workers), "grading", len(places)))
        grades.sort(key=lambda grade: (grade.student.lower(), grade.student, grade.place))
        compare_all(grades, grader.templates)
        execute_again(chosen(grades, rerun), places, grader, limits or Limits())
        add_reruns(grades, places, grader.cache_dir)
        give_points(grades, given, filled_in)
        write_all(grades, grader, out)
    return grades


def chosen(grades: Sequence[Grade], names: Sequence[str]) -> list[Grade]:
    """The grades that names mean: ids of students, names of hand-ins, "all"; `KitError` for none.

    Of "all", those that could not be read are left out.
    """
    if "all" in names:
        return [grade for grade in grades if grade.was_read]
    for name in names:
        if not any(name in (grade.student, grade.place) for grade in grades):
            raise KitError(f"--rerun {name}: no hand-in of that student, and none of that name")
    return [grade for grade in grades if grade.student in names or grade.place in names]


def execute_again(
    grades: Sequence[Grade], places: Sequence[Place], grader: Grader, limits: Limits
) -> None:
    """Execute the notebooks of these hand-ins again, one after the other, and keep what came."""
    if not grades:
        return
    print(f"running {len(grades)} hand-ins again on mini: {limits}; this is no sandbox")
    by_name = {place.name: place for place in places}
    for grade in track(grades, "running again", len(grades)):
        place = by_name[grade.place]
        grade.reruns = run_again(place, grade.student, grader.templates, grader.labels, limits)
        keep(grader.cache_dir, place, grade.reruns)


def add_reruns(grades: Sequence[Grade], places: Sequence[Place], cache_dir: Path) -> None:
    """Give each grade that has no reruns those that are kept of an earlier call."""
    by_name = {place.name: place for place in places}
    for grade in grades:
        grade.reruns = grade.reruns or kept(cache_dir, by_name[grade.place])


def read_templates() -> dict[str, Notebook]:
    """The instructor's own notebooks, by number; raises `KitError` when there is none."""
    from coursekit.notebooks import select_notebooks

    return {
        path.name.partition("_")[0]: parse_notebook(path.name, path.read_bytes())
        for path in select_notebooks(None)
    }


def _labels() -> dict[str, Labels]:
    return known_labels(folders()[0], MINI_FOLDER)


def compare_all(grades: Sequence[Grade], templates: Mapping[str, Notebook]) -> None:
    """Name the pages, note doubles, and add the flags that come from comparing hand-ins.

    They are also compared with the model answers, as if these were somebody's.
    """
    name_pages(grades)
    note_doubles(grades)
    students = [*(grade.student for grade in grades), ""]
    names = [*(grade.page for grade in grades), "the model answers"]
    model = model_material(questions_in(templates))
    *found, _ = compare(names, students, [*(grade.material for grade in grades), model])
    for grade, flags in zip(grades, found, strict=True):
        grade.flags += flags


def write_all(grades: Sequence[Grade], grader: Grader, out: Path) -> None:
    """Write the grade book, the pages and the exports; files of an earlier run are replaced."""
    rubric = grader.rubric
    write_csv(out / "grades.csv", grades_rows(grades, rubric))
    write_csv(out / "points.csv", points_rows(grades, rubric))
    questions = questions_in(grader.templates)
    for grade in track(grades, "writing feedback", len(grades)):
        page = feedback_page(grade, rubric, questions)
        write_text(out / "feedback" / f"{grade.page}.html", page)
    _remove_old_pages(out, [grade.page for grade in grades])
    write_text(out / "class.html", class_page(grades, rubric, questions))
    write_exports(out / "exports", grades, rubric)


def _remove_old_pages(out: Path, pages: Sequence[str]) -> None:
    """Remove the feedback that an earlier run wrote for hand-ins that are gone."""
    listing = out / ".cache" / "pages.json"
    with contextlib.suppress(KitError, OSError, TypeError):
        for name in set(read_json(listing)) - set(pages):
            (out / "feedback" / f"{name}.html").unlink(missing_ok=True)
    write_json(listing, list(pages))


def grade_all(grader: Grader, places: Sequence[Place], workers: int | None) -> Iterator[Grade]:
    """The grade of every hand-in, as they are done. A process that dies costs one row.

    When a process dies, those who were being looked at are looked at again, each alone, so that
    the one at fault is known and the others are graded.
    """
    workers = min(workers or os.cpu_count() or 1, MOST_WORKERS)
    waiting = deque(places)
    while waiting:
        suspects = yield from _grade_together(grader, waiting, min(workers, len(waiting)))
        for place in suspects:
            yield _grade_alone(grader, place)


def _pool(grader: Grader, workers: int) -> ProcessPoolExecutor:
    # A forked worker has what is loaded already; elsewhere forking is not safe or not there.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    return ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(grader,))


def _grade_together(grader: Grader, waiting: deque[Place], workers: int) -> Iterator[Grade]:
    """Grade until none is waiting, or a process dies; returns those that were under way then."""
    running: dict[Future[Grade], Place] = {}
    with _pool(grader, workers) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < 2 * workers:
                    running[pool.submit(_grade, waiting[0])] = waiting[0]
                    waiting.popleft()
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=lambda one: running[one].name):
                    grade = future.result()
                    del running[future]
                    yield grade
        except BrokenProcessPool:
            return list(running.values())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return []


def _grade_alone(grader: Grader, place: Place) -> Grade:
    try:
        with _pool(grader, 1) as pool:
            return pool.submit(_grade, place).result()
    except BrokenProcessPool:
        return failed(place, "the process that read it died: it may be too large for this machine")


_grader: Grader | None = None  # of this worker process


def _begin(grader: Grader) -> None:
    global _grader
    _grader = grader
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process stops and says so


def _grade(place: Place) -> Grade:
    return _grader.grade(place)
