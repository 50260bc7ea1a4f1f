.PHONY: dev test check bench load card chaos hydrophone-day sftp
VENV ?= .venv
DURATION_S ?= 3600
SEED ?= 1
FILES ?= 5000

dev: ## an environment to work in
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install -e '.[dev,monitor]'

test: ## the tests
	$(VENV)/bin/pytest

check: ## all that CI does, on a copy of the checkout
	.ci/run

bench: ## against peers, as ratios; BENCH="small --rounds 1" for a part of it
	$(VENV)/bin/python benchmarks/bench.py $(BENCH)

load: ## the engine at its limits, half an hour; each part runs by itself too
	$(VENV)/bin/python benchmarks/load/tiles.py
	$(VENV)/bin/python benchmarks/load/files.py
	$(VENV)/bin/python benchmarks/load/large_file.py
	$(VENV)/bin/python benchmarks/load/commits.py
	$(VENV)/bin/python benchmarks/load/item_cost.py

card: ## a card of FILES mixed files, offloaded twice
	PYTHONPATH=. $(VENV)/bin/python -P -m tests.card_trial --files $(FILES)

chaos: ## trials of faults for DURATION_S seconds, drawn by SEED; reports in chaos.jsonl
	PYTHONPATH=. $(VENV)/bin/python -P -m tests.chaos run --duration-s $(DURATION_S) --seed $(SEED)

hydrophone-day: ## a synthetic day of a hydrophone through the example job; needs nginx, chromium and 30 GB below TMPDIR
	PYTHONPATH="$(CURDIR)" PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/python benchmarks/hydrophone_day.py

sftp: ## a large file over SFTP beside scp; needs OpenSSH's sshd and 4 GB below TMPDIR
	PYTHONPATH="$(CURDIR)" $(VENV)/bin/python benchmarks/sftp.py
