# Every target sets up .venv from requirements.lock by itself: git, make and Python 3.11 to 3.13 are all it needs.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Every test is in one layer. The fast layer is what pytest runs by itself (pyproject.toml).
SLOW := slow and not (fake_cuda or ray or machines or browser or gpu or network)
FAKE_CUDA := fake_cuda and not (ray or machines or browser or gpu or network)
RAY := ray and not (machines or browser or gpu or network)
MACHINES := (machines or browser) and not (gpu or network)
# Files of tests run side by side, with one thread each.
SPREAD := -n auto --dist loadfile
# Clusters mostly wait, so three run side by side; what fails there runs again with the machine to
# itself, since one may starve the other. A real failure fails twice.
BESIDE := -n 3 --dist loadfile
AGAIN := -n 0 --lf --lfnf=none
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q
export RAY_USAGE_STATS_ENABLED = 0
export MLFLOW_DISABLE_TELEMETRY = true

.PHONY: help install hooks quickstart test test-slow test-ray test-machines test-fake-cuda test-gpu test-all test-python fuzz check format coverage architecture docs bench bench-train bench-gpu bench-encoders bench-overhead bench-scale bench-search lock release clean parity-table
.DEFAULT_GOAL := help

help: ## Show what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit(f"cryo_hpo needs Python 3.11 to 3.13, this is {v[0]}.{v[1]}: run make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $(READY)

install: $(READY) ## Set up .venv from the lock

hooks: $(READY) ## Let git run the quick checks before every commit
	$(BIN)/pre-commit install

quickstart: $(READY) ## Generate scenes, run a learning-rate study, print the verdict
	$(BIN)/cryo-hpo data generate lakes-demo
	$(BIN)/cryo-hpo run search_spaces/studies/quickstart.yaml

test: $(READY) ## Run the fast tests
	$(PYTEST) $(SPREAD)

test-slow: $(READY) ## Run the tests of more than five seconds, whole studies in one process among them
	$(PYTEST) $(SPREAD) -m "$(SLOW)"

test-ray: $(READY) ## Run what Ray must do: killed drivers and workers, submitted jobs, shared clusters
	$(PYTEST) $(BESIDE) -m "$(RAY)" || $(PYTEST) $(AGAIN) -m "$(RAY)"

test-machines: $(READY) ## Run hosts, Slurm, servers, the browser and the benchmarks
	$(PYTEST) $(BESIDE) -m "$(MACHINES)" || $(PYTEST) $(AGAIN) -m "$(MACHINES)"

test-fake-cuda: $(READY) ## Run the CUDA path on fake tensors, without a card, in one process
	$(PYTEST) -m "$(FAKE_CUDA)" tests/fake_cuda

fuzz: $(READY) ## Feed random and damaged files to every reader and command, a minute each (CRYO_FUZZ_S=20: 20 s each; ONLY=raster: that one)
	rm -f .fuzz.txt
	CRYO_FUZZ_S=$(or $(CRYO_FUZZ_S),60) CRYO_FUZZ_COUNTS=$(CURDIR)/.fuzz.txt $(PYTEST) -n auto -p no:cacheprovider $(if $(ONLY),-k "$(ONLY)") tests/test_fuzz.py tests/test_fuzz_commands.py
	cat .fuzz.txt && rm .fuzz.txt

test-gpu: $(READY) ## Run the tests that need a CUDA card, and write gpu-report.md; ON=cpu rehearses without one
	@if [ "$(ON)" = cpu ] || $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; \
	  then GPU_REPORT=gpu-report.md CRYO_GPU_TESTS_ON=$(or $(ON),cuda) $(PYTEST) -n 0 -m gpu -p tests.support.gpu_report $(if $(ON),tests/gpu); \
	  rc=$$?; echo "The report is gpu-report.md."; exit $$rc; \
	  else echo "No CUDA card is visible to torch here: no gpu test was run. \`make test-fake-cuda\` runs without one."; fi

test-all: ## Run every test that can run on this machine, each once
	$(MAKE) test
	$(MAKE) test-slow
	$(MAKE) test-fake-cuda
	$(MAKE) test-ray
	$(MAKE) test-machines

test-python: ## Run the fast tests on another interpreter: make test-python PYTHON=python3.13
	$(PYTHON) -m venv .venv-other
	.venv-other/bin/python -m pip install --quiet --no-deps -r requirements.lock
	.venv-other/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
	OMP_NUM_THREADS=1 .venv-other/bin/python -m pytest -q $(SPREAD)

coverage: $(READY) ## Run the fast tests and show which lines and branches they reach
	$(BIN)/coverage erase
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest -q $(SPREAD)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

check: $(READY) ## Lint, format, types, spelling, and the dependencies of every installed package
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/python -m pip check

format: $(READY) ## Put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## Measure the data path, as ratios in one run
	$(BIN)/python benchmarks/data_path.py

bench-train: $(READY) ## Compare training steps with plain eager fp32 on this CPU, minutes
	$(BIN)/python -m benchmarks.train_step

bench-gpu: $(READY) ## Measure training steps, every encoder and whole epochs on a CUDA card (PARTS=launches: five minutes, CUDA graphs among them)
	$(BIN)/python -m benchmarks.card $(PARTS)

bench-encoders: $(READY) ## Measure arithmetic, CPU time and memory of every encoder
	$(BIN)/python benchmarks/encoder_cost.py

bench-overhead: $(READY) ## Measure what a pause, a resume and a new trial cost
	$(BIN)/python benchmarks/trial_overhead.py

bench-scale: $(READY) ## Run many trials on three Ray nodes: throughput, the driver's time and memory
	$(BIN)/python -m benchmarks.scale

bench-search: $(READY) ## Compare ways of searching on recorded trainings, minutes
	$(BIN)/python -m benchmarks.search --write

parity-table: $(READY) ## Hold the encoders to upstream's features, and write what was found to the docs
	rm -f .parity.jsonl
	PARITY_TABLE=$(CURDIR)/.parity.jsonl $(BIN)/python -m pytest -q -m slow tests/models/test_parity.py
	$(BIN)/python benchmarks/parity_table.py .parity.jsonl && rm .parity.jsonl

architecture: $(READY) ## Draw docs/architecture.png from the imports
	$(BIN)/python -m benchmarks.architecture

docs: architecture ## Draw the pictures of the docs, check commands and links, build the site into build/site
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/test_readme.py tests/test_docs.py
	test -x .venv-docs/bin/mkdocs || ($(PYTHON) -m venv .venv-docs && .venv-docs/bin/python -m pip install --quiet --no-deps -r docs/site/requirements.txt)
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict

release: $(READY) ## Build, install the wheel alone, run a study from it; TAG=1 tags the commit
	BIN=$(CURDIR)/$(BIN) TAG=$(TAG) .ci/release

lock: ## Resolve requirements.lock again
	$(PYTHON) -m venv .venv-lock && .venv-lock/bin/python -m pip install --quiet uv
	.venv-lock/bin/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --no-header --no-annotate -o requirements.lock
	sed -i '1i # The exact versions that `make` installs, on Python 3.11 to 3.13. Regenerate with `make lock`.' requirements.lock
	rm -rf .venv-lock

clean: ## Remove what was generated (keeps runs/ and data/)
	rm -rf .venv .venv-other .venv-docs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
