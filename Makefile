# `make help` says what there is. Set-up happens once, and again when pyproject.toml or constraints.txt change.

# A Python, 3.11 or newer.
PYTHON ?= python3
# Where torch comes from: on Linux the builds without CUDA, which are several GB smaller. Empty: pip's own settings decide,
# as for a machine with an NVIDIA card: make TORCH_INDEX= run
TORCH_INDEX ?= $(if $(filter Linux,$(shell uname -s)),https://download.pytorch.org/whl/cpu)

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
	$(BIN)/tunewright fetch icd10
	$(BIN)/python -m benchmarks.table $(ROW)

clean:  ## removes the environments and what tools left; runs, measurements and the cache of models stay
	rm -rf .venv .venv-peer .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build dist
	find src tests benchmarks -type d -name __pycache__ -prune -exec rm -rf {} +

# Without its dependencies, which that index has in few versions; they come from pip's own. An index that cannot be reached
# must not stop a set-up: then torch is what pip finds.
install_torch = $(if $(TORCH_INDEX),$(1) -m pip install --quiet --no-deps -c constraints.txt --retries 1 --timeout 30 \
	  --index-url $(TORCH_INDEX) torch || echo "No torch from $(TORCH_INDEX); taking pip's own." >&2 && )\
	$(1) -m pip install --quiet -c constraints.txt torch

# torch first and alone, so that its index serves nothing else. The stamp comes last: a set-up that broke off is repeated.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; found $$($(PYTHON) --version). Run: make PYTHON=python3.11 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(call install_torch,$(BIN)/python)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

# The peers of the benchmarks, apart from ours, with the same torch.
$(PEER_READY): benchmarks/peers/requirements.txt constraints.txt
	test -x $(PEER)/python || $(PYTHON) -m venv .venv-peer
	$(call install_torch,$(PEER)/python)
	$(PEER)/python -m pip install --quiet -c constraints.txt -r benchmarks/peers/requirements.txt
	@touch $@
