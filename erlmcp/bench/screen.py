"""What is seen while it is measured: a progress bar on a terminal, a line for each step elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TextIO


@contextlib.contextmanager
def progress(total: int, say: TextIO) -> Iterator[Callable[[str], None]]:
    """Gives a function that tells what comes next, to be called ``total`` times."""
    if say.isatty():
        with _bar(total, say) as tell:
            yield tell
        return
    done = 0

    def line(text: str) -> None:
        nonlocal done
        done += 1
        print(f"  [{done}/{total}] {text}", file=say, flush=True)

    yield line


@contextlib.contextmanager
def _bar(total: int, say: TextIO) -> Iterator[Callable[[str], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=say), transient=True) as shown:
        task = shown.add_task("", total=total)
        begun = False

        def tell(text: str) -> None:
            nonlocal begun
            shown.update(task, description=text, advance=1 if begun else 0)
            begun = True

        yield tell
