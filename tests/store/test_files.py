"""The files of a store: what is no store, what may not be written, what was cut short, filled up or damaged."""

import os
import resource
import shutil
import struct
import subprocess
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import lmdb
import numpy as np
import pytest
from store.files_contents import Contents, contents
from store.files_disks import fill_up, public_folder, read_only, small_disk
from store.processes_child import NOBODY, SANITIZED, run, start

import merstore
from merstore.store import filesystem, layout

VIEW = "demo/frame@X/uniform_8frms"
RAGGED = "demo/audio@Y/FRA"
COUNT = 40
NAMES = [f"s{i:02d}" for i in range(COUNT)]


def fill(store: merstore.Store) -> None:
    """A view of fixed and one of ragged entries, and a failure."""
    view = store.create_view(VIEW, shape=(8, 32), spec={"n": 8}, exist_ok=True)
    ragged = store.create_view(RAGGED, dtype="float16", shape=(None, 5), exist_ok=True)
    rng = np.random.default_rng(7)
    view.update({f"s{i:02d}": rng.standard_normal((8, 32), np.float32) for i in range(COUNT)})
    ragged.update({f"s{i:02d}": rng.random((i % 7 + 1, 5)).astype("f2") for i in range(COUNT)})
    view.fail("lost", "missing_file", "s99.mp4 is not there")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with something in it, closed."""
    path = tmp_path / "store.mer"
    with merstore.open(path, "a") as store:
        fill(store)
    return path


@pytest.fixture
def before(path: Path) -> Contents:
    return contents(path)


def tree(folder: Path) -> dict[str, bytes]:
    """All files under a folder."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def set_meta(path: Path, key: str, value: bytes) -> None:
    with lmdb.open(str(path), max_dbs=6, map_size=1 << 30) as env:
        meta = env.open_db(b"meta", create=False)
        with env.begin(write=True, db=meta) as txn:
            txn.put(key.encode(), value)


# -- what is no store, or not one for us


@pytest.mark.parametrize("mode", ["r", "a"])
def test_a_store_of_a_newer_format_is_refused_and_left_alone(path: Path, mode: str) -> None:
    set_meta(path, "format", b"2")
    held = (path / "data.mdb").read_bytes()
    with pytest.raises(merstore.NewerFormat, match=r"format 2; .*reads format 1: upgrade merstore"):
        merstore.open(path, mode)
    assert (path / "data.mdb").read_bytes() == held


def test_a_newer_format_may_have_other_databases(path: Path) -> None:
    with lmdb.open(str(path), max_dbs=6, map_size=1 << 30) as env:
        leases = env.open_db(b"leases", create=False)
        with env.begin(write=True) as txn:
            txn.drop(leases)
    set_meta(path, "format", b"7")
    with pytest.raises(merstore.NewerFormat, match="format 7"):
        merstore.open(path, "a")


@pytest.mark.parametrize("key", ["format", "canary_page", "last_txn"])
def test_a_damaged_record_of_the_store_itself_is_named(path: Path, key: str) -> None:
    set_meta(path, key, b"\xff?")
    with pytest.raises(merstore.CorruptStore, match=f"record '{key}' is damaged; restore it"):
        merstore.open(path)


def _file(path: Path) -> None:
    path.write_text("not a folder")


