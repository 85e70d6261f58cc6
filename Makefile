# Every verb of `python -m harness` in the project's own environment. `make` alone lists them.
#   make speedrun [LANE=tiny-moe-16e] [SEED=1 | SEEDS=1,2,3] [SET="optim.muon.lr=0.02 ..."] [IN=container]

PYTHON ?= python3
VENV   ?= .venv
LOCK   := requirements.lock
# The stamp's name holds the lock's hash: another lock is another set-up, the same lock none.
STAMP  := $(VENV)/set-up-$(shell cksum $(LOCK) | cut -d' ' -f1)
HARNESS := $(VENV)/bin/python -m harness

LANE ?= tiny-moe-16e
SEED ?= 1
SET  ?=
PLAN  = lane=$(LANE) $(if $(SEEDS),--multirun seed=$(SEEDS),seed=$(SEED)) $(SET)

VERBS := speedrun plan prove bench profile tune gpu prepare grade lanes show sample prune submit report compare gate gate-update \
         verify replay matrix mlflow probe evaluate export doctor inspect atlas damage study series search confirm
.PHONY: $(VERBS) help setup sabotage test check referee referee-fla referee-sweeps elsewhere lint lock container container-smoke container-chroot

help: $(STAMP)
	@$(HARNESS) --help

setup: $(STAMP)

$(STAMP):
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"python {v[0]}.{v[1]} found, 3.11 to 3.13 needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $(LOCK)
	@rm -f $(VENV)/set-up-*
	@touch $@

# ENGINE, BASE, PIP_CONF, BUILD_WITH and RUN_WITH reach it through the environment: harness/container/__main__.py.
CONTAINER := $(PYTHON) -m harness.container

container:
	@$(CONTAINER) build

container-smoke:
	@$(CONTAINER) smoke

container-chroot:
	@$(CONTAINER) chroot

# From here on IN=container means: in the image, and nothing is set up here.
ifeq ($(IN),container)
$(if $(filter-out speedrun plan prove prepare lanes verify,$(MAKECMDGOALS)),$(error IN=container runs speedrun, plan, prove, prepare, lanes and verify alone))
HARNESS := $(CONTAINER) run
STAMP :=
else ifneq ($(IN),)
$(error IN=$(IN) is unknown: IN=container, or leave it out)
endif

ONE_RUN := $(filter show report submit compare sample evaluate export doctor mlflow verify,$(MAKECMDGOALS))
ifneq ($(and $(SEEDS),$(ONE_RUN)),)
$(error SEEDS=$(SEEDS): $(ONE_RUN) takes finished runs by their folders, whose seeds they have: leave SEEDS out)
endif

# What a verb is given, of the variables of the line.
speedrun: WORDS = $(PLAN)
probe: WORDS = lane=$(LANE) seed=$(SEED) $(SET)
plan prove: WORDS = lane=$(LANE) seed=$(SEED) $(if $(RANKS),ranks=$(RANKS)) $(SET)
profile: WORDS = lane=$(LANE) $(SET)
gate: WORDS = lane=$(LANE) seed=$(SEED) $(SET)$(if $(BASE), base=$(BASE))$(if $(OUT), out=$(OUT))
gate-update: WORDS = lane=$(LANE) "reason=$(REASON)" $(if $(SEEDS),seeds=$(SEEDS)) $(SET)
matrix: WORDS = $(if $(TRACK),track=$(TRACK)) $(if $(SEEDS),seeds=$(SEEDS)) $(SET)
study: WORDS = $(NAME) $(if $(SEEDS),seeds=$(SEEDS)) $(if $(OUT),--out $(OUT)) $(SET)
series: WORDS = $(NAME) $(if $(HOURS),hours=$(HOURS)) $(if $(SEEDS),seeds=$(SEEDS)) $(if $(OUT),--out $(OUT)) $(SET)
search: WORDS = $(NAME) $(if $(HOURS),hours=$(HOURS)) $(if $(OUT),--out $(OUT)) $(SET)
confirm: WORDS = $(NAME) $(if $(FAMILY),family=$(FAMILY)) $(if $(OUT),--out $(OUT)) $(SET)
bench: WORDS = $(SET)$(if $(BASE), base=$(BASE))
gpu tune prune: WORDS = $(SET)
lanes: WORDS =
prepare: WORDS = $(TRACK) $(SET)
grade: WORDS = lane=$(LANE) seed=$(SEED)$(if $(BY), by=$(BY))$(if $(OUT), out=$(OUT)) $(SET)
show: WORDS = $(RUN)
report: WORDS = $(RUN) $(if $(OUT),--out $(OUT))
submit doctor mlflow: WORDS = $(RUN) $(SET)
compare: WORDS = $(A) $(B) $(SET)
sample: WORDS = $(RUN)$(if $(PROMPT), --prompt "$(PROMPT)") $(SET)
evaluate: WORDS = $(RUN)$(if $(OUT), --out $(OUT)) $(SET)
inspect: WORDS = $(RUN)$(if $(AGAINST), --against $(AGAINST))$(if $(OUT), --out $(OUT))$(if $(SEEDS), seeds=$(SEEDS)) $(SET)
damage: WORDS = $(RUN)$(if $(OUT), --out $(OUT)) $(SET)
atlas: WORDS = $(RUN)$(if $(AGAINST), --against $(AGAINST))$(if $(OUT), --out $(OUT)) $(SET)
export: WORDS = $(RUN)$(if $(OUT), out=$(OUT)) $(SET)
verify: WORDS = $(RECORD) $(SET)
replay: WORDS = $(RECORD) $(if $(SEEDS),seeds=$(SEEDS)) $(SET)

