"""`python -m coursekit grade`: read every hand-in, compare them, write the grade book and pages."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coursekit.grading.answers import questions_in
from coursekit.grading.archive import HandInError
from coursekit.grading.case import Case
from coursekit.grading.cells import Notebook, parse_notebook
from coursekit.grading.exports import write_exports
from coursekit.grading.find import Place, find_hand_ins
from coursekit.grading.gradebook import Grade, grade_case, name_pages, note_doubles
from coursekit.grading.labels import Labels, known_labels
from coursekit.grading.material import code_of, model_material
from coursekit.grading.pages import class_page, feedback_page
from coursekit.grading.read import read_hand_in
from coursekit.grading.rerun import Limits, keep, kept, run_again
from coursekit.grading.rubric import Rubric, read_rubric
from coursekit.grading.similarity import compare
from coursekit.grading.tables import give_points, grades_rows, points_rows, read_points, write_csv
from coursekit.notebooks import select_notebooks
from helpers.errors import KitError
from helpers.lib.files import read_json, write_json, write_text
from helpers.lib.folders import folders
from helpers.lib.progress import track

MOST_WORKERS = 61  # Windows can wait for no more


@dataclass
class Grader:
    """What every hand-in is looked at with. It is sent to each worker once."""

    rubric: Rubric
    templates: dict[str, Notebook]
    labels: dict[str, Labels]  # by profile
    template_code: np.ndarray

    def grade(self, place: Place) -> Grade:
        """Look at one hand-in; whatever is in it, it raises nothing but `KitError`."""
        try:
            case = Case(read_hand_in(place, self.templates), self.templates, self.labels)
            return grade_case(case, self.rubric, self.template_code)
        except KitError:  # the disk is full, or the like: nothing of the student's
            raise
        except Exception as error:  # a fault of the grader's must not cost the class its grades
            return Grade(place.name, faults=[f"the grader failed on it ({error!r:.200})"])


def make_grader(rubric_path: Path | None = None) -> Grader:
    """A grader with this rubric, the instructor's own notebooks, and the labels in KIT_DATA."""
    try:
        templates = {
            path.name.partition("_")[0]: parse_notebook(path.name, path.read_bytes())
            for path in select_notebooks(None)
        }
    except HandInError as error:
        raise KitError(f"a notebook of this kit cannot be read ({error}): fetch it again") from None
    labels = known_labels(folders()[0])
    return Grader(read_rubric(rubric_path), templates, labels, code_of(templates))


def grade_class(
    submissions: Path,
    out: Path,
    *,
    rubric_path: Path | None = None,
    workers: int | None = None,
    rerun: Sequence[str] = (),
    limits: Limits | None = None,
) -> list[Grade]:
    """Grade all hand-ins of a folder or zip, and write everything below a folder.

    Without `rerun` no code of a student's runs.

    Args:
        submissions: a folder or zip of hand-ins, or a single one.
        out: gets grades.csv, class.html, feedback/ with a page a student, exports/, and
            points.csv, to be filled in while reading: the next run takes the points from there.
        rubric_path: None for the default one.
        workers: processes that read at once; None for one a processor core.
        rerun: students or names of hand-ins ("all": everybody) whose notebooks are executed again.
        limits: of what a hand-in may use then.

    Returns:
        The grades, in the order of grades.csv.

    Raises:
        KitError: there is nothing to grade, `rerun` names nobody, or `out` cannot be written.
    """
    grader = make_grader(rubric_path)
    filled_in = out / "points.csv"
    given = read_points(filled_in, grader.rubric)
    places = find_hand_ins(submissions, leave_out=out)
    by_name = {place.name: place for place in places}
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KitError(f"cannot write {out}: {error.strerror or error}") from None
    found = grade_all(grader, places, workers)
    grades = list(track(found, "grading", len(places)))
    grades.sort(key=lambda grade: (grade.student.lower(), grade.student, grade.place))
    _compare_all(grades, grader.templates)
    limits, chosen = limits or Limits(), _chosen(grades, rerun)
    if chosen:
        print(f"running {len(chosen)} hand-ins again on mini: {limits}; this is no sandbox")
    for grade in track(chosen, "running again", len(chosen)):
        place = by_name[grade.place]
        grade.reruns = run_again(place, grade.student, grader.templates, grader.labels, limits)
        keep(out / ".cache", place, grade.reruns)
    for grade in grades:
        grade.reruns = grade.reruns or kept(out / ".cache", by_name[grade.place])
    give_points(grades, given, filled_in)
    _write_all(grades, grader, out)
    return grades


def _chosen(grades: Sequence[Grade], names: Sequence[str]) -> list[Grade]:
    """The grades that names mean: ids of students, names of hand-ins, "all"; `KitError` for none.

    Of "all", those that could not be read are left out.
    """
    if "all" in names:
        return [grade for grade in grades if grade.was_read]
    for name in names:
        if not any(name in (grade.student, grade.place) for grade in grades):
            raise KitError(f"--rerun {name}: no hand-in of that student, and none of that name")
    return [grade for grade in grades if grade.student in names or grade.place in names]


def _compare_all(grades: Sequence[Grade], templates: Mapping[str, Notebook]) -> None:
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


def _write_all(grades: Sequence[Grade], grader: Grader, out: Path) -> None:
    """Write the grade book, the pages and the exports; files of an earlier run are replaced."""
    rubric, questions = grader.rubric, questions_in(grader.templates)
    write_csv(out / "grades.csv", grades_rows(grades, rubric))
    write_csv(out / "points.csv", points_rows(grades, rubric))
    for grade in track(grades, "writing feedback", len(grades)):
        page = feedback_page(grade, rubric, questions)
        write_text(out / "feedback" / f"{grade.page}.html", page)
    _remove_old_pages(out, {grade.page for grade in grades})
    write_text(out / "class.html", class_page(grades, rubric, questions))
    write_exports(out / "exports", grades, rubric)


def _remove_old_pages(out: Path, pages: set[str]) -> None:
    """Remove the feedback that an earlier run wrote for hand-ins that are gone."""
    listing = out / ".cache" / "pages.json"
    with contextlib.suppress(KitError, OSError, TypeError):
        for name in set(read_json(listing)) - pages:
            (out / "feedback" / f"{name}.html").unlink(missing_ok=True)
    write_json(listing, sorted(pages))


def grade_all(grader: Grader, places: Sequence[Place], workers: int | None) -> Iterator[Grade]:
    """The grade of every hand-in, as they are done, from several processes.

    When a process dies, what was not done by then is looked at again, each hand-in by a process
    of its own: so only the one at fault is lost.
    """
    workers = min(workers or os.cpu_count() or 1, MOST_WORKERS, len(places))
    lost = []
    with _pool(grader, workers) as pool:
        futures = {pool.submit(_grade, place): place for place in places}
        try:
            for future in as_completed(futures):
                try:
                    yield future.result()
                except BrokenProcessPool:
                    lost.append(futures[future])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for place in lost:
        try:
            with _pool(grader, 1) as pool:
                yield pool.submit(_grade, place).result()
        except BrokenProcessPool:
            why = "the process that read it died: it may be too large for this machine"
            yield Grade(place.name, faults=[why])


def _pool(grader: Grader, workers: int) -> ProcessPoolExecutor:
    # A forked worker has what is loaded already; elsewhere forking is not safe or not there.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    return ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(grader,))


_grader: Grader  # of this worker process


def _begin(grader: Grader) -> None:
    global _grader
    _grader = grader
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process stops and says so


def _grade(place: Place) -> Grade:
    return _grader.grade(place)
