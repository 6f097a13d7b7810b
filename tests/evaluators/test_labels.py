"""Labels that draw other classes than their own."""

import pytest

from auditkit_evaluators import labels

pytestmark = pytest.mark.fast

WORDS = tuple(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
TEXT = tuple(sorted(map(str, range(12))))


def votes(shown, n=50, width=10):
    """Two judges that call all images of each label the class that it shows; None: anything."""

    def row(k):
        return [n // width] * width if k is None else [n if j == k else 0 for j in range(width)]

    return {label: {"a": row(k), "b": row(k)} for label, k in shown.items()}


def test_what_is_sure_and_what_is_not():
    assert labels.drawn(votes({0: 0, 1: 2, 2: None})) == {0: 0, 1: 2}
    assert labels.drawn(votes({0: 0}, n=3)) == {}, "three images say nothing surely"
    split = {0: {"a": [50, 0], "b": [0, 50]}}
    assert labels.drawn(split) == {}, "half of the judges is not most of them"


def test_a_model_in_order_says_nothing():
    assert labels.pattern({k: k for k in range(10)}, WORDS) is None
    assert labels.pattern({**{k: k for k in range(10)}, 2: 3}, WORDS) is None, "a forgotten class may look like another"
    assert labels.pattern({0: 1, 1: 0}, WORDS) is None, "two labels are no pattern"


def test_shifted_by_one():
    found = labels.pattern({k: k - 1 for k in range(1, 10)}, WORDS)
    assert found.startswith("labels look shifted by one: images asked for 'one' show 'zero'")
    assert "null row may come first" in found
    assert labels.pattern({k: k + 1 for k in range(9)}, WORDS) == (
        "labels look shifted by one: images asked for 'zero' show 'one', images asked for 'one' show 'two', "
        "images asked for 'two' show 'three'"
    )
    one_odd = {k: k - 1 for k in range(1, 10)} | {5: 2}
    assert labels.pattern(one_odd, WORDS).startswith("labels look shifted by one")


def test_numbers_sorted_as_text():
    """A model that learned label 2 as "2" draws it where folder "10" has label 2."""
    drawn = {label: TEXT.index(str(label)) for label in range(12)}
    assert labels.pattern(drawn, TEXT).startswith("labels look like the numbers in the class names, which are sorted as text here")
    assert "asked for '10' show '2'" in labels.pattern(drawn, TEXT)


def test_another_order():
    assert labels.pattern({0: 5, 1: 3, 2: 9, 3: 3}, WORDS).startswith("labels look mixed up: images asked for 'zero' show 'five'")


@pytest.mark.parametrize("wrong", range(11))
def test_half_of_them_is_where_it_begins(wrong):
    drawn = {k: k if k >= wrong else (k * 3 + 1) % 10 for k in range(10)}
    differ = sum(k != label for label, k in drawn.items())
    assert (labels.pattern(drawn, WORDS) is not None) == (differ >= 5)
