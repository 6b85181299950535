# Needs Python >= 3.11 (with its headers), make and a C compiler; everything else goes into .venv.
# `make` lists the targets.

PYTHON ?= python3
VENV   ?= .venv
PEERS  ?= .venv-peers
CC     ?= cc

# for `make demo`: a folder or list of your own clips, a vision encoder (folder or hub id), where the store goes
MEDIA   ?=
ENCODER ?=
STORE   ?=

BIN       := $(VENV)/bin
DEPS      := $(VENV)/.installed
BUILT     := $(VENV)/.built
C_SOURCES := $(wildcard csrc/*.c)
C_HEADERS := $(wildcard csrc/*.h)
C_TESTS   := $(patsubst csrc/tests/%.c,%,$(wildcard csrc/tests/test_*.c))
CFLAGS    := -std=c11 -O2 -g -Wall -Wextra -Wshadow -Wstrict-prototypes -Wconversion -Werror -Icsrc
SANITIZE  := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -O1
# tests of one file stay together, in up to four processes of one thread each
SPREAD    := -n auto --maxprocesses 4 --dist loadfile
# tests that exercise the extension and need no torch: what runs under the sanitizers
CORE_TESTS := tests/store tests/interop

# A stamp without its extension is no build.
$(if $(wildcard merstore/_core.*.so),,$(shell rm -f $(BUILT)))

.DEFAULT_GOAL := help
.PHONY: help demo demo-affectgpt test test-all lint format csrc-test sanitize valgrind bench bench-micro bench-peers gpu-check dist clean distclean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(BUILT) ## clips -> features -> store -> batches; MEDIA=dir ENCODER=dir-or-id STORE=path for your own
	@$(BIN)/python -m merstore.demo $(if $(MEDIA),--media "$(MEDIA)") $(if $(ENCODER),--encoder "$(ENCODER)") $(if $(STORE),--store "$(STORE)")

demo-affectgpt: $(BUILT) ## AffectGPT by its three templates, side by side, with tiny random models
	@$(BIN)/python -m merstore.demo.affectgpt

test: csrc-test $(BUILT) ## the C unit tests, then all Python tests but the slow ones
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" $(SPREAD) $(PYTEST_ARGS)

test-all: csrc-test $(BUILT) ## every test, the slow ones too
	OMP_NUM_THREADS=1 $(BIN)/pytest $(SPREAD) $(PYTEST_ARGS)

lint: $(BUILT) ## ruff, mypy, Cython and C with warnings as errors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@mkdir -p build/lint
	$(BIN)/cython -3 -Wextra -Werror merstore/_core.pyx -o build/lint/_core.c
	MERSTORE_WERROR=1 $(BIN)/python setup.py -q build_ext --force --build-temp build/lint --build-lib build/lint

format: $(DEPS) ## ruff's formatter and its safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

csrc-test: $(C_TESTS:%=build/csrc/%) ## the C unit tests alone
	@for t in $^; do echo $$t; $$t || exit 1; done

sanitize: $(BUILT) $(C_TESTS:%=build/csrc-sanitize/%) ## C tests and the Python tests of the core under ASan and UBSan
	@for t in $(C_TESTS:%=build/csrc-sanitize/%); do echo $$t; $$t || exit 1; done
	MERSTORE_SANITIZE=1 $(BIN)/python setup.py -q build --build-base build/sanitize --build-lib build/sanitize/lib
	PYTHONPATH=build/sanitize/lib PYTHONSAFEPATH=1 LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libstdc++.so.6)" \
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
	$(BIN)/pytest -m "not slow" -p no:cacheprovider $(CORE_TESTS) $(PYTEST_ARGS)

valgrind: $(C_TESTS:%=build/csrc/%) ## the C unit tests under valgrind
	@for t in $^; do echo $$t; valgrind -q --error-exitcode=1 --leak-check=full $$t || exit 1; done

bench: $(BUILT) ## the benchmarks; results and the machine they came from go to benchmarks/results
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

bench-micro: $(BUILT) ## single operations under pytest-benchmark; saved for `pytest-benchmark compare`
	$(BIN)/python -m pytest benchmarks --benchmark-autosave --benchmark-columns=median,iqr,rounds $(PYTEST_ARGS)

bench-peers: $(PEERS)/.installed ## against other stores and loaders, in an environment of their own; results go to benchmarks/results
	$(PEERS)/bin/python -m benchmarks.peers $(BENCH_ARGS)

gpu-check: $(BUILT) ## the tests and the benchmarks that need a CUDA device
	MERSTORE_REQUIRE_GPU=1 $(BIN)/pytest -m gpu $(PYTEST_ARGS)
	$(BIN)/python -m pytest benchmarks/test_loading.py -k gpu --benchmark-columns=median,iqr,rounds
	$(BIN)/python -m benchmarks device

dist: $(DEPS) ## sdist and wheel, then the tests against the wheel in a fresh environment
	rm -rf dist build/dist
	$(BIN)/python -m build
	$(PYTHON) -m venv build/dist/venv
	build/dist/venv/bin/python -m pip install -q -c constraints.txt "$$(ls dist/*.whl)[all]"
	tar -xzf dist/*.tar.gz -C build/dist
	rm -rf build/dist/merstore-*/merstore build/dist/merstore-*/csrc  # what is tested is the installed wheel
	cd build/dist/merstore-* && MERSTORE_SHARED="$(abspath ../shared)" ../venv/bin/pytest -m "not slow" $(SPREAD) $(PYTEST_ARGS)

clean: ## what was built, not the environment
	rm -rf build dist demo merstore/_core*.so *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	rm -f $(BUILT)
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## the environments too
	rm -rf $(VENV) $(PEERS)

# ---- how the above is made ---------------------------------------------------------------------------

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("merstore needs Python 3.11 or later; this is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(DEPS): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the pinned packages into $(VENV) (torch is large: minutes, once)"
	$(BIN)/python -m pip install -q -c constraints.txt setuptools cython
	$(BIN)/python -m pip install -q -c constraints.txt --no-build-isolation -e '.[all]'
	@touch $@

$(BUILT): $(DEPS) setup.py merstore/_core.pyx $(C_SOURCES) $(C_HEADERS)
	$(BIN)/python setup.py -q build_ext --inplace
	@touch $@

# only what the rivals need beyond $(VENV), which it stands on
$(PEERS)/.installed: pyproject.toml constraints.txt benchmarks/peers/no-deps.txt | $(BUILT)
	@echo "installing the rivals into $(PEERS)"
	$(BIN)/python -m benchmarks.peers.install $(PEERS)
	@touch $@

build/csrc/%: csrc/tests/%.c $(wildcard csrc/tests/*.h) $(C_SOURCES) $(C_HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -o $@ $< $(C_SOURCES) -lm

build/csrc-sanitize/%: csrc/tests/%.c $(wildcard csrc/tests/*.h) $(C_SOURCES) $(C_HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(SANITIZE) -o $@ $< $(C_SOURCES) -lm
