.PHONY: dev test check bench
VENV ?= .venv

dev: ## an environment to work in
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install -e '.[dev,monitor]'

test: ## the tests
	$(VENV)/bin/pytest

check: ## all that CI does, on a copy of the checkout
	.ci/run

bench: ## against peers, as ratios
	$(VENV)/bin/python benchmarks/small_files.py
	$(VENV)/bin/python benchmarks/enumerate.py
