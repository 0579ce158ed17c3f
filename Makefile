# `make demo` and `make test` need Python 3.11 or newer, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow lint docs install gpu-check gpu-check-bundle

install: $(VENV)/installed

# The lock first, with checksums; then requirements.txt adds torch, whose build depends on the machine.
$(VENV)/installed: requirements.lock requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: install
	$(BIN)/python tools/make_sample_data.py data/sample --train 6000 --val 200 --seed 1
	$(BIN)/python tools/dist_train.py --cfg experiments/sample/demo.yaml
	$(BIN)/python tools/valid.py --cfg experiments/sample/demo.yaml DEBUG.SAVE_PREDICTIONS 12
	@echo
	@echo "Done: training on generated people, evaluation on held-out images. Next:"
	@echo "  results    output/coco/pose_higher_hrnet_de/demo/: curves.png, results/images/, results/metrics.json"
	@echo "  baseline   $(BIN)/python tools/dist_train.py --cfg experiments/sample/demo.yaml MODEL.NAME pose_higher_hrnet"
	@echo "  your data  docs/own_data.md; $(BIN)/python tools/check_data.py --cfg YOUR.yaml"
	@echo "  COCO       data/README.md; then the commands of README.md"

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "Done: build/site/index.html. With search: $(BIN)/python -m http.server -d build/site"

lint: install
	$(BIN)/ruff check lib tools tests docs
	$(BIN)/ruff format --check lib tools tests docs
	$(BIN)/mypy

test: install lint
	$(BIN)/python -m pytest -m "not slow"

test-slow: install
	$(BIN)/python -m pytest -m slow

# On the machine with the GPU nothing is installed: what is missing there comes from the bundle.
DEVICE ?= cuda
CHECK_PYTHON = $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))

gpu-check:
	PYTHONPATH=$(CURDIR)/lib $(CHECK_PYTHON) tools/gpu_check.py --device $(DEVICE)

gpu-check-bundle: install
	$(BIN)/python tools/gpu_check.py --fetch-wheels
