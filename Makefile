# Needs nothing but Python 3.11 or newer with venv. See README.md.
PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?=
BIN := $(VENV)/bin
# One more than there are cores: many tests wait for time to pass, or for another process.
TEST_PROCESSES ?= 3
# Bytecode is kept, whatever the environment says: dozens of processes of the node would compile it anew.
test validators: export PYTHONDONTWRITEBYTECODE =
# Neighbours stay in one process, as far as they do, since they share servers and studies; a process that has nothing left takes
# half of what another one still has. Unlike the ways that keep files together, this one tries no test again that ended its process.
PARALLEL := -n $(TEST_PROCESSES) --dist worksteal

.PHONY: demo test check install clean configuration viewers sbom campaign reproduce-smoke reproduce-nightly validators protections

demo: install
	@echo "make: the demo: a node and a small PACS start, an exam is sent, the results come back: about a minute"
	$(BIN)/dicom-node demo $(DEMO_FLAGS)

test: install
	$(BIN)/python -m pytest $(PARALLEL) --durations 20 --durations-min 4 $(TEST_FLAGS)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Bill of materials (CycloneDX) and licences of everything installed, the test tools included: build/sbom.cdx.json, build/licences.md.
sbom: install
	mkdir -p build
	$(PYTHON) -m venv build/sbom-tools
	@echo "make: pip fetches the tools that write the bill of materials"
	build/sbom-tools/bin/pip install --disable-pip-version-check $(PIP_FLAGS) cyclonedx-bom pip-licenses
	build/sbom-tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-file build/sbom.cdx.json $(BIN)/python
	build/sbom-tools/bin/pip-licenses --python=$(BIN)/python --with-urls --format=markdown --output-file=build/licences.md

# Every table and figure of the paper on phantoms with tiny networks: trains each row a step or two and evaluates it.
reproduce-smoke: install
	rm -rf build/reproduction
	OMP_NUM_THREADS=1 $(BIN)/spineone-train reproduce all --smoke --device cpu --out build/reproduction

# A few rows, one for each mechanism, trained until they do better than chance on phantoms: at most half an hour. Fails where one
# does not.
reproduce-nightly: install
	rm -rf build/nightly
	$(BIN)/spineone-train reproduce nightly --device cpu --out build/nightly

# docs/configuration.md, from the settings' own table; a test holds them equal.
configuration: install
	$(BIN)/python -m dicom_node.settings.text > docs/configuration.md

# PixelMed's validator over the report of every kind of study, every form of it and refusals; dciodvfy over documents with each
# element changed in turn; the shipped network as ONNX; the tutorial of docs/training.md. All are too slow for each run of the tests.
validators: install
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "pixelmed or minutes" $(TEST_FLAGS)

# OHIF with our reports of every kind of study, in headless Chromium; fetches OHIF's built app from the npm registry, once. Says
# what is missing. VIEWERS_FLAGS="classic chinese" are two kinds, --offline-ok takes an unreachable registry for no failure.
viewers: install
	$(BIN)/python -m tests.viewers.ohif $(VIEWERS_FLAGS)

# Takes an hour and a half, and two cores for itself; CAMPAIGN_FLAGS="--kills 20 --pdus 1000 --files 200 --costly 50 --strangers 1000
# --soak-minutes 1" is a short one. Writes what was really done. As root the disk is filled and fails too (a small one of its own), and
# with libfaketime the clock is moved; messages after which something was wrong are in build/campaign.
campaign: install
	$(BIN)/python -m pytest -m campaign -o faulthandler_timeout=0 $(TEST_FLAGS)
	$(BIN)/python -m tests.faults.campaign --write docs/reliability.md $(CAMPAIGN_FLAGS)

# Takes each protection out of a copy of the source and sees whether a test notices: half an hour and more.
# PROTECTIONS_FLAGS="--rows 26 48" are two faults only.
protections: install
	$(BIN)/python -m tests.faults.protections --write docs/protections.md $(PROTECTIONS_FLAGS)

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "SpineOne Node needs Python 3.11 or newer, found " + sys.version.split()[0])'
	@echo "make: step 1 of 2: a virtual environment in $(VENV); nothing is fetched, some seconds"
	$(PYTHON) -m venv $(VENV)
	@echo "make: step 2 of 2: pip fetches the libraries of the node, the trainer and the tests, and installs them: several minutes"
	@echo "make: some 400 MB with a CPU build of torch (1.8 GB on disk), several GB with CUDA; README.md says how to choose"
	@echo "make: after 'Installing collected packages' pip unpacks them and says nothing for a minute or more"
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