def _with_data(data: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.mkdir()
        (path / "data.mdb").write_bytes(data)

    return make


def _something_else(path: Path) -> None:
    path.mkdir()
    (path / "clip.npy").write_bytes(b"x")


def _foreign_lmdb(path: Path) -> None:
    with lmdb.open(str(path)) as env, env.begin(write=True) as txn:
        txn.put(b"key", b"value")


def _foreign_lmdb_with_meta(path: Path) -> None:
    with lmdb.open(str(path), max_dbs=8) as env:
        for name in (b"meta", b"views", b"index", b"blocks", b"runs", b"leases"):
            with env.begin(write=True, db=env.open_db(name)) as txn:
                txn.put(b"mine", b"value")


def _foreign_lmdb_with_meta_as_a_key(path: Path) -> None:
    with lmdb.open(str(path)) as env, env.begin(write=True) as txn:
        txn.put(b"meta", b"value")


NO_STORES: dict[str, Callable[[Path], None]] = {
    "a file": _file,
    "random bytes": _with_data(np.random.default_rng(1).bytes(50_000)),
    "text": _with_data(b"hello" * 5000),
    "a few bytes": _with_data(b"\0" * 20),
    "another program's LMDB": _foreign_lmdb,
    "LMDB with databases of the same names": _foreign_lmdb_with_meta,
    "LMDB with a key of the same name": _foreign_lmdb_with_meta_as_a_key,
    # the magic number, and then nothing that LMDB could have written
    "a forged head": _with_data(bytes(16) + struct.pack("<I", 0xBEEFC0DE) + b"\xa5" * 20_000),
}


@pytest.mark.parametrize("mode", ["r", "a"])
@pytest.mark.parametrize("case", NO_STORES)
def test_what_is_no_store_is_neither_read_nor_written(tmp_path: Path, case: str, mode: str) -> None:
    path = tmp_path / "thing"
    NO_STORES[case](path)
    held = path.read_bytes() if path.is_file() else (path / "data.mdb").read_bytes()
    with pytest.raises(merstore.NotAStore, match=str(path)):
        merstore.open(path, mode)
    assert held == (path.read_bytes() if path.is_file() else (path / "data.mdb").read_bytes())


@pytest.mark.parametrize(
    "case", ["nothing", "an empty folder", "a folder of other things", "an empty data.mdb"]
)
def test_reading_where_no_store_is_yet_makes_none(tmp_path: Path, case: str) -> None:
    path = tmp_path / "thing"
    if case == "an empty data.mdb":
        _with_data(b"")(path)
    elif case == "a folder of other things":
        _something_else(path)
    elif case == "an empty folder":
        path.mkdir()
    held = tree(tmp_path)
    with pytest.raises(merstore.NotAStore, match=str(path)):
        merstore.open(path)
    assert tree(tmp_path) == held
    # writing does; what else is there stays
    with merstore.open(path, "a") as store:
        fill(store)
        assert store.verify() == []
    assert tree(tmp_path).items() >= {k: v for k, v in held.items() if v}.items()


def test_a_system_with_other_pages_makes_no_store(
    path: Path, before: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LMDB takes the system's page size, and small values of ours need pages of their own."""
    monkeypatch.setattr(layout, "PAGE_BYTES", 16384)
    with pytest.raises(merstore.MerstoreError, match=r"pages of 4,096 bytes, a store needs 16,384"):
        merstore.open(tmp_path / "new", "a")
    assert contents(path) == before  # one that is there was made by what suits it


def test_mode_w_is_for_new_stores(path: Path, before: Contents, tmp_path: Path) -> None:
    with pytest.raises(merstore.StoreExists, match=f'{path} is a store already: .*mode "a"'):
        merstore.open(path, "w")
    assert contents(path) == before
    with merstore.open(tmp_path / "deep" / "down" / "new.mer", "w") as store:
        assert store.views() == []


def test_a_store_that_disappears_is_not_made_anew(path: Path) -> None:
    with merstore.open(path, "a") as store:
        view = store[VIEW]
        shutil.rmtree(path)
        with pytest.raises(merstore.NotAStore, match=f"{path} does not exist"):
            store.refresh() or view["s00"]
        with pytest.raises(merstore.NotAStore, match=f"{path} does not exist"):
            view["new"] = np.ones((8, 32), np.float32)
    assert not path.exists()


def test_a_store_that_is_replaced_is_read_anew(
    path: Path, before: Contents, tmp_path: Path
) -> None:
    """A backup put back, another store moved here: what was known of the old file says nothing."""
    with merstore.open(tmp_path / "other", "a") as store:
        view = store.create_view(VIEW, shape=(8, 32), spec={"n": 8})
        view.update(
            {name: np.full((8, 32), i, np.float32) for i, name in enumerate(reversed(NAMES))}
        )
    with merstore.open(path, "a") as store:
        view, rows = store[VIEW], store[VIEW].select(NAMES)
        first = view["s00"]
        assert rows.gather([0, 1])[0].tolist() == view.gather(["s00"])[0].tolist() == first.tolist()
        held = first.tobytes()
        path.rename(tmp_path / "old")
        (tmp_path / "other").rename(path)
        store.refresh()
        assert rows.gather([0, 1])[:, 0, 0].tolist() == [COUNT - 1, COUNT - 2]
        assert view.gather(["s02"])[0, 0, 0] == COUNT - 3
        view["s02"] = np.full((8, 32), -1, np.float32)
        assert first.tobytes() == held
    assert contents(tmp_path / "old") == before
    assert contents(path)[VIEW]["tensors"]["s02"] != before[VIEW]["tensors"]["s02"]


# -- where nothing can be written


@pytest.fixture
def public() -> Iterator[Path]:
    """A store in a folder that another user may read."""
    with public_folder() as folder:
        with merstore.open(folder / "store.mer", "a") as store:
            fill(store)
        yield folder / "store.mer"
        (folder / "store.mer").chmod(0o755)


def _closed(path: Path) -> None:
    """Nobody but its owner may write; where the tests do not run as root, not even he."""
    for each in (path, *path.iterdir()):
        each.chmod(0o555 if each.is_dir() else 0o444)


def test_another_users_store_is_read(public: Path) -> None:
    expected = contents(public)
    _closed(public)
    assert run(contents, public, user=NOBODY) == expected
    (public / "lock.mdb").unlink() if os.geteuid() == 0 else None
    assert run(contents, public, user=NOBODY) == expected


def test_another_users_store_is_not_written_to(public: Path) -> None:
    _closed(public)
    held = tree(public)

    def write() -> None:
        merstore.open(public, "a")

    for _ in range(2):
        with pytest.raises(
            merstore.ReadOnlyStore, match=f"{public} cannot be written: no permission"
        ):
            run(write, user=NOBODY)
    assert tree(public) == held


def test_a_folder_that_cannot_be_written_takes_no_store(public: Path) -> None:
    (public.parent).chmod(0o555)

    def create(path: Path) -> None:
        merstore.open(path, "a")

    with pytest.raises(merstore.ReadOnlyStore, match=f"{public.parent}/new.* cannot be created"):
        run(create, public.parent / "new" / "store.mer", user=NOBODY)
    (public.parent / "empty").mkdir() if os.geteuid() == 0 else None
    public.parent.chmod(0o755)
    (public.parent / "empty").mkdir(exist_ok=True)
    (public.parent / "empty").chmod(0o555)
    with pytest.raises(merstore.ReadOnlyStore, match="empty cannot be written: no permission"):
        run(create, public.parent / "empty", user=NOBODY)


def test_a_store_that_cannot_be_read_says_so(public: Path) -> None:
    (public / "data.mdb").chmod(0)
    with pytest.raises(merstore.MerstoreError, match=f"{public}.*[Pp]ermission"):
        run(contents, public, user=NOBODY)


def test_a_reader_without_the_lock_file_never_reads_another_state(public: Path) -> None:
    """Writers know nothing of him and use the pages he reads again: he is told, or reads the new state."""
    _closed(public)
    if os.geteuid() != 0:
        pytest.skip("who runs this is the owner, whom the lock file cannot be kept from")

    def read(link: Connection) -> dict[str, int]:
        outcomes = {"read": 0, "told": 0}
        with merstore.open(public) as store:
            assert not store.stats()["locked"]
            view, rows = store[VIEW], store[VIEW].select(NAMES)
            link.send("reading")
            while not link.poll():
                try:
                    batch = rows.gather(range(COUNT))
                    single = view["s07"]
                    names = list(view)
                except merstore.StoreBusy as error:
                    assert "lock.mdb cannot be written" in str(error)  # noqa: PT017
                    outcomes["told"] += 1
                else:
                    assert (batch == batch[0, 0, 0]).all()
                    assert (single == single[0, 0]).all()
                    assert names == NAMES
                    outcomes["read"] += 1
        return outcomes

    with merstore.open(public, "a") as store:
        view = store[VIEW]
        view.update({name: np.zeros((8, 32), np.float32) for name in NAMES})
        with start(read, user=NOBODY) as child:
            assert child.receive() == "reading"
            for number in range(1, 150):
                view.update({name: np.full((8, 32), number, np.float32) for name in NAMES})
            child.send("enough")
            outcomes = child.result()
        assert outcomes["read"] > 0
        assert outcomes["told"] > 0


def test_read_only_media_are_read(path: Path, before: Contents, tmp_path: Path) -> None:
    with read_only(path, tmp_path / "dvd") as disk:

        def look() -> tuple[Contents, list[merstore.Problem], bool]:
            with merstore.open(disk) as store:
                return contents(store), store.verify(), store.stats()["locked"]

        # in a child: here device and inode are those of the store that may be open for writing
        assert run(look) == (before, [], False)
        with pytest.raises(merstore.ReadOnlyStore, match="read-only filesystem"):
            run(merstore.open, disk, "a")
        with pytest.raises(merstore.ReadOnlyStore, match="cannot be"):
            run(merstore.open, disk / "new", "a")


def test_a_file_that_cannot_be_changed_is_read(path: Path, before: Contents) -> None:
    """An immutable file stops even root."""
    if subprocess.run(["chattr", "+i", path / "data.mdb"], capture_output=True).returncode:
        pytest.skip("chattr +i does not work here")
    try:
        assert contents(path) == before
        with pytest.raises(merstore.ReadOnlyStore, match=str(path)):
            merstore.open(path, "a")
    finally:
        subprocess.run(["chattr", "-i", path / "data.mdb"], check=True)


def test_a_store_opened_for_reading_is_not_written_to(path: Path, before: Contents) -> None:
    array = np.ones((8, 32), np.float32)
    with merstore.open(path) as store:
        view = store[VIEW]
        uses: list[Callable[[], object]] = [
            lambda: view.__setitem__("s00", array),
            lambda: view.__delitem__("s00"),
            lambda: view.update({"s00": array}),
            lambda: view.fail("s00", "no_face", "none"),
            lambda: store.writer(),
            lambda: store.create_view("demo/new/view", shape=(3,)),
            lambda: store.create_view(VIEW, shape=(8, 32), spec={"n": 8}, exist_ok=True),
            lambda: store.drop_view(VIEW),
            lambda: store.compact(),
        ]
        for use in uses:
            with pytest.raises(
                merstore.ReadOnlyStore, match=f'{path} is open for reading: .*mode "a"'
            ):
                use()
        with pytest.raises(ValueError, match="read-only"):
            view["s00"][0, 0] = 1
    assert contents(path) == before


# -- files cut short

CUTS = [0, 1, 4096, 8191, 8192, 20_000, -4096, -1]


def _cut(path: Path, at: int) -> None:
    size = (path / "data.mdb").stat().st_size
    os.truncate(path / "data.mdb", at if at >= 0 else size + at)


@pytest.mark.parametrize("mode", ["r", "a"])
@pytest.mark.parametrize("cut", CUTS[1:])
def test_a_file_cut_short_is_not_opened(path: Path, cut: int, mode: str) -> None:
    _cut(path, cut)
    held = tree(path)
    with pytest.raises(merstore.MerstoreError, match=f"{path}.*(cut short|not a merstore store)"):
        run(contents, path) if mode == "r" else run(merstore.open, path, "a")
    assert tree(path)["data.mdb"] == held["data.mdb"]


def _use_after_cut(path: Path, cut: int, io: str) -> list[object]:
    """Everything that reads, after the file was cut behind our back; what each raised."""
    with merstore.open(path, "a", io=io) as store:
        view, ragged = store[VIEW], store[RAGGED]
        rows, ragged_rows = view.select(), ragged.select()
        right = rows.gather(range(COUNT)).tobytes()
        ragged_right = ragged_rows.padded(range(COUNT))[0].tobytes()
        _cut(path, cut)
        last = f"s{COUNT - 1:02d}"
        uses: list[Callable[[], object]] = [
            # what is known and lies before the cut may still be served
            lambda: rows.gather(range(COUNT)).tobytes() == right,
            lambda: ragged_rows.padded(range(COUNT))[0].tobytes() == ragged_right,
            lambda: view[last],
            lambda: view.gather([last]),
            lambda: list(view),
            lambda: store.refresh() or store.views(),
            lambda: store.verify(),
            lambda: store.stats(),
            lambda: view.__setitem__("new", np.ones((8, 32), np.float32)),
            lambda: store.create_view("demo/new/view", shape=(3,)),
            lambda: store.drop_view(RAGGED),
            lambda: store.compact(),
        ]
        raised: list[object] = []
        for use in uses:
            try:
                raised.append(use())
            except merstore.MerstoreError as error:
                raised.append(f"{type(error).__name__}: {error}")
        return raised


@pytest.mark.parametrize("io", ["map", "pread"])
@pytest.mark.parametrize("cut", CUTS)
def test_a_file_cut_short_behind_our_back_is_an_error_and_not_the_end(
    path: Path, cut: int, io: str
) -> None:
    for i, outcome in enumerate(run(_use_after_cut, path, cut, io)):
        if i >= 2 or outcome is not True:
            assert isinstance(outcome, str)
            assert outcome.startswith(f"CorruptStore: {path}/data.mdb was cut short")


def test_a_fast_store_cut_short_is_still_closed(path: Path) -> None:
    """Its last sync fails; nothing of it stays open."""

    def use() -> bool:
        store = merstore.open(path, "a", durability="fast")
        store[VIEW]["new"] = np.ones((8, 32), np.float32)
        _cut(path, 4096)
        with pytest.raises(merstore.CorruptStore, match="cut short"):
            store.close()
        shutil.rmtree(path)
        with merstore.open(path, "a") as store:
            return store.views() == []

    assert run(use)


# -- full disks and full maps


def _write_until_full(store: merstore.Store, until: Callable[[], object] = lambda: None) -> int:
    """Commit entries until there is no room; how many commits were acknowledged."""
    view = store.create_view("demo/big/one", shape=(8, 768), exist_ok=True)
    rng = np.random.default_rng(3)
    commits = 0
    while True:
        batch = {f"b{commits:03d}_{i}": rng.random((8, 768), np.float32) for i in range(8)}
        try:
            view.update(batch)
        except merstore.StoreFull as error:
            said = str(error)
            break
        commits += 1
        assert commits < 1000
    assert str(store.path) in said
    assert "nothing of this transaction was stored" in said
    return commits


def _check_full(store: merstore.Store, commits: int) -> None:
    """What was acknowledged is there, bit for bit; what was not is not; the store is sound."""
    view = store["demo/big/one"]
    rng = np.random.default_rng(3)
    for commit in range(commits):
        for i in range(8):
            assert np.array_equal(view[f"b{commit:03d}_{i}"], rng.random((8, 768), np.float32))
    assert len(view) == 8 * commits
    assert store.verify() == []


def test_a_disk_that_is_full_in_the_middle_of_a_commit(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 6 << 20) as disk, merstore.open(disk / "s", "a") as store:
        fill(store)
        held = contents(store)
        filler = disk / "filler"
        filler.write_bytes(bytes(2 << 20))
        commits = _write_until_full(store)
        assert commits > 3
        _check_full(store, commits)
        for _ in range(3):  # again and again: each fails, none does harm
            with pytest.raises(merstore.StoreFull, match=r"no space left on the disk.*Free some"):
                store["demo/big/one"].update(
                    {f"x{i}": np.ones((8, 768), np.float32) for i in range(64)}
                )
        _check_full(store, commits)
        filler.unlink()
        store["demo/big/one"]["more"] = np.ones((8, 768), np.float32)
        assert store["demo/big/one"]["more"].all()
        del store["demo/big/one"]["more"]
        _check_full(store, commits)
        assert {k: v for k, v in contents(store).items() if k in held} == held
    # (the disk is gone with the block above)


def test_a_full_disk_is_still_read_and_things_are_dropped_from_it(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 6 << 20) as disk:
        path = disk / "s"
        with merstore.open(path, "a") as store:
            fill(store)
            commits = _write_until_full(store)
        expected = contents(path)
        fill_up(disk)
        assert run(contents, path) == expected
        with merstore.open(path, "a") as store:
            with pytest.raises(merstore.StoreFull, match="compaction needs"):
                store.compact()
            assert [p.name for p in path.iterdir() if p.name.startswith("compact")] == []
            _check_full(store, commits)
            # LMDB writes what changes to pages of its own: there may be none left for a deletion
            # either, but then that is said, and nothing is half done
            try:
                store.drop_view(RAGGED)
            except merstore.StoreFull:
                assert contents(store) == expected


def test_a_store_without_lock_file_on_a_full_disk(tmp_path: Path) -> None:
    """LMDB's lock file is mapped: a page of it that finds no room would be a SIGBUS."""
    with small_disk(tmp_path / "disk", 4 << 20) as disk:
        path = disk / "s"
        with merstore.open(path, "a") as store:
            fill(store)
        expected = contents(path)
        (path / "lock.mdb").unlink()
        filler = fill_up(disk)
        with pytest.raises(merstore.StoreFull, match=r"lock\.mdb .*free some"):
            run(contents, path)
        filler.unlink()
        assert run(contents, path) == expected


def test_a_limit_on_the_size_of_files(path: Path, before: Contents) -> None:
    """``ulimit -f``: the system refuses to make the file longer."""

    def write() -> int:
        with merstore.open(path, "a") as store:
            size = (path / "data.mdb").stat().st_size
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + (3 << 20), hard))
            commits = _write_until_full(store)
            assert commits > 3
            _check_full(store, commits)
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            store["demo/big/one"]["more"] = np.ones((8, 768), np.float32)
            del store["demo/big/one"]["more"]
            _check_full(store, commits)
            return commits

    commits = run(write)
    with merstore.open(path) as store:
        _check_full(store, commits)
        assert {k: v for k, v in contents(store).items() if k in before} == before


