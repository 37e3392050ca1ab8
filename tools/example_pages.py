"""The pages of the example runs, built from their records.

python tools/example_pages.py    builds them anew
"""

from pathlib import Path

from pcbench.report import build

__all__ = ["PAGES"]

ROOT = Path(__file__).resolve().parent.parent
PAGES = [path.with_name("report.html") for path in sorted((ROOT / "reports/examples").glob("*/manifest.json"))]


def main() -> None:
    for page in PAGES:
        print(build([page.parent]).relative_to(ROOT))


if __name__ == "__main__":
    main()
