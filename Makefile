.PHONY: dev test check bench
VENV ?= .venv

dev: ## an environment to work in
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install -e '.[dev,monitor]'

test: ## the tests
	$(VENV)/bin/pytest

check: ## all that CI does, on a copy of the checkout
	.ci/run

bench: ## against peers, as ratios; BENCH="small --rounds 1" for a part of it
	$(VENV)/bin/python benchmarks/bench.py $(BENCH)
