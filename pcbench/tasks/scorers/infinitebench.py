"""InfiniteBench by its scorer of June 2024, which the published table rests on, and by that of August 2024."""

from pcbench.tasks.scorers import Metric, Scorer, best
from pcbench.tasks.scorers.metrics.choice import (
    debug_choice,
    debug_choice_last_letter,
    option_choice,
    option_choice_last_letter,
)
from pcbench.tasks.scorers.metrics.found import (
    any_name_found,
    first_digits_equal,
    first_integer,
    first_name_among_words,
    first_number,
    first_number_equals,
    last_word_equals,
    right_start,
    right_start_but_first,
    word_found,
)
from pcbench.tasks.scorers.metrics.overlap import character_f1, word_f1
from pcbench.tasks.scorers.metrics.rouge import rouge_lsum

__all__ = ["AUGUST", "august", "june", "june_gpt4"]

SOURCE = "InfiniteBench, arXiv:2402.13718; rules of github.com/OpenBMB/InfiniteBench (MIT), src/compute_scores.py"

JUNE = {
    "passkey": Metric(name="accuracy", function=first_digits_equal),
    "number_string": Metric(name="accuracy", function=first_digits_equal),
    "kv_retrieval": Metric(name="accuracy", function=word_found),
    "longbook_sum_eng": Metric(name="ROUGE-Lsum", function=rouge_lsum),
    "longbook_qa_eng": Metric(name="word F1", function=best(word_f1)),
    "longbook_choice_eng": Metric(name="accuracy", function=option_choice),
    "longdialogue_qa_eng": Metric(name="accuracy", function=first_name_among_words),
    "longbook_qa_chn": Metric(name="character F1", function=best(character_f1)),
    "code_debug": Metric(name="accuracy", function=debug_choice, least_answers=2),
    "code_run": Metric(name="accuracy", function=last_word_equals, reads=first_integer),
    "math_calc": Metric(name="share before the first error", function=right_start),
    "math_find": Metric(name="accuracy", function=first_number_equals, reads=first_number),
}
# what the change of August replaced
AUGUST = {
    "code_debug": Metric(name="accuracy", function=debug_choice_last_letter, least_answers=2),
    "longbook_choice_eng": Metric(name="accuracy", function=option_choice_last_letter),
    "longdialogue_qa_eng": Metric(name="accuracy", function=any_name_found),
}

june = Scorer(
    id="infinitebench-2024-06",
    version=1,
    summary="InfiniteBench as published",
    source=SOURCE + " of 2024-06-13",
    metrics=JUNE,
)
june_gpt4 = Scorer(
    id="infinitebench-2024-06+gpt4",
    version=1,
    summary="the same with the first number of Math.Calc dropped, as for answers to the GPT-4 prompt",
    source=june.source,
    metrics=JUNE | {"math_calc": Metric(name="share before the first error", function=right_start_but_first)},
)
august = Scorer(
    id="infinitebench-2024-08",
    version=1,
    summary="InfiniteBench after its change of August: last lone letter, any name of a speaker",
    source=SOURCE + " since 2024-08-22",
    metrics=JUNE | AUGUST,
)
