"""Made-up records in the layout of the official files, for tests."""

import json

from pcbench.registry import task_tables

FILE_TASKS = {name: table for name, table in task_tables().items() if "files" in table}
CONTEXT = "".join(f"Line {i} says little about ünïcode.\n" for i in range(300))
OPTIONS = ["first.one", "second", "third", "fourth"]


def longbench_record(context=CONTEXT):
    return {
        "input": "Who asks?",
        "context": context,
        "answers": ["Paragraph 7", "段落7", "NUM:count"],
        "length": 5000,
        "dataset": "made",
        "language": "en",
        "all_classes": ["NUM:count", "ABBR:exp"],
        "_id": "0",
    }


def infinitebench_record(dataset, context=CONTEXT):
    inputs = {"code_run": "What is func_12(-3)?", "math_find": "The second largest number of the list is:"}
    answers = {"math_calc": [3, 4], "math_find": [7.5], "code_run": [-4], "longbook_choice_eng": ["third"]}
    answers |= {"code_debug": ["second"], "passkey": ["71432"], "number_string": ["7143271432"]}
    return {
        "id": 3,
        "input": inputs.get(dataset, "Which one?"),
        "context": context,
        "answer": answers.get(dataset, ["ANNA", "Ann"]),
        "options": OPTIONS,
    }


def ruler_record(tail_lines, context=CONTEXT):
    question = "\n".join([*["Answer it.", ""][: tail_lines - 1], "What is it? It is"])
    return {"index": 0, "input": f"Remember this.\n{context}\n{question}", "outputs": ["7", "8"], "length": 99}


def few_shot_record(name="0", output="A right answer.", context=CONTEXT):
    examples = {"query_examples": ["Who?"], "output_examples": ["Ann."]}
    return {"id": name, "pid": f"{name}_0", "input": context, "query": "Which one?", "output": output, **examples}


def record(name):
    """A record of a task with files."""
    table = FILE_TASKS[name]
    if table["generator"] == "ruler":
        return ruler_record(table.get("tail_lines", 1))
    if table["generator"] == "gsm8k":
        return {"question": "How many are 3 and 4?", "answer": "3 + 4 = 7\n#### 7"}
    if table["generator"] == "leval":
        gold = "True [fact: False]" if table["dataset"] == "sci_fi" else "C. third"
        return {
            "input": CONTEXT,
            "instructions": ["Which one?"],
            "outputs": [gold],
            "source": "made",
            "evaluation": "exam",
        }
    if table["generator"] == "scrolls":
        return few_shot_record()
    if table["generator"] == "longbench_v2":
        choices = {f"choice_{letter}": text for letter, text in zip("ABCD", OPTIONS, strict=True)}
        return {"_id": "0", "question": " Which? ", "context": f" {CONTEXT}", "answer": "C", **choices}
    return infinitebench_record(table["dataset"]) if table["generator"] == "infinitebench" else longbench_record()


def write(folder, name, records, length="4096"):
    """Puts records where the task looks for them; returns the file."""
    path = folder / FILE_TASKS[name]["files"][0].replace("*", length)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    path.write_text(f"[{','.join(lines.splitlines())}]" if path.suffix == ".json" else f"{lines}\n", encoding="utf-8")
    return path
