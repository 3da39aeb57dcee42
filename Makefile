# Set-up, tests and checks. Everything is installed into .venv at the versions of constraints.txt.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test coverage lint typecheck hooks docs results bench gpu-check gpu-python triton-check walkthrough fuzz foreign-check accessibility-check runtime-check engines-check peers external lock audit sdist wheel package-check clean

PYTHON  ?= python3
CUDA    ?= OFF# ON or AUTO compiles the CUDA kernels too (needs nvcc)
WORKERS ?= 2# test processes
ARGS    ?=# further arguments for pytest
PART    ?= tests launches response edges graphs small# what gpu-check does; each part takes under 5 minutes
VENV    ?= on# off: gpu-check takes the packages of PYTHON as they are, and needs no network
WHEEL_PYTHONS ?= $(PYTHON)# one wheel for each of these interpreters, such as python3.11 python3.12
EXTRAS  := torch,triton,parquet,excel,report,holidays,onnx,serve
FUZZ    ?= 5000# examples of every kind for fuzz; make test takes 20
TRITON  ?= 3.6.0# the version that triton-check tests

BIN := .venv/bin
RELEASE := $(abspath build/release/bin)
PIP := $(BIN)/python -m pip
export PIP_CONSTRAINT := $(abspath constraints.txt)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The first process that imports a module keeps its byte code; without it each one compiles torch again (3 s).
export PYTHONDONTWRITEBYTECODE :=
export CAUSALMMM_CUDA := $(CUDA)

SOURCES := CMakeLists.txt pyproject.toml \
  $(shell find csrc engine kernels python -type f -not -path '*/__pycache__/*' -not -name '*.so')
PACKED := README.md CHANGELOG.md LICENSE $(shell find docs tests -type f -not -path '*/__pycache__/*')

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: .venv/.installed-$(CUDA) ## set up, then run the demo: simulate, fit, score, draw (into demo/)
	@echo "== demo: results go to demo/"
	$(BIN)/causalmmm demo --out demo

# A module's tests stay in one process (loadscope), so that its models are fitted once.
test: .venv/.installed-$(CUDA) ## set up, then run all tests
	@echo "== tests, in $(WORKERS) processes"
	@mkdir -p build
	OMP_NUM_THREADS=1 $(BIN)/python -P -m pytest -n $(WORKERS) --dist loadscope --junitxml=build/tests.xml $(ARGS)

coverage: .venv/.installed-$(CUDA) ## run all tests and show which lines of the package they ran (and record it)
	@mkdir -p build
	COVERAGE_FILE=build/coverage OMP_NUM_THREADS=1 $(BIN)/python -P -m pytest -n $(WORKERS) --dist loadscope -q \
	  --cov=causalmmm --cov-report=term:skip-covered --cov-report=html:build/coverage-html $(ARGS)
	$(BIN)/python -m bench.system.coverage build/coverage --out bench/results

lint: .venv/.lint ## check style (ruff)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: .venv/.lint .venv/.installed-$(CUDA) ## check types (mypy)
	$(BIN)/mypy -p causalmmm

hooks: .venv/.lint ## check style and types before every commit
	git config core.hooksPath .githooks

results: .venv/.tools ## write the pages of recorded results (docs/results/)
	$(BIN)/python -m bench.pages.results

docs: results .venv/.docs .venv/.installed-$(CUDA) ## build the documentation (build/site/); a warning is an error
	$(BIN)/python -m bench.pages.commands
	$(BIN)/mkdocs build --quiet

bench: .venv/.installed-$(CUDA) ## time both operators on this CPU (into bench/results/)
	$(BIN)/python -m bench.kernels.response --threads 1 2 --out bench/results
	$(BIN)/python -m bench.kernels.edge_cpu --out bench/results
	$(BIN)/python -m bench.kernels.edge_epoch --out bench/results
	$(BIN)/python -m bench.kernels.edge_sweep --device cpu --out bench/results
	$(BIN)/python -P -m pytest bench/kernels/edge_speed.py

# Without network: make gpu-check VENV=off PYTHON=python3
ifeq ($(VENV),off)
GPU_PYTHON = PYTHONPATH=$(CURDIR)/build/gpu $(PYTHON)
gpu-python:
	@$(PYTHON) bench/kernels/gpu_needs.py
	@echo "== building causalmmm with its CUDA kernels into build/gpu"
	rm -rf build/gpu
	PIP_CONSTRAINT= CAUSALMMM_CUDA=ON $(PYTHON) -m pip install -q --no-index --no-deps \
	  --no-build-isolation --target build/gpu .
else
GPU_PYTHON = $(BIN)/python
gpu-python:
	@$(MAKE) --no-print-directory CUDA=ON .venv/.installed-ON
endif

gpu-check: ## on a machine with a GPU: build the CUDA kernels, check and time them (PART=tests, ..)
	@nvidia-smi -L || { echo "gpu-check: no NVIDIA GPU on this machine"; exit 1; }
	@$(MAKE) --no-print-directory gpu-python
	$(GPU_PYTHON) -c "import torch; assert torch.cuda.is_available(), 'torch sees no GPU'"
	@for part in $(PART); do echo "== $$part"; $(MAKE) --no-print-directory gpu-$$part; done

.PHONY: gpu-tests gpu-launches gpu-response gpu-edges gpu-graphs gpu-small
gpu-tests:
	$(GPU_PYTHON) -m pytest -m gpu $(ARGS) $$(grep -rlE --include='test_*.py' 'pytest.mark.gpu|place: torch' tests)

gpu-launches:
	$(GPU_PYTHON) -m bench.system.gpu_launches
	$(GPU_PYTHON) -m bench.kernels.fused_compile --out bench/results

gpu-response:
	$(GPU_PYTHON) -m bench.kernels.response --device cuda --out bench/results
	$(GPU_PYTHON) -m bench.kernels.response --device cuda --dtype bfloat16 --out bench/results

gpu-edges:
	$(GPU_PYTHON) -m bench.kernels.edge_sweep --out bench/results

gpu-graphs:
	$(GPU_PYTHON) -m bench.kernels.edge_sweep --graphs --stores 128 1024 --compile '' --out bench/results

gpu-small:
	$(GPU_PYTHON) -m pytest -m gpu bench/kernels/edge_speed.py

walkthrough: .venv/.installed-$(CUDA) ## run the commands of README.md and the tutorial as they are written
	$(BIN)/python -m bench.pages.walkthrough

triton-check: .venv/.installed-$(CUDA) ## test the Triton kernels on another Triton as well (TRITON=3.6.0)
	@echo "== Triton $(TRITON), with the numpy that its interpreter needs, in build/triton-$(TRITON)"
	test -d build/triton-$(TRITON) || PIP_CONSTRAINT= $(PIP) install -q --no-deps \
	  --target build/triton-$(TRITON) triton==$(TRITON) 'numpy<2.4'
	PYTHONPATH=$(CURDIR)/build/triton-$(TRITON) OMP_NUM_THREADS=1 $(BIN)/python -P -m pytest \
	  tests/kernels/edge/test_launch_budgets.py tests/kernels/edge/test_triton.py
	PYTHONPATH=$(CURDIR)/build/triton-$(TRITON) $(BIN)/python -m bench.kernels.edge_compile --check

# With no bound on time of a single example; FUZZ is the number of examples of every kind.
fuzz: .venv/.installed-$(CUDA) ## feed random tables, settings, models, checkpoints and exported files to their readers (FUZZ=5000)
	CAUSALMMM_FUZZ=$(FUZZ) OMP_NUM_THREADS=1 $(BIN)/python -P -m pytest tests/python/test_fuzz.py $(ARGS)

foreign-check: .venv/.installed-$(CUDA) ## run an exported model in onnxruntime-web under Node.js
	npm install --silent --ignore-scripts --no-audit --no-fund --prefix build/node onnxruntime-web@1.30.0
	$(BIN)/python -P -m pytest tests/python/runtime/test_runtime.py -k onnxruntime_web $(ARGS)

accessibility-check: .venv/.installed-$(CUDA) ## check the report with axe-core in Chromium
	npm install --silent --ignore-scripts --no-audit --no-fund --prefix build/node axe-core@4.14.1
	$(BIN)/python -P -m pytest tests/python/report/test_browser.py -k axe $(ARGS)

runtime-check: .venv/.installed-$(CUDA) build/runtime/.installed ## use the wheel where torch is not installed
	CAUSALMMM_RUNTIME_PYTHON=$(CURDIR)/build/runtime/bin/python OMP_NUM_THREADS=1 \
	  $(BIN)/python -P -m pytest tests/integration/test_installed.py $(ARGS)

engines-check: .venv/.installed-$(CUDA) build/engines/.installed ## score on Ray and on Spark (needs Java)
	@java -version || { echo "engines-check: Spark needs Java, 17 or later, on the PATH"; exit 1; }
	CAUSALMMM_ENGINES_PYTHON=$(CURDIR)/build/engines/bin/python OMP_NUM_THREADS=1 \
	  $(BIN)/python -P -m pytest tests/integration/test_engines.py $(ARGS)

peers: .venv/.installed-$(CUDA) build/peers/pymc/.installed build/peers/meridian/.installed ## measure PyMC-Marketing and Meridian on the same draws (hours)
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.peers.compare $(ARGS)

external: .venv/.installed-$(CUDA) build/external/.installed ## measure the prior on laws of others, beside PCMCI+, VARLiNGAM and DYNOTEARS
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.external.run --out bench/results $(ARGS)

# For the platform and index of this machine: a CPU build of torch has another index, and other hashes,
# than the one on PyPI (PIP_EXTRA_INDEX_URL names it).
lock: .venv/.tools ## what an install takes, with hashes (build/lock/requirements.txt) and licences (sbom.cdx.json)
	@mkdir -p build/lock
	$(PIP) install -q --dry-run --ignore-installed --report build/lock/report.json '.[$(EXTRAS)]'
	$(BIN)/python -m bench.system.dependencies build/lock/report.json --out build/lock

audit: lock ## ask the advisories on pypi.org about what an install takes (needs network)
	@$(PYTHON) -c "import urllib.request as u; u.urlopen('https://pypi.org/pypi/pip/json', timeout=20)" \
	  || { echo "audit: pypi.org cannot be reached from here; nothing was checked"; exit 1; }
	test -x build/audit/bin/pip-audit || { $(PYTHON) -m venv build/audit \
	  && PIP_CONSTRAINT= $(PIP) --python build/audit install -q pip-audit; }
	build/audit/bin/pip-audit --disable-pip --require-hashes -r build/lock/requirements.txt

sdist: build/sdist/.built ## pack the sources (build/sdist/); needs no network

