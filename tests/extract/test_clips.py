import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merstore.errors import InvalidKey, MerstoreError
from merstore.extract.clips import Clips
from merstore.store.keys import sample_key


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def listing(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


class TestDirectory:
    def test_every_visible_file_is_a_clip_under_its_stem(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.mp4", "b.AVI", "c.v2.mkv", "notes.txt", "no_suffix", ".hidden.mp4")
        clips = Clips.from_directory(tmp_path)
        assert dict(clips) == {
            "a": tmp_path / "a.mp4",
            "b": tmp_path / "b.AVI",
            "c.v2": tmp_path / "c.v2.mkv",
            "no_suffix": tmp_path / "no_suffix",
            "notes": tmp_path / "notes.txt",
        }

    @pytest.mark.parametrize(
        ("files", "chosen"),
        [
            (["x.txt", "x.wav", "x.mp4"], "x.mp4"),
            (["x.webm", "x.mov", "x.mkv", "x.avi"], "x.avi"),
            (["x.jpg", "x.wav", "x.csv"], "x.wav"),
            (["x.csv", "x.jpg"], "x.jpg"),
            (["x.wav", "x.MP4"], "x.MP4"),
            (["x/x.mp4", "x.wav"], "x/x.mp4"),
            (["x/x.mp4", "x.mp4"], "x.mp4"),
        ],
    )
    def test_of_files_with_one_stem_a_video_is_the_clip(
        self, tmp_path: Path, files: list[str], chosen: str
    ) -> None:
        assert dict(Clips.from_directory(touch(tmp_path, *files))) == {"x": tmp_path / chosen}

    def test_finds_the_layout_of_a_folder_per_sample(self, tmp_path: Path) -> None:
        touch(tmp_path, "s1/s1.mp4", "s1/s1.wav", "s1/other.mp4", "s2/frames/1.jpg", "s3.mp4")
        assert dict(Clips.from_directory(tmp_path)) == {
            "s1": tmp_path / "s1/s1.mp4",
            "s3": tmp_path / "s3.mp4",
        }

    def test_is_in_the_order_of_the_names_bytes(self, tmp_path: Path) -> None:
        names = ["b", "a", "B", "-x", "_y", "é", "z", "情感", "a1", "a10", "a2"]
        touch(tmp_path, *(f"{name}.mp4" for name in names))
        assert list(Clips.from_directory(tmp_path)) == sorted(names, key=str.encode)

    def test_a_folder_that_is_missing_empty_or_a_file_is_named(self, tmp_path: Path) -> None:
        for folder, what in [("none", "no such folder"), ("empty", "no clips"), ("f", "not a")]:
            if folder == "empty":
                touch(tmp_path, "empty/.hidden", "empty/sub/other.mp4")
            if folder == "f":
                touch(tmp_path, "f")
            with pytest.raises(MerstoreError, match=f"{folder}: .*{what}"):
                Clips.from_directory(tmp_path / folder)

    def test_a_file_whose_name_no_sample_can_have_is_named(self, tmp_path: Path) -> None:
        touch(tmp_path, "tab\there.mp4")
        with pytest.raises(InvalidKey, match=r"tab\\\\?there\.mp4.*control"):
            Clips.from_directory(tmp_path)

    def test_a_file_name_that_is_not_utf8_is_named(self, tmp_path: Path) -> None:
        with open(os.fsencode(tmp_path) + b"/caf\xe9.mp4", "wb"):
            pass
        with pytest.raises(InvalidKey, match=r"caf.*not UTF-8"):
            Clips.from_directory(tmp_path)


class TestList:
    def test_bare_lines_are_samples_whose_video_is_looked_up(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.wav", "a.mkv", "b.AVI", "c/c.mp4", "-MeT_0.mp4", "d.x.mp4")
        text = "b\n\n-MeT_0\r\n a \nc\nd.x\n"
        clips = Clips.from_list(listing(tmp_path / "list.txt", text))
        assert {name: path.name for name, path in clips.items()} == {
            "-MeT_0": "-MeT_0.mp4",
            "a": "a.mkv",
            "b": "b.AVI",
            "c": "c.mp4",
            "d.x": "d.x.mp4",
        }

    def test_lines_may_be_paths(self, tmp_path: Path) -> None:
        root = touch(tmp_path / "root", "sub/a.mp4", "b.avi", "notes.dat")
        other = touch(tmp_path / "elsewhere", "c.mp4") / "c.mp4"
        text = f"sub/a.mp4\nb.avi\n{other}\nnotes.dat\n"
        clips = Clips.from_list(listing(tmp_path / "list.txt", text), root)
        assert dict(clips) == {
            "a": root / "sub/a.mp4",
            "b": root / "b.avi",
            "c": other,
            "notes": root / "notes.dat",
        }

    @pytest.mark.parametrize(
        "text",
        [
            "name,chinese,english\na,x,y\nb,,\n",
            "\ufeffname,english\r\na,hello\r\nb,bye\r\n",
            'emotions,names\n"[\'happy\', ""sad""]",a\n\n"two\nlines",b\n',
            "id\tName\n1\ta\n2\tb\n",
            "name\na\nb\n",
        ],
    )
    def test_a_table_is_read_by_its_column_of_names(self, tmp_path: Path, text: str) -> None:
        touch(tmp_path, "a.mp4", "b.mp4")
        assert list(Clips.from_list(listing(tmp_path / "list.csv", text))) == ["a", "b"]

    def test_a_listed_clip_that_is_gone_stays_listed(self, tmp_path: Path) -> None:
        clips = Clips.from_list(listing(tmp_path / "l.txt", "a\nb.avi\nsub/c.mp4"), tmp_path / "no")
        assert {name: str(path.relative_to(tmp_path)) for name, path in clips.items()} == {
            "a": "no/a.mp4",
            "b": "no/b.avi",
            "c": "no/sub/c.mp4",
        }

    def test_samples_listed_twice_are_named(self, tmp_path: Path) -> None:
        file = listing(tmp_path / "list.txt", "a\nb\nsub/a.mp4\nb\nc\n")
        with pytest.raises(MerstoreError, match=r"list\.txt: 2 samples .* more than once: a, b$"):
            Clips.from_list(file)

    @pytest.mark.parametrize(
        ("name", "content", "why"),
        [
            ("list.txt", b"", "no clips"),
            ("list.csv", b"id,text\n1,x\n", "no column .name. or .names. among id, text"),
            ("list.csv", b"name,text\na,x\n,y\n", "line 3 has no name"),
            ("list.csv", b"text,name\nx,a\ny\n", "line 3 has no name"),
            ("list.txt", b"caf\xe9\n", "not UTF-8"),
            ("list.csv", b"name,text\na," + b"x" * 200_000, "not a table"),
        ],
    )
    def test_a_list_that_is_none_is_named(
        self, tmp_path: Path, name: str, content: bytes, why: str
    ) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MerstoreError, match=rf"{name}: .*{why}"):
            Clips.from_list(tmp_path / name)

    def test_a_list_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(MerstoreError, match=r"none\.txt: No such file"):
            Clips.from_list(tmp_path / "none.txt")

    def test_an_entry_that_no_sample_can_be_named_after_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidKey, match="400 bytes, not 401"):
            Clips.from_list(listing(tmp_path / "list.txt", "x" * 401))


class TestPaths:
    def test_one_clip_per_path(self) -> None:
        clips = Clips.from_paths(["videos/b.mp4", Path("a.avi")])
        assert dict(clips) == {"a": Path("a.avi"), "b": Path("videos/b.mp4")}
        assert list(clips) == ["a", "b"]

    def test_the_same_stem_twice_and_no_path_at_all_are_refused(self) -> None:
        with pytest.raises(MerstoreError, match="more than once: a"):
            Clips.from_paths(["x/a.mp4", "y/a.avi"])
        with pytest.raises(MerstoreError, match="no clips"):
            Clips.from_paths([])


def test_is_a_mapping_that_can_be_pickled() -> None:
    clips = Clips.from_paths(["b.mp4", "a.mp4"])
    assert len(clips) == 2
    assert "a" in clips
    assert "c" not in clips
    copy = pickle.loads(pickle.dumps(clips))
    assert list(copy.items()) == list(clips.items())


@given(st.text(max_size=420) | st.text("a/\n\x7f\x85\ud800é", max_size=5))
def test_accepts_the_names_that_the_store_accepts_and_no_other(name: str) -> None:
    def accepted(check: object) -> bool:
        try:
            check(name)  # type: ignore[operator]
        except InvalidKey:
            return False
        return True

    assert accepted(lambda name: Clips({name: Path("x")})) == accepted(sample_key)
