import pytest

from pcbench.tasks.scorers.metrics.labels import class_share, first_line, number_share

CLASSES = ["Number", "Other number", "City", "Other", "Date"]


@pytest.mark.parametrize(
    ("prediction", "answer", "value"),
    [
        ("City", "City", 1.0),
        ("City or Date", "City", 0.5),
        ("Date", "City", 0.0),
        ("", "City", 0.0),
        # "Number" is not in "Other number", letter by letter
        ("Number", "Other number", 0.0),
    ],
)
def test_class_share_divides_by_the_classes_named(prediction, answer, value):
    assert class_share(prediction, [answer], CLASSES) == value


def test_class_share_drops_parts_of_the_right_name_but_passes_over_the_next():
    # "b" goes; "bc" is a part too but stands right behind it, so it counts
    assert class_share("abcd", ["abcd"], ["b", "bc", "abcd"]) == 0.5
    assert class_share("abcd", ["abcd"], ["b", "abcd", "bc"]) == 1.0
    assert class_share("abcd", ["abcd"], ["b", "bc", "cd", "abcd"]) == 0.5


def test_number_share_falls_with_every_other_number():
    share = number_share("Paragraph ")
    assert share("Paragraph 7", "Paragraph 7") == 1.0
    assert share("7, not 12 or 70", "Paragraph 7") == pytest.approx(1 / 3)
    assert share("07", "Paragraph 7") == 0.0
    assert share("seven", "Paragraph 7") == 0.0
    assert share("7", "Page 7") == 0.0
    assert number_share()("There are 12", "12") == 1.0
    assert number_share("段落")("段落3", "段落3") == 1.0


def test_first_line_cuts_after_leading_newlines():
    cut = first_line(lambda prediction, *rest: (prediction, rest))
    assert cut("\n\nCity\nDate", ["City"], CLASSES) == ("City", (["City"], CLASSES))
