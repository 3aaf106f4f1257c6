"""The table that grows by a line an epoch, with a bar below it while an epoch runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
HEADER = "epoch      train loss   acc      val loss   acc       seconds   left"
MOST_LINES = 24  # of a saved notebook's table; the history has every epoch
REFRESH = 0.5  # seconds between two redrawings of the bar
QUIET = 2.0  # seconds: shorter work needs no bar, it would only flicker
SAMPLE = 4  # batches by which the time that is left is judged; the first one also sets things up
WIDTH = 20  # characters of the bar


class EpochTable:
    """Shows a training run. In a notebook one output is redrawn, and ends as the bare table.

    Elsewhere lines are printed, under a bar on stderr. Use it as a context manager. Rows that are
    in the history at the start come first, marked as loaded; `note` stands below the table.
    """

    def __init__(
        self,
        num_epochs: int,
        batches: int,
        *,
        history: Sequence[dict[str, float]] = (),
        note: str = "",
        show: bool = True,
    ) -> None:
        self.num_epochs, self.batches, self.note, self.show = num_epochs, batches, note, show
        self.history, self.loaded = history, 0
        self.every = -(-num_epochs // MOST_LINES)
        self.lines = [HEADER]
        self.best = (0, 0.0)  # epoch, val accuracy
        self.batch, self.epoch = 0, 0
        self.started = self.drawn = time.perf_counter()
        self.output = _Output() if show and in_notebook() else None
        self.bar: tqdm | None = None

    def __enter__(self) -> EpochTable:
        if self.show and self.output is None:
            print(HEADER)
            # Without a terminal there is no bar: in a log each redrawing would be a line.
            self.bar = tqdm(total=self.batches, leave=False, file=sys.stderr, disable=None)
        self.loaded = len(self.history)
        for row in list(self.history):
            self.epoch_done(row, is_best=not self.best[0] or row["val_accuracy"] > self.best[1])
        self.started = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()
        if self.best[0]:
            note = f" ({self.note})" if self.note else ""
            self._line(f"best on val: epoch {self.best[0]}, {self.best[1]:.1%}{note}")
        self._draw()

    def batch_done(self, loss: float, accuracy: float) -> None:
        """Move the bar by a batch; `loss` and `accuracy` are those of the epoch so far."""
        self.batch += 1
        passed = (self.epoch - self.loaded) * self.batches + self.batch
        to_run = (self.num_epochs - self.epoch) * self.batches - self.batch
        left = f", {self._left(passed, to_run)} left" if passed >= SAMPLE else ""
        said = f"loss {loss:.3f}, accuracy {accuracy:.1%}{left}"
        if self.bar is not None:
            self.bar.set_description(f"epoch {self.epoch + 1}/{self.num_epochs}", refresh=False)
            self.bar.set_postfix_str(said, refresh=False)
            self.bar.update()
        elif self.output is not None and time.perf_counter() - self.drawn > REFRESH:
            done = round(WIDTH * self.batch / self.batches)
            self._draw(
                f"{self.epoch + 1:>4}/{self.num_epochs:<4} [{'#' * done}{'.' * (WIDTH - done)}] "
                f"{self.batch}/{self.batches}, {said}"
            )

    def epoch_done(self, row: dict[str, float], *, is_best: bool) -> None:
        """Add an epoch's line; in a long run only every n-th is shown."""
        self.batch, self.epoch = 0, int(row["epoch"])
        if self.bar is not None:
            self.bar.reset()
        if is_best:
            self.best = (self.epoch, row["val_accuracy"])
        if self.epoch % self.every == 0 or self.epoch in (1, self.num_epochs):
            self._line(self._format(row, is_best))
        self._draw()

    def _left(self, done: int, to_do: int) -> str:
        """The time that is left, judged by what has passed."""
        return duration((time.perf_counter() - self.started) / done * to_do)

    def _format(self, row: dict[str, float], is_best: bool) -> str:
        seconds = sum(row[f"{name}_seconds"] for name in ("training", "loading", "evaluation"))
        ran = self.epoch - self.loaded
        left = self._left(ran, self.num_epochs - self.epoch) if ran > 0 else "loaded"
        return (
            f"{self.epoch:>4}/{self.num_epochs:<4} {row['train_loss']:>10.3f} "
            f"{row['train_accuracy']:>7.1%} {row['val_loss']:>11.3f} {row['val_accuracy']:>7.1%} "
            f"{seconds:>9.1f}  {left:>9}{'  best so far' if is_best else ''}"
        )

    def _line(self, line: str) -> None:
        self.lines.append(line)
        if self.show and self.output is None:
            tqdm.write(line, file=sys.stdout)

    def _draw(self, bar: str = "") -> None:
        if self.output is not None:
            self.drawn = time.perf_counter()
            self.output.show("\n".join([*self.lines, bar] if bar else self.lines))


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Go through `items`, under a bar if it takes long; in a notebook it ends as one line."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    if not in_notebook():
        yield from tqdm(items, description, total, leave=False, delay=QUIET, disable=None)
        return
    started = drawn = time.perf_counter()
    output = None
    for done, item in enumerate(items, start=1):
        yield item
        now = time.perf_counter()
        if now - started > QUIET and now - drawn > REFRESH:
            output, drawn = output or _Output(), now
            output.show(f"{description}: {done}/{total}")
    if output is not None:
        output.show(f"{description}: {total} in {duration(time.perf_counter() - started)}")


class _Output:
    """One output of a notebook cell, redrawn in place; nothing is kept of what it showed before."""

    def __init__(self) -> None:
        from IPython.display import DisplayHandle

        self.handle, self.is_new = DisplayHandle(), True

    def show(self, text: str) -> None:
        draw = self.handle.display if self.is_new else self.handle.update
        draw({"text/plain": text}, raw=True)
        self.is_new = False


def in_notebook() -> bool:
    """Whether this runs in a notebook's kernel, where an output can be redrawn."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def duration(seconds: float) -> str:
    """Seconds as a person says them: "45 s", "3 min 20 s", "1 h 05 min"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
