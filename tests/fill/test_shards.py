"""Shards: who fills what, and where; by hand, by torchrun's variables and by SLURM's."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merstore import MerstoreError
from merstore.fill.shards import Shard

names = st.lists(st.text(min_size=1), max_size=60)


@pytest.mark.parametrize(
    ("text", "index", "count"), [("0/1", 0, 1), ("3/16", 3, 16), (" 1 / 2 ", 1, 2)]
)
def test_a_shard_as_it_is_written(text: str, index: int, count: int) -> None:
    assert Shard.parse(text) == Shard(index, count)
    assert str(Shard.parse(text)) == f"{index}/{count}"


@pytest.mark.parametrize(
    "text", ["16/16", "3", "", "-1/4", "1/0", "0/0", "a/b", "1/2/3", "1.0/2", "٣/16"]
)
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(MerstoreError) as refused:
        Shard.parse(text)
    assert text in str(refused.value)


def test_the_error_shows_both_ends() -> None:
    with pytest.raises(MerstoreError, match=r"16/16: shards are counted from 0, .* 15/16"):
        Shard(16, 16)


@given(names, st.integers(1, 12))
def test_every_name_is_dealt_to_one_shard_and_all_get_as_many(given: list[str], count: int) -> None:
    dealt = [Shard(index, count).names(given) for index in range(count)]
    assert sorted(name for part in dealt for name in part) == sorted(set(given))
    sizes = [len(part) for part in dealt]
    assert max(sizes) - min(sizes) <= 1


@given(names, st.randoms())
def test_the_order_in_which_names_come_does_not_matter(given: list[str], random: object) -> None:
    shuffled = given * 2
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert Shard(1, 3).names(shuffled) == Shard(1, 3).names(given)


# -- files


def test_the_shards_of_a_store_lie_beside_it(tmp_path: Path) -> None:
    store = tmp_path / "features.mer"
    assert Shard(3, 16).path(store) == tmp_path / "features.mer.shards" / "0003-of-0016.mer"
    assert Shard(12345, 20000).path(f"{store}/").name == "12345-of-20000.mer"


def test_shards_that_are_there_and_those_that_are_not(tmp_path: Path) -> None:
    store = tmp_path / "features.mer"
    assert Shard.all(store) == ([], [])
    for shard in (Shard(10, 12), Shard(2, 12), Shard(0, 2), Shard(1, 2)):
        shard.path(store).mkdir(parents=True)
    for other in ("notes.txt", "0000-of-0000.mer", "0005-of-0003.mer"):
        (tmp_path / "features.mer.shards" / other).touch()
    paths, missing = Shard.all(store)
    expected = [Shard(0, 2), Shard(1, 2), Shard(2, 12), Shard(10, 12)]
    assert paths == [shard.path(store) for shard in expected]
    assert missing == [Shard(i, 12) for i in range(12) if i not in (2, 10)]


# -- variables


def slurm(**more: str) -> dict[str, str]:
    """What a process has that srun started."""
    return {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"} | {
        f"SLURM_{name}": value for name, value in more.items()
    }


def array(index: str, low: str, high: str, **more: str) -> dict[str, str]:
    every = {"ID": index, "MIN": low, "MAX": high} | more
    return {f"SLURM_ARRAY_TASK_{name}": value for name, value in every.items()}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"HOME": "x", "LOCAL_RANK": "1"}, None),
        ({"RANK": "3", "WORLD_SIZE": "16"}, Shard(3, 16)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        (slurm(PROCID="3", NTASKS="16"), Shard(3, 16)),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "16"}, Shard(3, 16)),
        (slurm(PROCID="0", NTASKS="1"), None),
        # a step of fewer tasks than the job was given
        (slurm(PROCID="1", NTASKS="16", STEP_NUM_TASKS="4"), Shard(1, 4)),
        # the batch script itself, before any srun; an allocation
        ({"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "16"}, None),
        ({"SLURM_NTASKS": "16"}, None),
        (array("5", "0", "15", STEP="1", COUNT="16"), Shard(5, 16)),
        (array("7", "1", "9", STEP="2", COUNT="5"), Shard(3, 5)),
        (array("5", "2", "5"), Shard(3, 4)),
        (array("4", "4", "4", STEP="1", COUNT="1"), None),
        # an array of 3 jobs, each with 4 tasks
        (array("2", "0", "2", COUNT="3") | slurm(PROCID="1", NTASKS="4"), Shard(9, 12)),
        # srun starts torchrun on 2 nodes, which starts 4 processes on each
        (slurm(PROCID="1", NTASKS="2") | {"RANK": "6", "WORLD_SIZE": "8"}, Shard(6, 8)),
        # a process of srun's that calls itself the only one of its own
        (slurm(PROCID="1", NTASKS="2") | {"RANK": "0", "WORLD_SIZE": "1"}, Shard(1, 2)),
    ],
)  # fmt: skip
def test_which_shard_this_process_is(environ: dict[str, str], expected: Shard | None) -> None:
    assert Shard.here(environ) == expected


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"RANK": "16", "WORLD_SIZE": "16"}, "RANK=16, WORLD_SIZE=16"),
        ({"RANK": "x", "WORLD_SIZE": "16"}, "RANK is 'x'"),
        ({"RANK": "3"}, "WORLD_SIZE is not set"),
        ({"WORLD_SIZE": "3"}, "RANK is not set"),
        ({"RANK": "", "WORLD_SIZE": "3"}, "RANK is ''"),
        (slurm(PROCID="-1", NTASKS="4"), "SLURM_PROCID is '-1'"),
        (slurm(PROCID="4", NTASKS="4"), "SLURM_PROCID=4, SLURM_NTASKS=4"),
        (slurm(PROCID="1"), "SLURM_NTASKS is not set"),
        (slurm(PROCID="1", NTASKS="16") | {"RANK": "1", "WORLD_SIZE": "2"}, "WORLD_SIZE=2, SLURM_PROCID=1"),
        (array("3", "1", "7", STEP="1", COUNT="3"), "gaps"),  # --array=1,3,7
        (array("4", "1", "7", STEP="2", COUNT="4"), "SLURM_ARRAY_TASK_ID=4"),
        (array("9", "0", "7"), "SLURM_ARRAY_TASK_MAX=7"),
        (array("1", "", "7"), "SLURM_ARRAY_TASK_MIN is ''"),
    ],
)  # fmt: skip
def test_broken_variables_are_named(environ: dict[str, str], told: str) -> None:
    with pytest.raises(MerstoreError) as refused:
        Shard.here(environ)
    assert told in str(refused.value)
    assert "--shard i/n" in str(refused.value)
