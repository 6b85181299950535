"""Word tables are read as OV-MER reads them, and refused where they are not its tables."""

import shutil
from pathlib import Path

import pytest
from score_tables import HEADER, WHEEL_ROWS, write_tables, write_xlsx

from merstore.errors import InvalidKey, MerstoreError
from merstore.score.wheels import FILES, METRICS, OV_MER, WheelTables


def test_the_metrics_in_their_order() -> None:
    assert METRICS == (
        "M1", "M2", "M3W1-L1", "M3W1-L2", "M3W2-L1", "M3W2-L2", "M3W3-L1", "M3W3-L2", "M3W4-L1",
        "M3W4-L2", "M3W5-L1", "M3W5-L2",
    )  # fmt: skip


class TestSmallTables:
    def test_cells_below_are_those_above(self, tables: WheelTables) -> None:
        assert tables.wheels["M3W1-L1"] == dict.fromkeys(
            ["mad", "hurt", "jealous", "hostile", "irate"], "mad"
        ) | dict.fromkeys(["sad", "guilty", "sorry", "ashamed"], "sad")
        assert tables.wheels["M3W1-L2"]["ashamed"] == "guilty"

    def test_a_level_1_word_has_the_first_of_its_level_2_groups(self, tables: WheelTables) -> None:
        assert tables.wheels["M3W1-L2"]["mad"] == "hostile"

    def test_a_word_in_two_groups_is_in_the_last(self, tables: WheelTables) -> None:
        assert tables.wheels["M3W2-L1"]["jealous"] == "mad"
        assert tables.wheels["M3W2-L2"]["jealous"] == "hostile"

    def test_a_label_is_projected_whole_in_lower_case_stripped(self, tables: WheelTables) -> None:
        assert tables.project(" Sadness ", "M1") == "sad"
        assert tables.project("much sadness", "M1") is None

    def test_m1_is_the_first_lemma_m2_that_lemmas_first_head_m3_looks_through_all(
        self, tables: WheelTables
    ) -> None:
        assert tables.forms["envy"] == ("envious", "jealous")
        assert tables.lemmas["fearless"] == ("brave", "daring")
        assert [tables.project("fear", metric) for metric in METRICS] == [
            "fearless", "brave", None, None, "happy", "brave", "joyful", "brave", None, None, "powerful", "proud",
        ]  # fmt: skip

    def test_a_row_without_forms_has_its_name(self, tables: WheelTables) -> None:
        assert tables.project("unhappy", "M2") == "sad"

    def test_synonyms_may_be_quoted(self, tables: WheelTables) -> None:
        assert tables.lemmas["down"] == ("sad",)

    def test_an_unknown_label_is_nothing_in_all_metrics(self, tables: WheelTables) -> None:
        assert tables.projections("grumpy") == (None,) * 12
        assert (tables.known("grumpy"), tables.known(" HAPPILY")) == (False, True)

    def test_an_unknown_metric_is_refused(self, tables: WheelTables) -> None:
        with pytest.raises(InvalidKey, match="M3W5-L2"):
            tables.project("sad", "M3W6-L1")

    def test_other_tables_are_told_by_their_digests(
        self, tables: WheelTables, tables_folder: Path, tmp_path: Path
    ) -> None:
        assert tables.changed == list(FILES)
        copy = shutil.copytree(tables_folder, tmp_path / "copy")
        assert WheelTables.load(copy).digest == tables.digest
        with open(copy / "format.csv", "a", encoding="utf-8") as file:
            file.write("proud,proudly\n")
        changed = WheelTables.load(copy)
        assert changed.digest != tables.digest
        assert changed.known("proudly")


