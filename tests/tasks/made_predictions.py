"""Predictions in the layouts of other projects and of our own runs, made for tests."""

import json
import shutil
from pathlib import Path

RUN = Path(__file__).parents[2] / "reports/examples/accuracy_methods_epyc2c_202611"


def write(path, lines):
    """Lines of JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def v2(key, response, answer, difficulty, length, **more):
    """A line of LongBench v2's pred.py."""
    letter = response[-2:-1] if response else None
    fields = {"_id": key, "difficulty": difficulty, "length": length, "answer": answer, "response": response}
    return {**fields, "pred": letter, "judge": letter == answer, **more}


def factory(folder, dataset, method, preds):
    """A file of KVCache-Factory, from id → prediction."""
    lines = [
        {
            "prompt": "…",
            "answers": ["x"],
            "pred": pred,
            "length": 5,
            "dataset": dataset,
            "all_classes": None,
            "_id": key,
        }
        for key, pred in preds.items()
    ]
    return write(folder / dataset / f"{method}.json", lines)


def own_run(folder, task):
    """A committed run whose pass keys stand as answers to `task`, of 5000 words each."""
    shutil.copytree(RUN, folder)
    for name in ("records.jsonl", "samples.jsonl"):
        lines = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        words = {"words": 5000} if name == "samples.jsonl" else {}
        write(folder / name, [{**line, "task": f"{task}@1", **words} for line in lines])
    return folder
