"""Run generators of one process in one thread, whichever threads ask for their values."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeVar

T = TypeVar("T")


class OneThread:
    """Run functions in one thread, in order, as long as the process lives."""

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        # A daemon: a process that ends does not wait for the step that is running.
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._starting = Lock()

    def call(self, work: Callable[[], T]) -> T:
        """Run a function in the thread and return what it returns, or raise what it raises."""
        with self._starting:
            if self._thread.ident is None:
                self._thread.start()
        answer: Future[T] = Future()
        self._work.put((work, answer))
        return answer.result()

    def advance(self, steps: Generator[T]) -> Generator[T]:
        """Yield the values of a generator, which runs and is closed in the thread."""
        done = object()
        try:
            while (value := self.call(lambda: next(steps, done))) is not done:
                yield value  # type: ignore[misc]
        finally:
            self.call(steps.close)

    def _run(self) -> None:
        while True:
            work, answer = self._work.get()
            try:
                answer.set_result(work())
            except BaseException as error:
                answer.set_exception(error)
            del work, answer  # with all that they hold: the thread may wait for long
