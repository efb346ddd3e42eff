# Every target sets itself up: all it needs is Python 3.11 or newer, and make.
PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3 python; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin

# Tests with real endpoints wait for one another some of the time. (Looked up where it is used: not everything tests.)
PROCESSES = $(shell $(BIN)/python -c 'import os; print((os.cpu_count() or 1) * 3 // 2)')

# Runs tests. They are of real networks and processes, on what may be a busy machine: those that fail are run once
# more, alone, and only then it is a failure. What was run twice is said.
define run
$(BIN)/python -m pytest $(1) || { [ $$? = 1 ] && printf '\nOnce more, alone, what has failed:\n' && \
$(BIN)/python -m pytest -n 0 --last-failed --last-failed-no-failures none $(2); }
endef

.PHONY: demo test style types tests tests-without-driver bench faults interop interop-short audit clean

demo: $(VENV)/.installed
	@$(BIN)/python examples/demo.py

test: style types tests tests-without-driver
	@$(MAKE) --no-print-directory faults ARGS=

style: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

# What is measured how much of it the tests cover is tested by itself, as measuring takes as long again.
MEASURED := tests/model tests/lite

tests: $(VENV)/.dev
ifdef ARGS
	@$(call run,-n $(PROCESSES) $(ARGS))
else
	@$(call run,-n auto --cov --cov-report= $(MEASURED),--cov --cov-append --cov-report=)
	$(BIN)/coverage report --include='*/iroh_moq/lite/*,*/iroh_moq/model/*' --fail-under=95
	@$(call run,-n $(PROCESSES) $(MEASURED:%=--ignore=%))
endif

# Once more without the native driver, what depends on it.
tests-without-driver: $(VENV)/.dev
	@export IROH_MOQ_NO_EXTENSION=1; $(call run,-n $(PROCESSES) -m "not driver" tests/test_*.py tests/transport tests/cli tests/examples $(ARGS))

# With the Rust implementation among the rivals where there is cargo to build it.
bench: $(VENV)/.bench
	@if command -v cargo >/dev/null 2>&1; then $(BIN)/python -m interop.build; fi
	@$(BIN)/python -m benchmarks $(ARGS)

# In its short form; ARGS=--long is the other one.
faults: $(VENV)/.dev
	@$(BIN)/python -m faults $(ARGS)

# Against the Rust implementation, which is built first, outside of this folder; ARGS="--versions moq-lite-03 -k hostile" shortens.
INTEROP := interop/cases interop/network
MATRIX := --matrix interop/results

interop: $(VENV)/.dev
	@$(BIN)/python -m interop.build
	@$(call run,-q $(MATRIX) $(INTEROP) $(ARGS),-q $(MATRIX) $(INTEROP) $(ARGS))
	@cat interop/results/matrix.md

# A few cases of each sort.
interop-short: $(VENV)/.dev
	@$(BIN)/python -m interop.build
	@$(call run,-q --short $(INTEROP) $(ARGS),-q --short $(INTEROP) $(ARGS))

# Whether a known vulnerability is in what constraints.txt names. Asks the package index.
audit: $(VENV)/.audit
	@$(VENV)/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --progress-spinner off

$(VENV)/.audit: $(VENV)/.python
	$(PYTHON) -m venv --clear $(VENV)/audit
	@$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	@touch $@

$(VENV)/.python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or run make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.python pyproject.toml setup.py $(wildcard src/iroh_moq/*/_*.*[xh])
	@echo "Setting up (once): installing iroh-moq into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.installed requirements-dev.txt constraints.txt
	@echo "Setting up (once): installing the tools of the tests into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	@touch $@

$(VENV)/.bench: $(VENV)/.installed requirements-bench.txt constraints.txt
	@echo "Setting up (once): installing the benchmarks' rivals and plots into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-bench.txt
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis
