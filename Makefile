# Everything runs in .venv, which the targets make and keep up to date themselves.
#   make demo    a real Kafka, a worker and sample clicks; intents arrive in the terminal
#   make test    the whole test suite, the real Kafka included
#   make check   lint, and every test that needs neither a broker nor a trained model, in two minutes
#   make lint    formatting, types and the direction of imports
#   make chaos   the fault suite in full doses: an hour; ARGS='kill zombie --seed 1' plays some of it
#   make mutants breaks each mechanism on purpose and shows that a test goes red: half an hour
#   make bench   the benchmarks: a quarter of an hour; make bench-quick: throughput alone, under three minutes
#   make fuzz    damaged inputs for every parser: make fuzz CASES=1000000
#   make upstream  what the client libraries should mend, reproduced: does it still happen?
#   make monitoring  Prometheus rules and dashboard, written anew from the catalogue of metrics
#   make spark, make feast   the examples for Spark and Feast, with the real ones
#   make dist    source distribution and wheel, the same bytes from the same commit
#   make consumers   libraries of consumers in other languages, so that the tests run those whose runtime is there
# Another Python: make demo PYTHON=python3.12     Arguments: make demo ARGS=--headless

PYTHON ?= python3
ARGS ?=
CASES ?= 100000

BIN := .venv/bin
# No byte code ahead of time: most of it is never imported, and the rest is compiled on its first use.
INSTALL := PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile \
  --constraint constraints.txt
PURE := tests/core tests/pipeline tests/schemas tests/models/test_tokenizer.py tests/kafka/aiokafka_overrides \
  tests/replay/test_live_equals_replay.py tests/worker/test_changelog_groups.py tests/worker/test_recovery.py
# More processes than cores, for many tests wait. tests/conftest.py says which of them stay together.
PROCESSES ?= 3
PYTEST := $(BIN)/python -m pytest --numprocesses $(PROCESSES) --no-loadscope-reorder
PACKAGES := pyproject.toml constraints.txt setup.py $(shell find models schemas streamer -name "*.p[yx][xd]")

# Every process of a test would compile what it imports, which takes it longer than all else at its start.
unexport PYTHONDONTWRITEBYTECODE

.NOTPARALLEL:  # one pip at a time in one environment
.PHONY: chart demo dist docs feast spark manifests workflows test test-pure check lint chaos mutants bench fuzz upstream monitoring \
  consumers clean
.DELETE_ON_ERROR:

demo: .venv/demo.stamp
	$(BIN)/streamer demo $(ARGS)

# The whole suite on the compiled build; then, as pure Python, the tests of what is compiled.
test: .venv/test.stamp .venv/kafka.aot
	$(PYTEST) $(ARGS)
	$(if $(ARGS),,$(MAKE) --no-print-directory test-pure)

test-pure: .venv/test.stamp
	STREAMER_NO_EXTENSIONS=1 $(PYTEST) --quiet $(PURE)

# None of these waits: as many processes as cores.
check: PROCESSES := auto
check: lint
	$(PYTEST) --quiet -m "not kafka and not training" $(ARGS)

lint: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

chaos: .venv/test.stamp
	$(BIN)/python -m tests.chaos $(ARGS)

mutants: .venv/test.stamp
	$(BIN)/python -m tests.mutants $(ARGS)

bench: .venv/test.stamp
	$(BIN)/python -m benchmarks $(ARGS)

bench-quick: .venv/test.stamp
	@$(BIN)/python -m benchmarks --quick $(ARGS)

fuzz: .venv/test.stamp
	$(BIN)/python -m tests.fuzz $(CASES) $(ARGS)

upstream: .venv/test.stamp
	$(BIN)/python -m tests.upstream

monitoring: .venv/demo.stamp
	$(BIN)/streamer metrics rules > deploy/prometheus/streamer.rules.yml
	$(BIN)/streamer metrics dashboard > deploy/grafana/streamer.json
	cp deploy/prometheus/streamer.rules.yml deploy/helm/clicks-to-intent/files/

