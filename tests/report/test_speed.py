import pytest

from mpd.report import speed
from mpd.store import schema, table

H200, OLD_NOTE = "NVIDIA H200", {}


def note(seconds, flops=None, device="cpu", peak_mb=500.0, peak_gpu_mb=None, **gpus):
    """What a note has in `spent`."""
    optional = {"flops": flops, "peak_gpu_mb": peak_gpu_mb, **gpus}
    return {
        "seconds": seconds,
        "peak_mb": peak_mb,
        "device": device,
        **{name: value for name, value in optional.items() if value is not None},
    }


NOTHING = dict.fromkeys(schema.SPEED.names[3:])


def test_speed_is_of_all_seeds_and_shards():
    tokens = [{"logits": 3000}, {"logits": 1000}]
    spent = [
        {
            "filter": [note(2.0)],
            "logits": [
                note(10.0, 989 * 10**12, H200, 4000.0, 70000.0),
                note(6.0, 989 * 10**12, H200, 6000.0, 60000.0),
            ],
        },
        {"filter": [note(3.0)], "logits": [note(4.0, 2 * 989 * 10**12, H200, 5000.0, 50000.0)]},
    ]
    rows = speed.speed_by_student({("mpd", 1): tokens}, {("mpd", 1): spent})
    assert table.arrow_schema(schema.SPEED) == rows.to_arrow().schema
    filtered, scored = rows.to_dicts()
    assert filtered == {
        "method": "mpd",
        "round": 1,
        "stage": "filter",
        **NOTHING,
        "seconds": 5.0,
        "device_seconds": 5.0,
        "peak_mb": 500.0,
        "device": "cpu",
    }
    assert scored == {
        "method": "mpd",
        "round": 1,
        "stage": "logits",
        "seconds": 20.0,
        "device_seconds": 20.0,
        "tokens": 4000,
        "tokens_per_second": 200.0,
        "flops_per_second": pytest.approx(4 * 989e12 / 20),
        "mfu": pytest.approx(0.2),
        "joules": None,
        "peak_mb": 6000.0,
        "peak_gpu_mb": 70000.0,
        "device": H200,
    }


def test_rows_are_sorted_by_method_and_round_and_stages_stay_in_order():
    spent = {student: [{"sample": [], "answers": []}] for student in (("opd", 1), ("mpd", 1))}
    rows = speed.speed_by_student({student: [{}] for student in spent}, spent)
    assert rows.select("method", "stage").rows() == [
        *(("mpd", "sample"), ("mpd", "answers")),
        *(("opd", "sample"), ("opd", "answers")),
    ]


def test_old_notes_have_nothing_to_say():
    assert speed.stage_speed([OLD_NOTE], 50) == {**NOTHING, "tokens": 50}
    mixed = speed.stage_speed([OLD_NOTE, note(4.0, 100, H200, 7.0, 8.0)], 50)
    known = {"tokens": 50, "peak_mb": 7.0, "peak_gpu_mb": 8.0, "device": H200}
    assert mixed == {**NOTHING, **known}


def test_cards_of_two_kinds_are_weighted_by_their_seconds():
    notes = [note(3.0, 312 * 10**12, "NVIDIA A100-SXM4-80GB"), note(1.0, 989 * 10**12, H200)]
    found = speed.stage_speed(notes, 8)
    assert found["device"] == "NVIDIA A100-SXM4-80GB, NVIDIA H200"
    assert found["mfu"] == pytest.approx((312 + 989) / (3 * 312 + 989))
    unknown = speed.stage_speed([*notes, note(1.0, 5, "NVIDIA Future")], 8)
    assert (unknown["mfu"], unknown["tokens_per_second"]) == (None, 1.6)


def test_passes_that_were_not_counted_have_no_use():
    found = speed.stage_speed([note(2.0, 10, H200), note(2.0, None, H200)], 8)
    assert (found["flops_per_second"], found["mfu"], found["tokens_per_second"]) == (
        None,
        None,
        2.0,
    )


def test_operations_of_a_cpu_are_no_use_of_a_card():
    found = speed.stage_speed([note(2.0, 10)], 8)
    assert (found["flops_per_second"], found["mfu"], found["tokens_per_second"]) == (
        None,
        None,
        4.0,
    )


def test_seconds_count_for_each_gpu_and_energy_is_added_up():
    notes = [note(2.0, None, H200, gpus=4, joules=500.0), note(3.0, None, H200, joules=250.5)]
    found = speed.stage_speed(notes, 10)
    assert (found["seconds"], found["device_seconds"], found["joules"]) == (5.0, 11.0, 750.5)
    assert found["tokens_per_second"] == 2.0
    unknown = speed.stage_speed([*notes, note(1.0, None, H200)], 10)
    assert (unknown["device_seconds"], unknown["joules"]) == (12.0, None)
    assert speed.stage_speed([*notes, OLD_NOTE], 10)["device_seconds"] is None


def test_the_base_student_comes_first_with_what_its_evaluation_took():
    spent = {
        ("any", 1): [{"sample": [note(1.0)], "answers": [note(1.0)]}],
        ("base", 0): [{"answers": [note(4.0)], "evaluate": [note(0.5)]}],
    }
    tokens = {("any", 1): [{"sample": 5, "answers": 10}], ("base", 0): [{"answers": 100}]}
    rows = speed.speed_by_student(tokens, spent)
    assert rows.select("method", "stage", "seconds", "tokens").rows() == [
        ("base", "answers", 4.0, 100),
        ("base", "evaluate", 0.5, None),
        ("any", "sample", 1.0, 5),
        ("any", "answers", 1.0, 10),
    ]