# Each interpreter builds the sdist in isolation; auditwheel then adds what the module links to, and names the
# oldest Linux that the wheel runs on.
wheel: build/sdist/.built ## build manylinux wheels from the sdist (build/wheelhouse/; WHEEL_PYTHONS=..)
	rm -rf build/wheelhouse build/unrepaired
	for python in $(WHEEL_PYTHONS); do \
	  echo "== building the sdist with $$python"; \
	  $$python -m pip wheel -q --no-deps -w build/unrepaired build/sdist/causalmmm-*.tar.gz; \
	done
	PATH=$(RELEASE):$$PATH auditwheel repair -w build/wheelhouse build/unrepaired/*.whl
	@ls -l build/wheelhouse

package-check: .venv/.installed-$(CUDA) wheel ## check what the sdist and the wheels hold, and that each wheel installs
	CAUSALMMM_PACKAGES=$(CURDIR)/build CAUSALMMM_WHEEL_PYTHONS='$(WHEEL_PYTHONS)' OMP_NUM_THREADS=1 \
	  $(BIN)/python -P -m pytest tests/integration/test_packages.py $(ARGS)

clean: ## remove builds and results, keep .venv
	rm -rf build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

# Stamps: each step runs again only when what it depends on has changed.
.venv/.tools: constraints.txt pyproject.toml
	@echo "== creating .venv with build and test tools"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install -q --no-compile --upgrade 'pip>=25.1'
	$(PIP) install -q --no-compile --group build --group test
	@touch $@

.venv/.lint: .venv/.tools
	@echo "== adding lint and type-check tools"
	$(PIP) install -q --no-compile --group lint
	@touch $@

.venv/.docs: .venv/.tools
	@echo "== adding documentation tools"
	$(PIP) install -q --no-compile --group docs
	@touch $@

.venv/.installed-$(CUDA): .venv/.tools $(SOURCES)
	@echo "== building and installing causalmmm (CUDA $(CUDA))"
	$(PIP) install -q --no-compile --no-build-isolation '.[$(EXTRAS)]'
	@rm -f .venv/.installed-*
	@touch $@

# Built in isolation: neither torch nor anything else of .venv is needed for a wheel.
build/wheel/.built: .venv/.tools $(SOURCES)
	@echo "== building the wheel"
	rm -rf build/wheel
	$(PIP) wheel -q --no-deps -w build/wheel .
	@touch $@

build/release/.installed: constraints.txt pyproject.toml
	@echo "== installing the tools of a release into build/release"
	test -x $(RELEASE)/python || $(PYTHON) -m venv build/release
	$(RELEASE)/python -m pip install -q --no-compile --upgrade 'pip>=25.1'
	$(RELEASE)/python -m pip install -q --no-compile --group build --group release
	@touch $@

build/sdist/.built: build/release/.installed $(SOURCES) $(PACKED)
	@echo "== packing the sources"
	rm -rf build/sdist
	PATH=$(RELEASE):$$PATH python -m build --sdist --no-isolation --outdir build/sdist .
	@touch $@

build/runtime/.installed: build/wheel/.built
	@echo "== installing the wheel with [runtime] alone, into build/runtime"
	rm -rf build/runtime
	$(PYTHON) -m venv build/runtime
	$(PIP) --python build/runtime install -q --no-compile "$$(echo build/wheel/*.whl)[runtime]"
	@touch $@

build/engines/.installed: build/wheel/.built
	@echo "== installing the wheel beside Ray and Spark, into build/engines"
	test -x build/engines/bin/python || $(PYTHON) -m venv build/engines
	$(PIP) --python build/engines install -q --no-compile --force-reinstall --no-deps build/wheel/*.whl
	$(PIP) --python build/engines install -q --no-compile --group engines \
	  "$$(echo build/wheel/*.whl)[runtime]"
	@touch $@

# Each peer has its own environment: they pin what this project must not.
build/peers/%/.installed: bench/peers/requirements-%.txt
	@echo "== installing $* into build/peers/$*"
	test -x build/peers/$*/bin/python || $(PYTHON) -m venv build/peers/$*
	PIP_CONSTRAINT= build/peers/$*/bin/python -m pip install -q --no-compile -r $<
	@touch $@

build/external/.installed: bench/external/requirements.txt bench/external/requirements-alone.txt
	@echo "== installing laws and methods of others into build/external"
	test -x build/external/bin/python || $(PYTHON) -m venv build/external
	PIP_CONSTRAINT= build/external/bin/python -m pip install -q --no-compile -r $<
	PIP_CONSTRAINT= build/external/bin/python -m pip install -q --no-compile --no-deps \
	  -r bench/external/requirements-alone.txt
	@touch $@