# Installs Helm with Go, and validates the chart with it.
chart: export GOBIN := $(CURDIR)/.venv/bin
chart: .venv/test.stamp
	command -v helm || test -x $(GOBIN)/helm || go install helm.sh/helm/v3/cmd/helm@v3.19.0
	$(INSTALL) kubernetes-validate
	$(PYTEST) tests/deploy

workflows:
	go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.7

# The chart's defaults, for clusters without Helm.
manifests:
	PATH="$(CURDIR)/.venv/bin:$$PATH" helm template streamer deploy/helm/clicks-to-intent --kube-version 1.37.0 \
	  > deploy/kubernetes/streamer.yaml

# Large, and so not in the environment of all other tests; Spark needs Java.
spark: .venv/test.stamp .venv/kafka.aot
	$(INSTALL) pyspark==4.3.0
	$(PYTEST) tests/examples/test_spark.py tests/sink/test_lake.py -k 'spark'

# In an environment of its own: it shares no pins with ours.
feast: .venv/test.stamp .venv/kafka.aot
	$(PYTHON) -m venv .venv/feast
	.venv/feast/bin/pip install --quiet --disable-pip-version-check 'feast[redis]==0.67.0'
	$(PYTEST) tests/examples/test_feast.py

consumers: .venv/test.stamp
	! command -v npm || npm install --prefix examples/consumers/node --no-package-lock
	! command -v mvn || mvn --quiet --file examples/consumers/java/pom.xml dependency:copy-dependencies
	! command -v mvn || mvn --quiet --file tests/registry/java/pom.xml dependency:copy-dependencies
	! command -v go || go build -C examples/consumers/go -o build/consume .
	! command -v go || go build -C tests/registry/go -o build/stock .

# Into dist/, from what is committed; the wheel from the source distribution. Setuptools writes the time of the build
# into that, so it is packed once more.
dist: export SOURCE_DATE_EPOCH = $(shell git log -1 --format=%ct)
dist: export PIP_CONSTRAINT = $(CURDIR)/constraints.txt
dist: .venv/python.stamp
	$(INSTALL) build
	rm -rf dist build/dist
	git clone --quiet . build/dist
	cd build/dist && ../../$(BIN)/python -m build --sdist --outdir . && tar -xf clicks_to_intent-*.tar.gz && rm *.tar.gz
	mkdir dist
	cd build/dist && name=$$(echo clicks_to_intent-*) && tar --create --sort=name --format=posix --mtime=@$$SOURCE_DATE_EPOCH \
	  --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime --owner=0 --group=0 --numeric-owner \
	  --mode=u=rwX,go=rX $$name | gzip --no-name --best > ../../dist/$$name.tar.gz
	$(BIN)/python -m pip wheel --no-deps --wheel-dir dist dist/*.tar.gz
	rm -rf build/dist
	cd dist && sha256sum *

# The documentation site, in build/docs.
docs: .venv/test.stamp
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --builder html docs build/docs

clean:
	rm -rf .venv build dist *.egg-info

.venv/python.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), expected Python 3.11 to 3.14: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; \
	  exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(INSTALL) --upgrade pip  # the one that comes with Python takes twice as long for the rest
	@touch $@

.venv/demo.stamp: .venv/python.stamp $(PACKAGES)
	@echo "Installing what serving, the local Kafka and the live page need into .venv"
	$(INSTALL) --editable '.[kafka,ui]'
	@touch $@

# All that the demo needs is in it; so nothing is compiled twice where the tests come first.
.venv/test.stamp: .venv/python.stamp $(PACKAGES)
	@echo "Installing what training and the tests need into .venv (torch is large)"
	$(INSTALL) --editable '.[docs,iceberg,kafka,otel,redis,similar,train,ui,test]'
	@touch .venv/demo.stamp $@

# Brokers of the tests start from it in half the time.
.venv/kafka.aot: constraints.txt streamer/kafka/jars.lock | .venv/test.stamp
	$(BIN)/python -m tests.aot_cache
