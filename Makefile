# `make demo` and `make test` need Python 3.11 or later, make and git; everything else they install into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test suite test-slow soak docs lint bench clean

demo: .venv/ready
	$(BIN)/python experiments/demo.py

test: .venv/ready lint docs suite

suite: .venv/ready
	$(BIN)/python -m pytest -n 3 --dist worksteal  # of two cores: each process waits now and then

test-slow: .venv/ready
	XLA_FLAGS= $(BIN)/python -m pytest -m slow -n 2  # optimised, unlike `test`: here running takes longer than compiling

soak: .venv/ready
	$(BIN)/python -m pytest -m soak

docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/ready  # learning.py --run measures the returns too, in many hours
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/ppo.py
	$(BIN)/python benchmarks/actor_critic.py
	$(BIN)/python benchmarks/sac.py
	$(BIN)/python benchmarks/offline.py
	$(BIN)/python benchmarks/cdsa.py
	$(BIN)/python benchmarks/cpl.py
	$(BIN)/python benchmarks/qarl.py
	$(BIN)/python benchmarks/checkpoints.py
	$(BIN)/python benchmarks/learning.py

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "rlzoo needs Python 3.11 or later, and $(PYTHON) is older; try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	touch .venv/ready

clean:
	rm -rf .venv .cache runs
