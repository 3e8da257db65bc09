# Two commands matter: `make demo` and `make test`. Each sets up what it needs, once, in .venv.
#
#   PYTHON  a Python >= 3.10 to build .venv from (found by itself if not given)
#   TORCH   what to install where .venv has no torch yet

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?=
TORCH ?= torch==2.13.0
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
INSTALLED := $(VENV)/.ctenhance
INSTALLED_TEST := $(VENV)/.ctenhance-test
INSTALLED_VIEW := $(VENV)/.ctenhance-view
INSTALLED_TRAIN := $(VENV)/.ctenhance-train
INSTALLED_BENCHMARK := $(VENV)/.ctenhance-benchmark

# make demo CT=my_chest.nii.gz OUT=results
CT ?=
OUT ?= demo
# make demo ends in the page that shows the pair, at a terminal; VIEW=0 never, VIEW=1 always
VIEW ?= $(shell [ -t 0 ] && [ -t 2 ] && echo 1 || echo 0)
# make train-twin DATA=folder_of_cts RUN=runs/twin MINUTES=60
DATA ?=
MINUTES ?= 60
ARGS ?=

.PHONY: help
help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: venv
venv: $(INSTALLED) ## set up .venv (demo and test do it by themselves)

$(INSTALLED): pyproject.toml
	@if [ ! -x $(PY) ]; then \
	  found=; \
	  for python in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.10 python; do \
	    if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then \
	      found="$$python"; break; \
	    fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "CTEnhance needs Python 3.10 or newer with its venv module: install it (Debian: python3-venv)" \
	      "or name one with PYTHON=/path/to/python3." >&2; \
	    exit 1; \
	  fi; \
	  echo "Setting up $(VENV) with $$found; this happens once and downloads torch and its like."; \
	  "$$found" -m venv $(VENV); \
	fi
	@$(PY) -c 'import torch' 2>/dev/null || $(PIP) '$(TORCH)' \
	  || { echo "No $(TORCH) for this machine; taking a recent one."; $(PIP) 'torch>=2.4.1'; }
	@$(PIP) --editable .
	@touch $@

# The panels' tests need slicer-core, which has wheels for some Pythons and systems only; elsewhere they skip.
$(INSTALLED_TEST): $(INSTALLED)
	@$(PIP) --editable '.[test,panel,view]' || { echo "The tests of the panels and of the page will skip: their \
	packages could not be installed (slicer-core, PySide6, trame-slicer; see pyproject.toml)."; \
	$(PIP) --editable '.[test]'; }
	@touch $@

# slicer-core has wheels for some Pythons and systems only; without it the demo ends in its self-contained page.
$(INSTALLED_VIEW): $(INSTALLED)
	@$(PIP) --editable '.[view]' && touch $@ || echo "The page in the browser needs packages that could not be \
	installed here (slicer-core, trame-slicer)."

$(INSTALLED_TRAIN): $(INSTALLED)
	@$(PIP) --editable '.[train]'
	@touch $@

$(INSTALLED_BENCHMARK): $(INSTALLED)
	@$(PIP) --editable '.[test,benchmark]'
	@touch $@

.PHONY: demo
demo: $(INSTALLED) $(if $(filter-out 0,$(VIEW)),$(INSTALLED_VIEW)) ## enhance a phantom or CT=path into OUT=demo, and show it (VIEW=0: do not)
	@$(PY) -m ctenhance demo '$(OUT)' $(if $(CT),--ct '$(CT)') $(ARGS)
	@if [ '$(VIEW)' != 0 ] && [ -e $(INSTALLED_VIEW) ]; then \
	  echo "Ctrl-C ends the page."; $(PY) -m ctenhance view '$(OUT)/degraded.nii.gz' '$(OUT)/enhanced.nii.gz'; \
	else \
	  echo "To look at it: make demo VIEW=1, or open $(OUT)/index.html"; \
	fi

