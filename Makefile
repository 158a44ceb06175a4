# make compare   train and compare five attention variants and a hybrid (ten minutes on two cores)
# make test      run the tests                        ARGS='-m "not slow"' passes arguments to pytest
# make lint      run ruff and mypy
# make pages     write docs/variants.md, docs/tasks.md and the generated blocks of README.md
#
# Each sets up .venv by itself with the first Python >= 3.11 it finds; PYTHON=... chooses another.

VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3 python3.16 python3.15 python3.14 python3.13 python3.12 python3.11 python)

.PHONY: compare test lint pages venv venv-dev clean

compare: venv
	@$(BIN)/python -m experiments.run --config=configs/quickstart.py $(ARGS)

test: venv-dev
	@$(BIN)/python -m pytest --numprocesses=auto --dist=worksteal $(ARGS)

lint: venv-dev
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy

pages: venv
	@$(BIN)/python docs/pages.py $(ARGS)

# The copy of the requirements is written last, so that an interrupted install starts over and a finished one is not
# repeated until the requirements change.
define install
	@if [ -x $(BIN)/python ] && cmp -s $(1) $(VENV)/installed-$(1) && cmp -s requirements.txt $(VENV)/installed-requirements.txt \
	    && $(BIN)/python -c '' 2>/dev/null; then exit 0; fi; \
	for python in $(CANDIDATES); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found="$$python"; \
	    if "$$python" -c 'import ensurepip, venv' 2>/dev/null; then break; fi; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "attention-variants needs Python 3.11 or newer; tried: $(CANDIDATES). Choose one with make PYTHON=/path/to/python3." >&2; exit 1; fi; \
	echo "Installing into $(VENV) with $$("$$found" --version), once; this takes a few minutes."; \
	"$$found" -m venv $(VENV) && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(1) && \
	cp requirements.txt $(VENV)/installed-requirements.txt && \
	{ [ $(1) = requirements.txt ] || cp $(1) $(VENV)/installed-$(1); }
endef

venv:
	$(call install,requirements.txt)

venv-dev:
	$(call install,requirements-dev.txt)

clean:
	rm -rf $(VENV)
