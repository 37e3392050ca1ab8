"""Lists the paragraphs that the documentation of all given Pythons shares, as haystack and perplexity text.

`tools/prose.py python3.10 python3.11 …` rewrites pcbench/tasks/data/prose.txt in the order of the first one's topics.
"""

import json
import subprocess
import sys
from pathlib import Path

from pcbench.tasks.synthetic.documentation import paragraphs

LIST = Path(__file__).resolve().parents[1] / "pcbench/tasks/data/prose.txt"
SHORTEST = 120  # characters; most shorter ones are headings or code
READ = "import json, pydoc_data.topics; print(json.dumps(pydoc_data.topics.topics))"


def main(pythons: list[str]) -> None:
    if not pythons:
        raise SystemExit("tools/prose.py: needs the Pythons to read, got none; give their paths")
    ran = [subprocess.run([python, "-c", READ], capture_output=True, text=True, check=True) for python in pythons]
    first, *others = [paragraphs(json.loads(done.stdout)) for done in ran]
    shared = [name for name, text in first.items() if len(text) >= SHORTEST and all(name in other for other in others)]
    LIST.write_text("".join(" ".join(shared[i : i + 13]) + "\n" for i in range(0, len(shared), 13)))


if __name__ == "__main__":
    main(sys.argv[1:])