def test_a_full_map(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with merstore.open(path, "a", map_size=3 << 20) as store:
        fill(store)
        held = contents(store)
        commits = _write_until_full(store)
        assert commits > 3
        _check_full(store, commits)
        with pytest.raises(merstore.StoreFull, match=r"map is full; .*larger map_size"):
            store["demo/big/one"].update(
                {f"x{i}": np.ones((8, 768), np.float32) for i in range(200)}
            )
        _check_full(store, commits)
        store.drop_view("demo/big/one")  # its space is used again
        again = _write_until_full(store)
        assert again >= commits - 2
        _check_full(store, again)
    with merstore.open(path, "a", map_size=1 << 30) as store:
        store["demo/big/one"]["more"] = np.ones((8, 768), np.float32)
        del store["demo/big/one"]["more"]
        _check_full(store, again)
        assert {k: v for k, v in contents(store).items() if k in held} == held


@pytest.mark.skipif(SANITIZED, reason="a sanitizer needs all address space for itself")
def test_little_address_space_is_enough(path: Path, before: Contents) -> None:
    """``ulimit -v``, as on shared clusters: neither LMDB's map nor ours can be a terabyte."""

    def use() -> dict[str, int]:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        space = pages * resource.getpagesize() + (1 << 30)
        resource.setrlimit(resource.RLIMIT_AS, (space, space))
        with merstore.open(path, "a") as store:
            assert contents(store) == before
            view = store.create_view("demo/big/one", shape=(64, 1024))
            array = np.arange(64 * 1024, dtype=np.float32).reshape(64, 1024)
            first = store.stats()["map_bytes"]
            for i in range(0, 600, 60):  # 150 MiB: beyond what is mapped to begin with
                view.update({f"b{k}": array + k for k in range(i, i + 60)})
                assert np.array_equal(view.gather([f"b{i + 59}"])[0], array + (i + 59))
            assert store.verify() == []
            return {"first": first, "last": store.stats()["map_bytes"]}

    mapped = run(use)
    assert mapped["first"] < 1 << 28
    assert mapped["last"] > mapped["first"]


@pytest.mark.skipif(SANITIZED, reason="a sanitizer needs all address space for itself")
def test_a_map_that_cannot_grow_says_what_to_do(path: Path) -> None:
    def use() -> str:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        space = pages * resource.getpagesize() + (300 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (space, space))
        with merstore.open(path, "a") as store:
            held = store[VIEW]["s00"]  # an array in use keeps the map where it is
            view = store.create_view("demo/big/one", shape=(64, 1024))
            array = np.ones((64, 1024), np.float32)
            try:
                for i in range(0, 600, 20):
                    view.update({f"b{k}": array for k in range(i, i + 20)})
            except merstore.StoreFull as error:
                assert len(view) == i
                assert store.verify() == []
                assert held.any()
                return str(error)
            return "no error"

    assert "map is full and cannot grow" in run(use)


# -- flipped bits


def located(path: Path, name: str) -> tuple[int, int, bytes]:
    """Where an entry's payload begins in data.mdb, where its block does, and its index entry."""
    with lmdb.open(str(path), max_dbs=6, readonly=True, lock=False) as env:
        page_bytes = env.stat()["psize"]
        views, index = (env.open_db(db, create=False) for db in (b"views", b"index"))
        with env.begin() as txn:
            record = txn.get(VIEW.encode(), db=views)
            number = struct.pack(">I", int(record.split(b'"number": ')[1].split(b",")[0]))
            value = txn.get(number + name.encode(), db=index)
    page, offset = struct.unpack_from("<QI", value, 32)
    return page * page_bytes + 16 + offset, page * page_bytes + 16, value


def flip(path: Path, at: int, bit: int = 0) -> None:
    with open(path / "data.mdb", "r+b") as file:
        file.seek(at)
        old = file.read(1)[0]
        file.seek(at)
        file.write(bytes([old ^ 1 << bit]))


def offsets_of(path: Path, value: bytes) -> list[int]:
    data = (path / "data.mdb").read_bytes()
    found = [data.find(value)]
    while found[-1] >= 0:
        found.append(data.find(value, found[-1] + 1))
    return found[:-1]


def readings(view: merstore.View, name: str) -> list[Callable[[], np.ndarray]]:
    row = int(name[1:])
    return [
        lambda: view[name],
        lambda: np.asarray(view.gather([name]))[0],
        lambda: np.asarray(view.gather([name], on_miss="mask"))[0],
        lambda: np.asarray(view.select(NAMES).gather([row]))[0],
    ]


@pytest.mark.parametrize("io", ["map", "pread"])
def test_a_flipped_bit_in_a_payload(path: Path, before: Contents, io: str) -> None:
    start, _, _ = located(path, "s07")
    with merstore.open(path) as store:
        right = np.array(store[VIEW]["s07"])
    flip(path, start + 100, 3)
    with merstore.open(path, io=io) as store:
        (problem,) = store.verify()
        assert (problem.view, problem.name, problem.kind) == (VIEW, "s07", "checksum")
        assert "delete it and compute or import it again" in problem.message
        for read in readings(store[VIEW], "s07"):  # unchecked: as it lies
            assert (read() != right).sum() == 1
    with merstore.open(path, checksum=True, io=io) as store:
        view = store[VIEW]
        for read in readings(view, "s07"):
            with pytest.raises(merstore.CorruptEntry, match=f"{VIEW}/s07: .*Delete the entry"):
                read()
        others = [name for name in view if name != "s07"]
        assert view.gather(others).mask.all()
    with merstore.open(path, "a") as store:  # the remedy
        del store[VIEW]["s07"]
        assert store.verify() == []
        store[VIEW]["s07"] = right
        store.compact()
    assert contents(path) == before


def test_a_flipped_bit_in_a_ragged_payload(path: Path) -> None:
    with merstore.open(path) as store:
        payload = store[RAGGED]["s11"].tobytes()
    (at,) = offsets_of(path, payload)
    flip(path, at, 7)
    with merstore.open(path, checksum=True) as store:
        rows = store[RAGGED].select()
        for read in (lambda: rows.gather([10, 11]), lambda: rows.padded([11])):
            with pytest.raises(merstore.CorruptEntry, match=f"{RAGGED}/s11: "):
                read()
        assert [problem.name for problem in store.verify()] == ["s11"]


@pytest.mark.parametrize(
    "field",
    {"magic": 0, "version": 8, "header bytes": 13, "view": 16, "entries": 20, "block": 24, "size": 33,
     "run": 40, "table bytes": 44, "time": 48, "checksum": 56, "a record": 64, "a name": 64 + 28}.items(),
    ids=lambda item: item[0],
)  # fmt: skip
def test_a_flipped_bit_in_a_block_header(
    path: Path, before: Contents, field: tuple[str, int]
) -> None:
    _, block, _ = located(path, "s07")
    flip(path, block + field[1], 1)
    with merstore.open(path, checksum=True) as store:
        problems = store.verify()
        assert {(p.view, p.name) for p in problems if p.name} == {
            (VIEW, f"s{i:02d}") for i in range(COUNT)
        }
        assert {p.kind for p in problems} == {"block"}
        for read in readings(store[VIEW], "s07"):  # the payload has a checksum of its own
            try:
                right = np.array_equal(read(), store[VIEW]["s07"])
            except merstore.CorruptStore as error:
                right = VIEW in str(error)
            assert right
        assert store[RAGGED].gather(list(store[RAGGED])).mask.all()
    with merstore.open(path, "a") as store:  # the remedy
        store.compact()
        assert store.verify() == []
    assert contents(path) == before


def test_any_flipped_bit_in_an_index_entry_is_noticed(path: Path) -> None:
    """Of its 576 bits, those of the time and of unused dimensions say nothing about the tensor; every
    other one is named by ``verify``. None makes a checked read serve anything but what was written.
    """
    with merstore.open(path, "a") as store:
        right = np.array(store[VIEW]["s07"])
    _, _, entry = located(path, "s07")
    places = offsets_of(path, entry)  # pages that are free now hold older copies
    silent = {*range(8, 16), *range(56, 72)}
    for byte in range(len(entry)):
        for bit in range(8):
            for at in places:
                flip(path, at + byte, bit)
            with warnings.catch_warnings(), merstore.open(path, checksum=True) as store:
                if byte not in silent:
                    named = {p.name for p in store.verify() if p.view == VIEW}
                    assert {"s07"} <= named <= {"s07", ""}, (byte, bit)
                for read in readings(store[VIEW], "s07"):
                    try:
                        got = read()
                    except merstore.MerstoreError as error:
                        assert "s07" in str(error) or VIEW in str(error)  # noqa: PT017
                    else:
                        assert got.dtype == right.dtype, (byte, bit)
                        assert np.array_equal(got, right), (byte, bit)
            for at in places:
                flip(path, at + byte, bit)
    with merstore.open(path) as store:
        assert store.verify() == []


BYTES = {
    "status": 0,
    "dtype": 1,
    "dims": 2,
    "block": 24,
    "page": 34,
    "offset": 41,
    "bytes": 45,
    "shape": 49,
}


@pytest.mark.parametrize("field", BYTES)
@pytest.mark.parametrize("remedy", ["delete", "overwrite"])
def test_an_entry_whose_index_entry_is_damaged_can_be_replaced(
    path: Path, before: Contents, field: str, remedy: str
) -> None:
    with merstore.open(path) as store:
        right = np.array(store[VIEW]["s07"])
    _, _, entry = located(path, "s07")
    for at in offsets_of(path, entry):
        flip(path, at + BYTES[field], 2)
    with merstore.open(path, "a") as store:
        assert "s07" in {p.name for p in store.verify()}
        if field not in ("block", "page", "offset"):
            with pytest.raises(merstore.CorruptEntry, match=f"{VIEW}/s07: .*delete the entry"):
                store.compact()
        if remedy == "delete":
            del store[VIEW]["s07"]
        store[VIEW]["s07"] = right
        store.compact()
        assert store.verify() == []
    assert contents(path) == before


@pytest.mark.parametrize("field", ["dtype", "block", "offset", "shape"])
def test_writing_goes_on_beside_a_damaged_entry_and_leaves_it_to_be_mended(
    path: Path, field: str
) -> None:
    """A small block is taken up into the next: not where one of its entries cannot be told."""
    with merstore.open(path) as store:
        right = {name: np.array(store[VIEW][name]) for name in NAMES}
        blocks = store.stats()["blocks"]
    _, _, entry = located(path, "s07")
    for at in offsets_of(path, entry):
        flip(path, at + BYTES[field], 2)
    with merstore.open(path, "a") as store:
        for i in range(3):
            store[VIEW][f"new {i}"] = np.full((8, 32), i, np.float32)
        assert store.stats()["blocks"] == blocks + 1
        named = {p.name for p in store.verify()}
        assert "s07" in named
        assert named <= {"s07", ""}
        for name in set(NAMES) - {"s07"}:
            assert np.array_equal(store[VIEW][name], right[name])
    for at in offsets_of(path, located(path, "s07")[2]):
        flip(path, at + BYTES[field], 2)
    with merstore.open(path) as store:
        assert np.array_equal(store[VIEW]["s07"], right["s07"])
        assert store.verify() == []


def test_flipped_bits_anywhere_do_not_crash_a_reader(path: Path) -> None:
    """Bits of LMDB's own pages: what is read is what was written, or an error of ours, or no longer
    listed and then said by ``verify``; and no signal.
    """
    with merstore.open(path, "a") as store:
        store.compact()
    data = (path / "data.mdb").read_bytes()
    expected = {view: held["tensors"] for view, held in contents(path).items()}
    rng = np.random.default_rng(5)

    def look() -> str:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with merstore.open(path, checksum=True) as store:
                    if store.verify():
                        return "found by verify"
                    tensors = {view: held["tensors"] for view, held in contents(store).items()}
                    return "unharmed" if tensors == expected else "harmed"
        except merstore.MerstoreError:
            return "an error"

    seen = []
    for page in rng.integers(0, len(data) // 4096, 100):
        # mostly where LMDB's pages have their headers and pointers
        at = int(page) * 4096 + int(rng.integers(0, 64 if rng.random() < 0.7 else 4096))
        bit = int(rng.integers(0, 8))
        flip(path, at, bit)
        seen.append(run(look))
        flip(path, at, bit)
    assert set(seen) == {"found by verify", "unharmed", "an error"}
    assert (path / "data.mdb").read_bytes() == data


# -- copies


def _copy(path: Path, to: Path, compact: bool) -> None:
    to.mkdir()
    with lmdb.open(str(path), max_dbs=6, readonly=True) as env:
        env.copy(str(to), compact=compact)


def test_a_copy_by_lmdb_is_the_same_store(path: Path, before: Contents, tmp_path: Path) -> None:
    _copy(path, tmp_path / "copy", compact=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert contents(tmp_path / "copy") == before


def test_a_compacting_copy_by_lmdb_is_read_slowly_and_said_so(
    path: Path, before: Contents, tmp_path: Path
) -> None:
    """``mdb_copy -c`` gives every page another number: locators lead nowhere."""
    with merstore.open(path, "a") as store:
        store[VIEW]["s00"] = np.array(store[VIEW]["s00"])  # free pages, so that numbers change
        store[VIEW]["s00"] = np.array(store[VIEW]["s00"])
    copy = tmp_path / "copy"
    _copy(path, copy, compact=True)
    with pytest.warns(
        UserWarning, match=r"renumbered by a copying tool; .*merstore compact"
    ) as told:
        store = merstore.open(copy, "a", checksum=True)
    assert told[0].filename == __file__
    with store:
        assert contents(store) == before
        assert store.stats()["renumbered"]
        assert store[VIEW].select().gather(range(COUNT)).mask.all()
        assert store.verify() == []
        with pytest.raises(merstore.StoreBusy, match=r"run `merstore compact` before writing"):
            store[VIEW]["new"] = np.ones((8, 32), np.float32)
        store.compact()
        assert not store.stats()["renumbered"]
        store[VIEW]["new"] = np.ones((8, 32), np.float32)
        del store[VIEW]["new"]
        assert store.verify() == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert contents(copy) == before


# -- where and how it is written


@pytest.fixture
def network(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, the store lies on NFS."""
    assert path.exists()
    monkeypatch.setattr(filesystem, "kind_of", lambda path: "nfs4")


@pytest.mark.usefixtures("network")
def test_network_filesystems_are_read_and_not_written(path: Path, tmp_path: Path) -> None:
    before = contents(path)
    for where in (path, tmp_path / "new"):
        with pytest.raises(
            merstore.UnsafeFilesystem, match=r"network filesystem \(nfs4\).*--force"
        ):
            merstore.open(where, "a")
    assert not (tmp_path / "new").exists()
    with merstore.open(path, "a", force=True) as store:
        store[VIEW]["new"] = np.ones((8, 32), np.float32)
        del store[VIEW]["new"]
    assert contents(path) == before


@pytest.mark.usefixtures("network")
def test_a_network_store_that_is_open_for_reading_is_not_written_either(path: Path) -> None:
    with merstore.open(path), pytest.raises(merstore.UnsafeFilesystem, match="nfs4"):
        merstore.open(path, "a")


def test_the_kind_of_this_filesystem_is_known(tmp_path: Path) -> None:
    assert filesystem.kind_of(tmp_path) != "unknown"
    assert not filesystem.is_network(tmp_path)
    assert filesystem.kind_of(Path("/proc")) == "proc"


def marked(path: Path) -> bool:
    with lmdb.open(str(path), max_dbs=6, readonly=True, lock=False) as env:
        meta = env.open_db(b"meta", create=False)
        with env.begin(db=meta) as txn:
            return txn.get(b"durability") == b"fast"


def test_fast_writes_leave_a_mark_until_they_are_synced(tmp_path: Path) -> None:
    path = tmp_path / "s"

    def write() -> None:
        store = merstore.open(path, "a", durability="fast")
        fill(store)
        assert store.stats()["durability"] == "fast"
        os._exit(0)  # without closing

    with pytest.raises(Exception, match="exit status 0"):
        run(write)
    assert marked(path)
    with pytest.warns(UserWarning, match=r'durability="fast" and not closed.*merstore verify'):
        store = merstore.open(path)
    with store:
        assert store.verify() == []
        expected = contents(store)
    with pytest.warns(UserWarning, match="not closed"):
        store = merstore.open(path, "a", durability="fast")
    store.close()
    assert not marked(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert contents(path) == expected


def test_a_fast_store_that_is_compacted_is_marked_again_when_written(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with merstore.open(path, "a", durability="fast") as store:
        fill(store)
        store.compact()
        assert store.stats()["durability"] == "full"
        store[VIEW]["new"] = np.ones((8, 32), np.float32)
        assert store.stats()["durability"] == "fast"
    assert not marked(path)


def test_one_process_writes_a_store_in_one_way(path: Path) -> None:
    with merstore.open(path, "a") as store:
        with pytest.raises(merstore.StoreBusy, match=r'already open .*durability="full": close it'):
            merstore.open(path, "a", durability="fast")
        assert store[VIEW]["s00"].any()
    with merstore.open(path, "a", durability="fast"), merstore.open(path) as reader:
        assert reader[VIEW]["s00"].any()


def test_a_store_that_is_open_through_py_lmdb_is_said_to_be(path: Path, before: Contents) -> None:
    with lmdb.open(str(path), max_dbs=6):
        for mode in ("r", "a"):
            with pytest.raises(
                merstore.StoreBusy, match=f"{path} is open in this process through py-lmdb"
            ):
                merstore.open(path, mode)
    assert contents(path) == before


def test_what_others_of_the_group_may_do_is_left_to_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o002)
    try:
        merstore.open(tmp_path / "s", "a").close()
    finally:
        os.umask(old)
    for name in ("data.mdb", "lock.mdb"):
        assert (tmp_path / "s" / name).stat().st_mode & 0o777 == 0o664


def test_a_relative_path_is_that_of_the_moment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    with merstore.open(path.name, "a") as store:
        os.chdir("/")
        store.refresh()
        assert store[VIEW]["s00"].any()
        store[VIEW]["new"] = np.ones((8, 32), np.float32)


def test_two_paths_to_one_store_share_what_is_open(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(path)
    with merstore.open(path, "a") as one, merstore.open(tmp_path / "link", "a") as other:
        assert one.environment is other.environment
        one[VIEW]["new"] = np.ones((8, 32), np.float32)
        other.refresh()
        assert other[VIEW]["new"].all()
