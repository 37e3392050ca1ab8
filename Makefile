# make bench: a report from a fresh clone.  make test: everything CI checks.  make help lists the rest.
PYTHON ?= python3
VENV ?= $(or $(VIRTUAL_ENV),.venv)
BIN := $(VENV)/bin
SOURCES := pyproject.toml CMakeLists.txt $(shell find ext build_backend -type f 2>/dev/null) $(shell find pcbench -name __init__.py)
# a process for each core, of one thread each
PARALLEL ?= -n logical --maxprocesses 8 --dist worksteal
export PCBENCH_GOLDEN ?= $(realpath ../shared/golden)
export PCBENCH_DATA ?= $(realpath ../shared/data)

.PHONY: bench test test-slow test-sanitized check-style benchmark benchmark-compare format docs clean help

bench: $(VENV)/.pcbench           ## measure the prefill suite; the last line is the path of report.html
	@$(BIN)/pcbench run --suite prefill --preset bench --device auto

test: $(VENV)/.pcbench-test check-style  ## format, lint, types, imports, gates, the whole test suite
	$(BIN)/python -m pytest -q -m "not slow" $(PARALLEL)

test-slow: $(VENV)/.pcbench-test test-sanitized  ## the tests marked slow, and the op tests under sanitizers
	$(BIN)/python -m pytest -q -m slow $(PARALLEL)

test-sanitized: $(VENV)/.pcbench-test  ## the op tests on CPU kernels built with AddressSanitizer and UBSan
	$(BIN)/python tests/sanitized.py $(PARALLEL)

check-style: $(VENV)/.pcbench-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/clang-format --dry-run -Werror $$(git ls-files '*.cpp' '*.h' '*.inc' '*.cu' '*.cuh' '*.hip')
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

benchmark: $(VENV)/.pcbench-test  ## kernels against their baselines, as interleaved ratios
	$(BIN)/python -m pytest tests/benchmarks -q

benchmark-compare: $(VENV)/.pcbench-test  ## the same, held against tests/benchmarks/baseline.json; BASELINE=, MARKDOWN=
	$(BIN)/python -m pytest tests/benchmarks -q --compare-baseline \
		$(if $(BASELINE),--baseline $(BASELINE)) $(if $(MARKDOWN),--markdown $(MARKDOWN))

format: $(VENV)/.pcbench-test     ## rewrite files in the project's format
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(git ls-files '*.cpp' '*.h' '*.inc' '*.cu' '*.cuh' '*.hip')

docs: $(VENV)/.pcbench-test       ## the documentation as a site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q

clean:                            ## remove what make made
	rm -rf .venv build

help:                             ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/'

$(VENV)/.pcbench: $(SOURCES)
	PYTHON=$(PYTHON) tools/make_env.sh $(VENV)
	@touch $@

$(VENV)/.pcbench-test: $(SOURCES)
	PYTHON=$(PYTHON) tools/make_env.sh $(VENV) test,gates,docs,kvpress
	@touch $(VENV)/.pcbench $@
