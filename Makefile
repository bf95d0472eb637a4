# `make demo` and `make test` are all a newcomer needs; each target sets up .venv by itself.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BENCH_INSTALLED := $(VENV)/.bench-installed
ROBOT := $(VENV)/.robot

.PHONY: help demo test test-slow check bench fuzz chaos blender clean

help:
	@echo "make demo       segment a real video and write overlay and masks to demo_out/"
	@echo "make test       run the tests"
	@echo "make test-slow  run the tests that take minutes, too"
	@echo "make check      lint, formatting and types"
	@echo "make bench      score the dev split under DATA=path/to/data, measure speed"
	@echo "make fuzz       throw CASES=10000 damaged and hostile files at every reader"
	@echo "make chaos      kill every command RUNS=200 times, pull plugs, fill disks, damage files (SEED=0)"
	@echo "make blender    install the renderer of synthetic videos in .venv-blender"
	@echo "make clean      remove everything that was built or written here, .venv excepted"

# A changed pyproject.toml makes the stamp old, so the next target installs what was added.
$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[test,train]"
	touch $@

# davisinteractive pins a scikit-learn that no longer exists, and its build imports numpy and Cython.
$(BENCH_INSTALLED): $(INSTALLED)
	$(BIN)/python -m pip install --quiet -e ".[bench]"
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation davisinteractive==1.0.4
	touch $@

# The tests of the robot are skipped where it cannot be built (it needs a C compiler).
$(ROBOT): $(INSTALLED)
	-$(MAKE) $(BENCH_INSTALLED)
	touch $@

demo: $(INSTALLED)
	$(BIN)/python -m mivos_cli.demo.cut_clip demo_out/cyclist.mp4
	$(BIN)/mivos segment demo_out/cyclist.mp4 --scribbles mivos_cli/demo/cyclist.json -o demo_out --force

test: $(ROBOT)
	$(BIN)/python -m pytest

test-slow: $(BENCH_INSTALLED)
	$(BIN)/python -m pytest -m "slow or not slow"

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(BENCH_INSTALLED)
ifdef DATA
	$(BIN)/mivos bench dev --data $(DATA) -o bench_out/dev
	$(BIN)/mivos eval davis17 --root $(DATA) -o bench_out/davis17
	$(BIN)/mivos bench davis --davis $(DATA) -o bench_out/davis
else
	@echo "no DATA=path/to/data given: measuring speed only"
endif
	$(BIN)/mivos bench speed

# Thousands of damaged and hostile files through every reader; atheris has no wheels for some platforms.
CASES ?= 10000
fuzz: $(INSTALLED)
	-$(BIN)/python -m pip install --quiet atheris
	CASES=$(CASES) $(BIN)/python -m pytest -m slow tests/fuzz

# An hour on two cores. Disks that fill up need root, wrong clocks a C compiler; those tests are skipped without.
RUNS ?= 200
SEED ?= 0
chaos: $(INSTALLED)
	CHAOS_SEED=$(SEED) CHAOS_ROUNDS=1 $(BIN)/python -m pytest -s -m slow tests/chaos
	$(BIN)/python -m tests.chaos.campaign --runs $(RUNS) --seed $(SEED)

blender: $(INSTALLED)
	$(BIN)/mivos render-bl30k --setup

clean:
	rm -rf demo_out bench_out build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path "./$(VENV)*/*" -prune -exec rm -rf {} +