class TestWhatIsNoTable:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return write_tables(tmp_path / "emotion_wheel")

    @pytest.mark.parametrize("name", FILES)
    def test_a_file_that_is_missing(self, folder: Path, name: str) -> None:
        (folder / name).unlink()
        with pytest.raises(MerstoreError, match=f"{name}: No such file"):
            WheelTables.load(folder)

    def test_a_sheet_that_is_missing(self, folder: Path) -> None:
        write_xlsx(folder / "wheel3.xlsx", [HEADER, *WHEEL_ROWS[3]], sheet="Data")
        with pytest.raises(MerstoreError, match=r"wheel3\.xlsx: no sheet 'Sheet1'; it has: Data"):
            WheelTables.load(folder)

    @pytest.mark.parametrize("name", ["wheel1.xlsx", "synonym.xlsx"])
    @pytest.mark.parametrize("rows", [[], [["level1", "level3"]], [["word"], ["sad"]]])
    def test_another_header(self, folder: Path, name: str, rows: list[list[str]]) -> None:
        write_xlsx(folder / name, rows)
        with pytest.raises(MerstoreError, match=rf"{name}: its header is"):
            WheelTables.load(folder)

    @pytest.mark.parametrize("name", ["wheel5.xlsx", "synonym.xlsx"])
    @pytest.mark.parametrize("data", [b"", b"level1,level2,level3\n", b"PK\x03\x04 cut"])
    def test_a_damaged_file(self, folder: Path, name: str, data: bytes) -> None:
        (folder / name).write_bytes(data)
        with pytest.raises(MerstoreError, match=rf"{name}: no readable xlsx"):
            WheelTables.load(folder)

    def test_a_first_row_with_a_hole(self, folder: Path) -> None:
        write_xlsx(folder / "wheel2.xlsx", [HEADER, ["sad", None, "sorry"]])
        with pytest.raises(MerstoreError, match=r"wheel2\.xlsx, row 2"):
            WheelTables.load(folder)

    def test_columns_that_are_blank_are_none(self, folder: Path) -> None:
        before = WheelTables.load(folder)
        write_xlsx(folder / "wheel3.xlsx", [[*row, None, " "] for row in [HEADER, *WHEEL_ROWS[3]]])
        assert WheelTables.load(folder).wheels == before.wheels

    def test_a_row_that_is_longer_than_the_header(self, folder: Path) -> None:
        write_xlsx(folder / "wheel3.xlsx", [HEADER, ["joyful", "brave", "daring", "a note"]])
        with pytest.raises(MerstoreError, match=r"wheel3\.xlsx, row 2: more cells"):
            WheelTables.load(folder)

    def test_a_wheel_without_words(self, folder: Path) -> None:
        write_xlsx(folder / "wheel2.xlsx", [HEADER])
        with pytest.raises(MerstoreError, match=r"wheel2\.xlsx: no words"):
            WheelTables.load(folder)

    def test_synonyms_of_other_wheels(self, folder: Path) -> None:
        write_xlsx(folder / "wheel4.xlsx", [HEADER, ["joy", "genius", "wit"]])
        write_xlsx(folder / "wheel1.xlsx", [HEADER, ["joy", "genius", "wit"]])
        with pytest.raises(MerstoreError, match=r"synonym\.xlsx, row 2: '\w+' is on none"):
            WheelTables.load(folder)

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("name,format\nghostly,ghost\n", "'ghostly' is not in synonym"),
            ("name,forms\nsad,sadly\n", "no column 'format'"),
            ("name,format\n", "no words"),
            ("name,format\nsad,sadly,sadness\n", "3 cells under 2"),
        ],
    )
    def test_forms_that_do_not_fit(self, folder: Path, text: str, told: str) -> None:
        (folder / "format.csv").write_text(text)
        with pytest.raises(MerstoreError, match=rf"format\.csv: .*{told}"):
            WheelTables.load(folder)


@pytest.mark.shared
class TestOvMersTables:
    def test_they_are_the_published_ones(self, ov_tables: WheelTables) -> None:
        assert ov_tables.digests == OV_MER
        assert ov_tables.changed == []

    def test_their_sizes(self, ov_tables: WheelTables) -> None:
        words = [len(ov_tables.wheels[f"M3W{wheel}-L1"]) for wheel in range(1, 6)]
        assert words == [114, 126, 78, 102, 77]
        level1 = [len(set(ov_tables.wheels[f"M3W{wheel}-L1"].values())) for wheel in range(1, 6)]
        level2 = [len(set(ov_tables.wheels[f"M3W{wheel}-L2"].values())) for wheel in range(1, 6)]
        assert (level1, level2) == ([6, 7, 6, 6, 6], [36, 41, 36, 48, 36])
        assert len({word for groups in ov_tables.wheels.values() for word in groups}) == 253
        assert len(ov_tables.lemmas) == 1255
        assert sum(len(heads) > 1 for heads in ov_tables.lemmas.values()) == 431
        assert len(ov_tables.forms) == 7386
        assert sum(len(lemmas) > 1 for lemmas in ov_tables.forms.values()) == 887

    @pytest.mark.parametrize(
        ("label", "groups"),
        [
            ("fear", ["scared", "happy", "joyful", "genius", "joyful"]),
            ("worried", ["scared", "fearful", "scared", "fear", "scared"]),
            ("neutral", [None] * 5),
        ],
    )
    def test_groups_of_labels_at_level_1(
        self, ov_tables: WheelTables, label: str, groups: list[str | None]
    ) -> None:
        found = [ov_tables.project(label, f"M3W{wheel}-L1") for wheel in range(1, 6)]
        assert found == groups

    def test_where_labels_end_up(self, ov_tables: WheelTables) -> None:
        assert ov_tables.project("happy", "M1") == "happiness"
        assert ov_tables.project("surprise", "M3W5-L1") is None
        assert [ov_tables.project("disgust", f"M3W{w}-L1") for w in (3, 5)] == [None, None]
        for word in ("overwhelmed", "inferior", "embarrassed", "disappointed"):
            group = "bad" if word == "overwhelmed" else "sad"
            assert ov_tables.wheels["M3W2-L1"][word] == group
        for word in ("friendly", "humorous", "complaining", "gratitude"):
            assert not ov_tables.known(word)

    def test_both_levels_of_a_wheel_drop_the_same_labels(self, ov_tables: WheelTables) -> None:
        for form in ov_tables.forms:
            found = ov_tables.projections(form)[2:]
            assert [one is None for one in found[::2]] == [two is None for two in found[1::2]]

    def test_with_mer2026s_correction_fear_is_fear(self, ov_data: Path, tmp_path: Path) -> None:
        folder = shutil.copytree(ov_data / "emotion_wheel", tmp_path / "corrected")
        folder.chmod(0o755)
        path = folder / "format.csv"
        path.chmod(0o644)
        lines = [
            line if not line.startswith("fearless,") else "fearless,fearless"
            for line in path.read_text("utf-8").splitlines()
        ]
        path.write_text("\n".join(lines) + "\n", "utf-8")
        tables = WheelTables.load(folder)
        assert tables.changed == ["format.csv"]
        groups = [tables.project("fear", f"M3W{wheel}-L1") for wheel in range(1, 6)]
        assert not {"happy", "joyful", "genius"} & set(groups)
