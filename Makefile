# What CONTRIBUTING.md and CI run. `make test PYTHON=.venv/bin/python` takes another Python.
PYTHON ?= python

.PHONY: test slow style types imports notebooks benchmark check
check: style types imports test

test:       ## unit tests, and every notebook on the mini profile
	$(PYTHON) -m pytest --nbval-lax -n 2
slow:       ## what takes long: JupyterLab, a class of 300, kills at random moments
	$(PYTHON) -m pytest -m slow
style:
	$(PYTHON) -m ruff check && $(PYTHON) -m ruff format --check
types:
	$(PYTHON) -m mypy
	cd notebooks/extensions && MYPYPATH=../.. $(PYTHON) -m mypy --config-file ../../pyproject.toml -p lib
imports:    ## coursekit imports helpers, never the reverse
	$(PYTHON) -m importlinter.cli lint
notebooks:  ## execute all of them and store their outputs
	$(PYTHON) -m coursekit run --profile mini --save-notebooks
	$(PYTHON) -m coursekit run --profile mini --save-notebooks --extensions
benchmark:
	$(PYTHON) -m benchmarks --quick
