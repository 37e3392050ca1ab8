"""The answers of generated tasks, found again from nothing but the prompt's text."""

import json
import re
from collections import Counter
from statistics import median

import pytest

from pcbench.models.tokens import ByteTokenizer
from pcbench.tasks import example

TOKENIZER = ByteTokenizer()


def texts(task, index, tokens=6000):
    """(context, query, answers) of a prompt."""
    e = example(task, TOKENIZER, context_tokens=tokens, new_tokens=8, seed=3, index=index)
    return TOKENIZER.decode(e.context), TOKENIZER.decode(e.query), list(e.answers)


@pytest.mark.parametrize("index", range(5))
def test_pairs_hold_the_asked_key_once(index):
    context, query, answers = texts("kv_retrieval", index)
    pairs = json.loads(context.strip().replace(",\n}", "}"))
    asked = query.split('"')[1]
    assert [pairs[asked]] == answers
    assert len(pairs) == len(set(pairs.values())) == context.count(":")
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", k) for k in pairs)


@pytest.mark.parametrize("index", range(14))
def test_extremes_ask_for_different_numbers_in_order(index):
    context, query, answers = texts("math_find", index)
    numbers = [int(n) for n in re.findall(r"\d+", context)]
    places = {"third": 2, "second": 1}
    place = next((p for word, p in places.items() if word in query), 0)
    ranked = sorted(set(numbers), reverse="largest" in query)
    assert [float(a) for a in answers] == [median(numbers) if "median" in query else ranked[place]]
    assert 0 <= min(numbers) <= max(numbers) <= 99


def test_extremes_ask_seven_questions_in_turn():
    queries = [texts("math_find", index)[1] for index in range(8)]
    assert len(set(queries)) == 7
    assert queries[7] == queries[0]


@pytest.mark.parametrize("index", range(5))
def test_calculation_lists_every_running_value_within_0_and_99(index):
    context, _, answers = texts("math_calc", index)
    terms = re.findall(r"([+-]?) ?(\d+)", context)
    value, values = 0, []
    for sign, number in terms:
        value += -int(number) if sign == "-" else int(number)
        values.append(value)
    assert [str(v) for v in values[1:]] == answers
    assert 0 <= min(values) <= max(values) <= 99
    assert len(answers) > 500


@pytest.mark.parametrize("index", range(10))
def test_program_returns_what_python_returns(index):
    context, query, answers = texts("code_run", index)
    scope = {}
    exec(context, scope)
    call = re.search(r"func_\d+\(-?\d+\)", query).group()
    assert [str(eval(call, scope))] == answers
    levels = (2, 4, 6, 8, 10)[index % 5]
    functions, last = context.count("def "), context.count("return x")
    assert functions == levels * last


def test_program_draws_the_asked_number_from_the_range_of_all():
    programs = [texts("code_run", index) for index in range(40)]
    asked = [int(re.search(r"func_(\d+)", query)[1]) for _, query, _ in programs]
    others = [int(n) for context, _, _ in programs for n in re.findall(r"def func_(\d+)", context)]
    for numbers in (asked, others):
        quarters = Counter(n * 4 // 10_000 for n in numbers)
        assert sorted(quarters) == [0, 1, 2, 3]
        assert min(quarters.values()) > len(numbers) / 10


def test_program_has_numbers_for_more_functions_than_ten_thousand():
    context, _, _ = texts("code_run", 4, 600_000)
    defined = re.findall(r"def func_(\d+)", context)
    assert len(defined) == len(set(defined)) > 10_000


@pytest.mark.parametrize("index", range(5))
def test_variables_are_those_that_hold_the_value(index):
    context, query, answers = texts("ruler_vt", index)
    held = {re.search(r"\d+", query).group()}
    for name, source in re.findall(r"VAR (\w+) = (?:VAR )?(\w+)", context):
        assert source in held
        held.add(name)
    assert sorted(answers) == sorted(held)[1:]
    assert len(answers) == 5


def test_common_words_come_thirty_times_and_others_three():
    context, _, answers = texts("ruler_cwe", 0)
    times = Counter(re.findall(r"\d+\. (\w+)", context))
    assert sorted(answers) == sorted(w for w, n in times.items() if n == 30)
    assert Counter(times.values()) == {30: 10, 3: len(times) - 10}
    assert len(times) > 40


def test_frequent_words_have_a_clear_third():
    context, _, answers = texts("ruler_fwe", 0)
    (first, n), (second, _), (third, least), (_, next_) = Counter(context.split()).most_common(4)
    assert answers == [first, second, third]
    assert least > next_
    assert n // 9 == least
