"""What is known of a machine, and which of it makes a measured speed out of date."""

import copy
import json
from pathlib import Path

import merstore
from merstore import machine


def test_a_machine_is_described_in_json_without_its_name_or_paths(tmp_path: Path) -> None:
    described = machine.describe(tmp_path)
    assert described["cores"] >= 1
    assert described["memory_gib"] >= 1
    assert described["packages"]["merstore"] == merstore.__version__
    text = json.dumps(described)
    assert str(tmp_path) not in text
    assert json.loads(text) == described


def test_date_load_and_patches_change_no_speed(tmp_path: Path) -> None:
    then = machine.describe(tmp_path)
    now = copy.deepcopy(then) | {"date": "2001-01-01", "load": [9, 9, 9], "python": "3.99"}
    now["kernel"] = then["kernel"] + "-patched"
    now["packages"]["xxhash"] = "0"
    assert machine.differences(then, now) == []


def test_what_does_change_it_is_named(tmp_path: Path) -> None:
    then = machine.describe(tmp_path) | {"cores": 2, "gpus": ["NVIDIA A", "NVIDIA A"]}
    now = copy.deepcopy(then) | {"cores": 16, "gpus": [], "kernel": "Linux 99.1"}
    now["packages"]["torch"] = "99"
    differences = machine.differences(then, now)
    assert differences[:2] == ["cores: 2, now 16", "GPUs: NVIDIA A, NVIDIA A, now none"]
    assert [each.split(":")[0] for each in differences[2:]] == ["kernel", "torch"]


def test_a_damaged_description_is_of_another_machine(tmp_path: Path) -> None:
    now = machine.describe(tmp_path)
    assert machine.differences({}, now)
    assert machine.differences({"packages": 7, "gpus": "x"}, now)
