# Everything runs in .venv, which the first command makes; tools/setup.sh says how.
#   make course                      JupyterLab, open on notebooks/    (ARGS=--no-browser serves it headless)
#   make test                        every test
#   make grade                       how far your exercises/ are
#   make bench                       measurements                      (ARGS=... goes to the benchmark)
#   make notebooks                   execute and clean the notebooks   (NB=notebooks/01_x.ipynb: that one only)
#   make exercises                   generate exercises/ from solutions/
#   PYTHON=/path/to/python3          the Python that a new .venv is made with
PY := .venv/bin/python
export PYTHON
# JupyterLab refuses to run as root, which is what one is in a container.
ROOT_TOO := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: course test grade bench notebooks exercises setup

course: setup
	$(PY) -m jupyterlab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks $(ROOT_TOO) $(ARGS)

test: setup
	$(PY) -m tools.test $(ARGS)

grade: setup
	$(PY) -m attn.cli progress $(ARGS)

bench: setup
	$(PY) -m benchmarks $(ARGS)

notebooks: setup
	$(PY) -m ruff format --quiet $(or $(NB),notebooks solutions)
	$(PY) -m tools.notebooks $(NB) $(ARGS)

exercises: setup
	$(PY) -m tools.exercises $(ARGS)

setup:
	@sh tools/setup.sh
