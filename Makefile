# Everything a developer or a scheduler calls; `make help` lists it. Set-up itself is in bootstrap/.
.DEFAULT_GOAL := help
.SILENT:
SHELL := /bin/sh

DATA ?=
NAME := $(if $(DATA),$(basename $(notdir $(DATA))),quickstart)
ifeq ($(filter-out . ..,$(NAME)),)
$(error DATA=$(DATA): expected a YAML file or an overlay folder, without a trailing slash)
endif
CONFIG := $(or $(DATA),conf/datasets/simulated.yml)
BIN := .venv/bin
# Spark binds to the loopback where the host's own name leads nowhere.
SPARK_LOCAL_IP ?= $(shell getent hosts "$$(hostname)" >/dev/null 2>&1 || echo 127.0.0.1)
ifneq ($(SPARK_LOCAL_IP),)
export SPARK_LOCAL_IP
endif
ifneq ($(wildcard ../shared/data),)
export ECDCTR_REAL_DATA ?= $(abspath ../shared/data)
endif

.PHONY: help setup doctor run test check test-all airflow-test notebooks results docs bench bench-peers bench-ranks bench-etl bench-links bench-options bench-scale bench-vocabulary clean

help:  ## list the targets
	grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 14

setup:  ## prerequisites, .venv, Horovod's wheel, Delta's jars; instant when nothing changed
	python=$$(bootstrap/prerequisites.sh) && exec $$python -m bootstrap

doctor: setup  ## check machine, versions, Spark, Delta, Horovod and a 2-rank all-reduce
	$(BIN)/ecdctr doctor

run: setup  ## the main job; DATA=conf/datasets/x.yml for another log, FRESH=1 to start over
	$(BIN)/ecdctr doctor --quick
	$(if $(FRESH),rm -rf "runs/$(NAME)" "warehouse/$(NAME)")
	$(BIN)/ecdctr run --config "$(CONFIG)" $(if $(DATA),,--set name=$(NAME)) || [ $$? -eq 4 ]

check: setup  ## lint, format, types, import contracts, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

# Two processes: what Spark plans and commits keeps one core busy at a time. Long files come first, short ones fill up.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --nbmake

test: check  ## check, the walkthrough notebook, and every test but the long campaigns
	$(PYTEST) -m "not campaign" --nbmake-timeout=300 --ignore=notebooks/02_tables.ipynb notebooks tests

test-all: check  ## every test, long campaigns included
	$(PYTEST) --nbmake-timeout=300 notebooks tests

airflow-test:  ## the Airflow DAG in a real Airflow, in an environment of its own in the user's cache
	examples/airflow/run_tests.sh

notebooks: setup  ## execute every notebook
	$(BIN)/python -m pytest --nbmake --nbmake-timeout=600 notebooks

results: setup  ## write docs/results.md from stored comparisons; COMPARE="runs/x/compare.json …" stores further ones, EARLIER="…" those of earlier days
	$(BIN)/python -m ecdctr.report.results $(COMPARE) $(if $(EARLIER),--earlier $(EARLIER))

docs: setup  ## write conf/README.md from the schema, run the examples of the documentation
	$(BIN)/python -m ecdctr.config.reference > conf/.README.md && mv conf/.README.md conf/README.md
	$(BIN)/python -m pytest tests -m unit -k "reference or readme or docs"

bench: bench-etl bench-scale  ## the benchmarks that need nothing beside this clone

BENCH ?= ../shared/bench
BENCH_ROWS ?= 1000000
BENCH_VOCAB ?= 1e5 1e6 1e7
BENCH_MODELS ?= deepfm,din
BENCH_PEERS ?= limit-dense,limit-rowwise,torchrec-fused
BENCH_REPS ?= 2
BENCH_OUT ?= runs/peers.json
RUNNER := $(BIN)/python -m benchmarks.runner
PERFORMANCE_PAGE = $(BIN)/python -m benchmarks.performance_page "$(BENCH_OUT)" --ceiling runs/ceiling.json \
	--more-ranks runs/more_ranks.json > docs/.performance.md && mv docs/.performance.md docs/performance.md

bench-peers: setup  ## this project beside its peers (BENCH=folder of their benchmark); see benchmarks/README.md
	test -x "$(BENCH)/run_peers.sh" || { echo "bench-peers: BENCH=$(BENCH) has no run_peers.sh" >&2; exit 2; }
	mkdir -p "$(dir $(BENCH_OUT))"
	"$(BENCH)/run_peers.sh" --rows $(BENCH_ROWS) --vocab $(BENCH_VOCAB) --models $(BENCH_MODELS) --reps $(BENCH_REPS) \
		--peers "$(BENCH_PEERS)" --extra "ecdctr=$(RUNNER)" --extra "ecdctr-one-rank=$(RUNNER) --ranks 1 --threads-per-rank 1" \
		--extra "ecdctr-one-core=$(RUNNER) --ranks 1 --threads-per-rank 1 --cores 1" --out "$(BENCH_OUT)" $(BENCH_MORE)
	$(PERFORMANCE_PAGE)

bench-ranks: setup  ## what a second rank brings, on logs that bench-peers has made; adds it to docs/performance.md
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.ceiling
	$(BIN)/python -m benchmarks.more_ranks $(BENCH_MORE)
	$(PERFORMANCE_PAGE)

bench-scale: setup  ## 1, 2 and 4 ranks, tables replicated and sharded; fits the cost model and writes docs/scale.md
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.scale > docs/.scale.md
	mv docs/.scale.md docs/scale.md

bench-options: setup  ## torch.compile and 16-bit products on this processor; writes docs/training_options.md
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.options > docs/.training_options.md
	mv docs/.training_options.md docs/training_options.md

bench-links: setup  ## as root: 2 and 4 ranks in network namespaces over limited links, for the next bench-scale; see benchmarks/README.md
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.links $(BENCH_MORE)

BENCH_EVENTS ?= 1e5 1e6 1e7
BENCH_ETL_OUT ?= runs/etl.json

bench-etl: setup  ## raw logs to samples beside hand-written Spark SQL and DuckDB (BENCH_EVENTS="1e5 1e6"); see benchmarks/README.md
	$(BIN)/python -m benchmarks.etl --events $(BENCH_EVENTS) --reps $(BENCH_REPS) --out "$(BENCH_ETL_OUT)" $(BENCH_MORE)
	$(BIN)/python -m benchmarks.etl_page "$(BENCH_ETL_OUT)" > docs/.etl_performance.md
	mv docs/.etl_performance.md docs/etl_performance.md

BENCH_TOKENS ?= 1e6 1e7

bench-vocabulary: setup  ## a vocabulary of very many tokens on a small heap (BENCH_TOKENS="1e6 1e8"); writes docs/vocabulary_size.md
	$(BIN)/python -m benchmarks.vocabulary --tokens $(BENCH_TOKENS) $(BENCH_MORE) > docs/.vocabulary_size.md
	mv docs/.vocabulary_size.md docs/vocabulary_size.md

clean:  ## remove build products and caches of this clone, but neither runs/, warehouse/ nor the user's cache
	rm -rf .venv .venv.held build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
