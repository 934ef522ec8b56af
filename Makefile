# One command each. All of them first see to .venv (bootstrap.sh), so a fresh clone needs nothing installed by hand;
# where there is no Python 3.11 to 3.14, uv downloads one. Make itself answers 0 or 2; the finer exit codes are those of
# `.venv/bin/ndrepro`.

.DEFAULT_GOAL := help
.PHONY: help env run verify test test-all test-isa canonical test-engines mutants fuzz image image-test sif sbom lint docs bench lock lock-check clean
python := .venv/bin/python

# Where this is set every process compiles all of torch's Python anew, two seconds each; .venv may hold the result.
unexport PYTHONDONTWRITEBYTECODE

# Values reach the recipes through the shell's variables, where quoting keeps spaces and other letters whole.
export EXP DATA SET RUN ENGINE IMAGE EXAMPLES
# Only the set-up reads PYTHON: a recorded run has the variables of PYTHON* in its manifest.
unexport PYTHON
env: export PYTHON := $(PYTHON)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s", $$1; column = 19; \
	count = split($$2, words, " "); for (at = 1; at <= count; at++) { \
	if (column + length(words[at]) + 1 > 80) { printf "\n%19s", ""; column = 19 } \
	printf " %s", words[at]; column += length(words[at]) + 1 } print "" }' Makefile

env: ## make or update .venv from requirements.lock, hashes checked (PYTHON=… names the interpreter of a new one)
	@sh bootstrap.sh

run: env ## train, record, sign: EXP=name DATA=folder SET="key=value …" ARGS="more options"; alone: a small experiment
	@set -f --; for pair in $$SET; do set -- "$$@" --set "$$pair"; done; \
	exec $(python) -m ndrepro run $${EXP:+"$$EXP"} $${DATA:+--data "$$DATA"} "$$@" $(ARGS)

verify: env ## check the latest completed run of any kind, recordings included, or RUN=name: manifest, files, ledger
	@exec $(python) -m ndrepro verify $${RUN:+"$$RUN"} $(ARGS)

test: env ## the test suite but for the slowest tests: ARGS="pytest options"
	@exec $(python) -m pytest $(ARGS)

test-all: env ## the whole test suite, the slowest tests included
	@exec $(python) -m pytest -m "not engines" $(ARGS)

numerics := tests/training tests/execution/runs tests/cli/commands tests/analysis/statistics
# the best of the processor is what `make test-all` runs with, the slowest tests too; folders without kernels are left out
test-isa: env ## the tests that depend on kernels, once for each of several limited instruction sets
	@for limits in "ONEDNN_MAX_CPU_ISA=AVX2" "ONEDNN_MAX_CPU_ISA=SSE41 ATEN_CPU_CAPABILITY=default OPENBLAS_CORETYPE=Nehalem" \
	    "MKL_ENABLE_INSTRUCTIONS=AVX2 ATEN_CPU_CAPABILITY=avx2"; do \
	    echo "instruction sets: $$limits"; \
	    env $$limits $(python) -m pytest -q -m "numerics and not slow" $(numerics) $(ARGS) || exit; \
	done

canonical: env ## every training whose digests docs/explanation/determinism.md has, whole: minutes
	@exec $(python) -m pytest -q -n0 -m slow tests/execution/runs/test_golden_digests.py -k page $(ARGS)

test-engines: env ## the tests with real podman, Docker, Apptainer and Slurm, where they are installed (.ci/engines does)
	@exec $(python) -m pytest -m engines --no-loadscope-reorder tests/engines $(ARGS)

mutants: env ## mutation tests of verification and statistics, hours: ARGS="dsse trust" names modules; not part of CI
	@exec $(python) tools/mutants.py $(ARGS)

fuzz: env ## longer fuzzing of every parser than `make test` has: EXAMPLES=20000 for each, ARGS="pytest options"
	@FUZZ_EXAMPLES=$${EXAMPLES:-20000} exec $(python) -m pytest -n0 tests/attacks/files/test_hostile_*.py tests/attacks/files/test_fuzzed_parsers.py $(ARGS)

image: env ## build the image from the commit checked out, with podman or docker: ARGS="--engine podman --base IMAGE …"
	@exec $(python) tools/image.py build $(ARGS)

image-test: env ## try the image that was built: enclosed, trains, and what it did verifies outside: ENGINE=podman IMAGE=name
	@exec $(python) tools/image_test.py --engine $${ENGINE:-podman} $${IMAGE:+--image "$$IMAGE"}

sif: env ## the image as a file for Apptainer: dist/ndrepro.sif
	@exec $(python) tools/image.py sif $(ARGS)

sbom: env ## the bill of materials of the image, CycloneDX: ARGS="--out FILE"
	@exec $(python) tools/image.py sbom $(ARGS)

lint: env ## ruff (rules, format) and mypy (strict where data crosses a wall)
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy --strict provenance ndrepro/protocol
	$(python) -m mypy
	.venv/bin/hadolint Dockerfile

docs: env ## the documentation as a site, from disk: build/docs/index.html; warnings are errors
	@$(python) -m sphinx -q -W --keep-going -d build/doctrees docs build/docs && echo "open $(CURDIR)/build/docs/index.html"

bench: env ## the speeds that the README claims, as ratios within one run
	@exec $(python) -m benchmarks $(ARGS)

lock: env ## write requirements.lock, runtime.lock and environments/*.lock from what is asked for (ARGS=--upgrade for newer releases)
	@exec $(python) tools/locks.py write $(ARGS)

lock-check: env ## have pip-tools resolve requirements.in too, and say which pins differ (about a minute)
	@exec $(python) tools/locks.py check

clean: ## remove .venv and what tools cached; runs, ledger and data stay
	@rm -rf .venv dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
