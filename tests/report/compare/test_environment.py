"""What differs between machines, builds and settings."""

from dataclasses import replace

from report.made_comparisons import write
from report.made_runs import record

from pcbench.report.compare.environment import environment_changes
from pcbench.report.compare.runs import read_compared


def changes(tmp_path, *manifests, telemetry=({}, {})):
    runs = [
        write(tmp_path / f"run{i}", [replace(record(), telemetry_summary=summary or None)], **manifest)
        for i, (manifest, summary) in enumerate(zip(manifests, telemetry, strict=True))
    ]
    return environment_changes(read_compared(runs))


def test_environment_changes_list_only_what_differs(tmp_path):
    machine = {"torch": "2.13.0", "threads": 2, "arch": "x86_64 AVX2", "dirty": False, "packages": {"numpy": "2.4"}}
    other = machine | {"threads": 8, "dirty": True, "packages": {"numpy": "2.5"}, "driver": "570.1"}
    found = changes(tmp_path, {"environment": machine}, {"environment": other})
    assert found == {
        "threads": ["2", "8"],
        "dirty": ["false", "true"],
        "packages.numpy": ["2.4", "2.5"],
        "driver": ["–", "570.1"],
    }


def test_environment_changes_name_the_number_of_ranks(tmp_path):
    assert changes(tmp_path, {"environment": {"ranks": 2}}, {"environment": {"ranks": 4}}) == {"ranks": ["2", "4"]}


def test_environment_changes_of_one_build_are_none(tmp_path):
    assert changes(tmp_path, {}, {"created_at": "2026-03-02", "run": "again"}) == {}


def test_environment_changes_name_settings_builds_and_the_command(tmp_path):
    before = {"settings": {"repeats": 5}, "builds": {"cuda": "available"}, "command": "pcbench run --suite prefill"}
    after = {"settings": {"repeats": 9}, "builds": {"cuda": "no driver"}, "command": "pcbench run --suite p.toml"}
    assert changes(tmp_path, before, after) == {
        "builds.cuda": ["available", "no driver"],
        "settings.repeats": ["5", "9"],
        "command": ["pcbench run --suite prefill", "pcbench run --suite p.toml"],
    }


def test_environment_changes_hold_clocks_of_the_records(tmp_path):
    found = changes(tmp_path, {}, {}, telemetry=({"clock_mhz": 1980.0, "throttle": "none"}, {"clock_mhz": 1410.0}))
    assert found == {"telemetry.clock_mhz": ["1,980", "1,410"], "telemetry.throttle": ["none", "–"]}