$(VERBS): $(STAMP)
	@$(HARNESS) $(subst -, ,$@) $(WORDS)

sabotage: $(STAMP)
	@$(VENV)/bin/python -m tests.sabotage $(SET)

# A file's tests share what one of them made; tests/conftest.py has the long files first.
BY_FILE := --dist loadfile --no-loadscope-reorder

# One thread a process: two processes that both use both cores wait for each other.
test: setup
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 $(BY_FILE) $(SET)

# What is quick: in a minute and a half on two cores, for between two commits.
check: lint
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 $(BY_FILE) -m "not slow and not process" $(SET)

# Compares with other people's packages, in environments of their own: not part of `test`. flash-linear-attention is apart, since
# transformers would call its kernels, which need a GPU; launchers and sweepers are, since they need little. What alone.txt names
# comes without what it asks for.
REFEREE_PARTS := $(wildcard tests/referee/*.txt)
REFEREE_STAMP := .referee-venv/set-up-$(shell cat $(LOCK) $(REFEREE_PARTS) | cksum | cut -d' ' -f1)
FLA_STAMP     := .referee_fla-venv/set-up-$(shell cat $(LOCK) tests/referee_fla/requirements.txt | cksum | cut -d' ' -f1)
SWEEPS_STAMP  := .referee_sweeps-venv/set-up-$(shell cat $(LOCK) tests/referee_sweeps/requirements.txt | cksum | cut -d' ' -f1)

$(REFEREE_STAMP) $(FLA_STAMP) $(SWEEPS_STAMP):
	$(PYTHON) -m venv $(@D)
	$(if $(filter .referee_sweeps-venv/%,$@),grep -v '^optuna==' $(LOCK) > $(@D)/lock.txt)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --requirement tests/$(@D:.%-venv=%)/requirements.txt $(if $(filter .referee_sweeps-venv/%,$@),--requirement $(@D)/lock.txt)
	$(if $(filter .referee-venv/%,$@),$(@D)/bin/python -m pip install --quiet --no-deps --requirement tests/referee/alone.txt)
	@rm -f $(@D)/set-up-*
	@touch $@

referee: $(REFEREE_STAMP) $(if $(SET),,referee-fla referee-sweeps)
	HF_HUB_OFFLINE=1 .referee-venv/bin/python -m pytest $(if $(filter tests/%,$(SET)),,tests/referee) --durations=0 -rA $(SET)

referee-fla: $(FLA_STAMP)
	.referee_fla-venv/bin/python -m pytest $(if $(filter tests/%,$(SET)),,tests/referee_fla) --durations=0 -rA $(SET)

referee-sweeps: $(SWEEPS_STAMP)
	.referee_sweeps-venv/bin/python -m pytest $(if $(filter tests/%,$(SET)),,tests/referee_sweeps) --durations=0 -rA $(SET)

# The suite under another torch, such as GPU images have, apart: gigabytes, so neither CI nor `test` does it. Triton is the one
# that this torch asks for, and 3.6's interpreter wants numpy below 2.4.
TORCH ?= 2.11.0
WITH ?= numpy<2.4
ELSEWHERE = .torch-$(TORCH)-venv

elsewhere:
	$(PYTHON) -m venv $(ELSEWHERE)
	grep -vE '^(torch|triton|numpy)==' $(LOCK) > $(ELSEWHERE)/rest.txt
	$(ELSEWHERE)/bin/python -m pip install --quiet --disable-pip-version-check torch==$(TORCH) "$(WITH)" --requirement $(ELSEWHERE)/rest.txt
	OMP_NUM_THREADS=1 $(ELSEWHERE)/bin/python -m pytest -n 2 $(BY_FILE) $(SET)

lint: setup
	$(VENV)/bin/python -m ruff check . && $(VENV)/bin/python -m ruff format --check .

# Pins what pyproject.toml allows, from a fresh environment.
lock:
	rm -rf .lock-venv && $(PYTHON) -m venv .lock-venv
	.lock-venv/bin/python -m pip install --quiet torch==2.13.0 && .lock-venv/bin/python -m pip install --quiet '.[dev]'
	.lock-venv/bin/python -m pip freeze --exclude moe-speedrun | sed 's/+cpu$$//' > $(LOCK)
	rm -rf .lock-venv
