# `make help` says what there is. Set-up happens once, and again when pyproject.toml or constraints.txt change.

# A Python, 3.11 or newer.
PYTHON ?= python3
# Where torch comes from. Empty: pip's own settings decide; on Linux that is PyPI's build for NVIDIA cards, several GB.
# A machine without such a card: make TORCH_INDEX=https://download.pytorch.org/whl/cpu run
TORCH_INDEX ?=

BIN := .venv/bin
READY := .venv/.ready
PEER := .venv-peer/bin
PEER_READY := .venv-peer/.ready

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test check bench clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

run: $(READY)  ## fetch the model and the example rows, tune, judge, report (fails unless proven better)
	$(BIN)/tunewright fetch smollm2
	$(BIN)/tunewright fetch icd10
	$(BIN)/tunewright tune --plan examples/medical.yaml

test: $(READY)  ## every test, those with the fetched model and rows too
	$(BIN)/tunewright fetch smollm2
	$(BIN)/tunewright fetch icd10
	$(BIN)/tunewright fetch licences
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: $(READY)  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY) $(PEER_READY)  ## every benchmark against the peers, hours; one: make bench ROW=lora_sft
	$(BIN)/tunewright fetch smollm2
	$(BIN)/tunewright fetch licences
	$(BIN)/python -m benchmarks.table $(ROW)

clean:  ## removes the environments and what tools left; runs, measurements and the cache of models stay
	rm -rf .venv .venv-peer .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build dist
	find src tests benchmarks -type d -name __pycache__ -prune -exec rm -rf {} +

# torch first and alone, so that its index serves nothing else. The stamp comes last: a set-up that broke off is repeated.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; found $$($(PYTHON) --version). Run: make PYTHON=python3.11 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

# The peers of the benchmarks, apart from ours, with the same torch.
$(PEER_READY): benchmarks/peers/requirements.txt constraints.txt
	test -x $(PEER)/python || $(PYTHON) -m venv .venv-peer
	$(PEER)/python -m pip install --quiet -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(PEER)/python -m pip install --quiet -c constraints.txt -r benchmarks/peers/requirements.txt
	@touch $@