.PHONY: lint
lint: $(INSTALLED_TEST) ## check style and types
	@$(PY) -m ruff check --quiet .
	@$(PY) -m ruff format --quiet --check . \
	  || { echo "These files are not formatted (make format):"; $(PY) -m ruff format --check .; }
	@$(PY) -m mypy --no-error-summary

.PHONY: format
format: $(INSTALLED_TEST) ## format all Python files
	@$(PY) -m ruff format .

# The comparison page is tested in a real browser where there is one or where it can be installed; else that test
# skips and says so.
.PHONY: browser
browser:
	@command -v chromium chromium-browser google-chrome >/dev/null 2>&1 || [ "$$(id -u)" != 0 ] \
	  || ! command -v apt-get >/dev/null 2>&1 \
	  || { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium; } \
	  >/dev/null 2>&1 || echo "No browser could be installed: its tests will skip."

# Qt and VTK open no window here, but want these libraries of the system; a desktop has them.
.PHONY: libraries
libraries: $(INSTALLED_TEST)
	@! $(PY) -c 'import PySide6' 2>/dev/null || $(PY) -c 'import PySide6.QtWidgets, slicer' >/dev/null 2>&1 \
	  || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1 \
	  || { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
	       libegl1 libgl1 libopengl0 libxkbcommon0 libdbus-1-3 libfontconfig1 libglib2.0-0 libx11-6 libxext6; } \
	  >/dev/null 2>&1 || echo "Libraries for Qt could not be installed: the panels' tests will skip."

# Qt's import hook would slow the library's tests, so the panels have a run of their own. 5: no test was chosen.
PYTEST = OMP_NUM_THREADS=1 $(PY) -m pytest --numprocesses 2 --dist loadfile
.PHONY: test test-panel test-view
test: lint browser libraries ## check style and types, then run all tests (ARGS='-k name' for some)
	@$(PYTEST) Testing/library $(ARGS) || [ $$? -eq 5 ]
	@$(PYTEST) Testing/mrml Testing/panels $(ARGS) || [ $$? -eq 5 ]
	@$(PYTEST) Testing/view $(ARGS) || [ $$? -eq 5 ]

test-view: browser libraries ## run the tests of the page in the browser only
	@$(PYTEST) Testing/view $(ARGS)

test-panel: libraries ## run the panels' tests only
	@$(PYTEST) Testing/mrml Testing/panels $(ARGS)

.PHONY: cmake-list
cmake-list: ## write the list of the files that Slicer installs into CTEnhance/CMakeLists.txt
	@python3 Testing/tools/list_cmake_files.py

.PHONY: benchmark
benchmark: $(INSTALLED_BENCHMARK) ## measure against other methods, side by side
	@$(PY) benchmarks/run.py $(ARGS)

.PHONY: benchmark-panel
benchmark-panel: libraries ## frames a second of linked views (ARGS='--slices 60')
	@QT_QPA_PLATFORM=offscreen $(PY) benchmarks/panel_scroll.py $(ARGS)
	@QT_QPA_PLATFORM=offscreen $(PY) benchmarks/panel_decompose.py $(ARGS)

.PHONY: train-twin train-detail train-enhance train-projection train-image
train-twin: ## train the one-step network on DATA=folder for MINUTES=60 into RUN=runs/twin
train-detail: ## train the one-step network to sharpen, too, on DATA=folder into RUN=runs/detail
train-enhance: ## train the diffusion round the one-step network on DATA=folder into RUN=runs/enhance
train-projection: ## train NEED's first network on DATA=folder into RUN=runs/projection
train-image: ## train NEED's second network on DATA=folder into RUN=runs/image
train-twin train-detail train-enhance train-projection train-image: train-%: $(INSTALLED_TRAIN)
	@[ -n '$(DATA)' ] || { echo "Name the folder that holds the training CTs: make $@ DATA=folder" >&2; exit 1; }
	@mkdir -p runs
	@$(PY) -m ctenhance train $* '$(DATA)' '$(or $(RUN),runs/$*)' --minutes $(MINUTES) $(ARGS)
