"""Threads ahead, results in order, nothing left behind."""

import gc
import itertools
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator

import pytest

from merstore import MerstoreError
from merstore.load.pipeline import in_order, with_later

THREADS = [0, 1, 3]


def workers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "merstore-load" in thread.name]


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("ahead", [0, 1, 5, 50])
def test_results_come_in_order(threads: int, ahead: int) -> None:
    assert list(in_order(lambda i: i * i, range(20), threads, ahead)) == [i * i for i in range(20)]
    assert list(in_order(lambda i: i, [], threads, ahead)) == []
    assert not workers()


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_no_more_is_begun_than_asked_for(ahead: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(20):
            taken.append(i)
            yield i

    results = in_order(lambda i: i, items(), 2, ahead)
    for done in range(20):
        assert next(results) == done
        assert len(taken) == min(20, done + 1 + ahead)


@pytest.mark.parametrize("threads", THREADS)
def test_an_error_comes_in_its_place(threads: int) -> None:
    def work(i: int) -> int:
        if i == 5:
            raise MerstoreError("sample s05")
        return i

    results = in_order(work, range(20), threads, 4)
    assert list(itertools.islice(results, 5)) == [0, 1, 2, 3, 4]
    with pytest.raises(MerstoreError, match="s05"):
        next(results)
    assert not workers()


@pytest.mark.parametrize("threads", THREADS)
def test_so_does_an_error_of_the_order(threads: int) -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise MerstoreError("no more")

    results = in_order(lambda i: i, items(), threads, 3)
    assert list(itertools.islice(results, 5)) == [0, 1, 2, 3, 4]
    with pytest.raises(MerstoreError, match="no more"):
        next(results)


@pytest.mark.parametrize("threads", [1, 3])
def test_an_iterator_that_is_dropped_leaves_no_thread_and_no_result(threads: int) -> None:
    class Result:
        pass

    made: list[weakref.ref[Result]] = []

    def work(i: int) -> Result:
        result = Result()
        made.append(weakref.ref(result))
        return result

    results = in_order(work, range(100), threads, 3)
    next(results)
    assert workers()
    del results
    gc.collect()
    assert not workers()
    assert not [ref for ref in made if ref() is not None]
    assert len(made) < 10


@pytest.mark.parametrize("threads", [1, 3])
def test_a_result_is_held_by_nobody_but_the_caller(threads: int) -> None:
    class Result:
        pass

    results = in_order(lambda i: Result(), range(10), threads, 2)
    first = weakref.ref(next(results))
    assert first() is None


def test_garbage_of_a_cycle_is_collected_in_a_thread_of_its_own() -> None:
    class Holder:
        results: Iterator[int]

    def work(i: int) -> int:
        gc.collect()
        return i

    for _ in range(20):
        holder = Holder()
        holder.results = in_order(work, range(100), 1, 2)
        holder.me = holder  # type: ignore[attr-defined]
        next(holder.results)
        del holder
    gc.collect()


def test_iterators_do_not_know_of_each_other() -> None:
    one, two = (in_order(lambda i: i, range(10), 2, 2) for _ in range(2))
    assert [next(two), next(two), *one, *two] == [0, 1, *range(10), *range(2, 10)]


def test_a_forked_process_cannot_go_on_with_its_parents() -> None:
    results = in_order(lambda i: i, range(10), 2, 2)
    next(results)
    child = os.fork()
    if not child:
        try:
            next(results)
        except MerstoreError as error:
            good = "anew" in str(error) and list(in_order(lambda i: i, range(3), 2, 2)) == [0, 1, 2]
            os._exit(0 if good else 2)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert list(results) == list(range(1, 10))


def test_the_interpreter_ends_in_the_middle_of_it() -> None:
    code = """
from merstore.load.pipeline import in_order
results = in_order(lambda i: sum(range(100_000)), range(1000), 3, 5)
next(results)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_each_item_comes_with_a_later_one() -> None:
    assert list(with_later(range(4), 2)) == [(0, 2), (1, 3), (2, None), (3, None)]
    assert list(with_later([], 2)) == []
    assert list(with_later([7], 2)) == [(7, None)]
