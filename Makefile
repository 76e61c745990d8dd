# Every target sets up what it needs: a virtual environment, the dependencies, the build. A second run does nothing.
#
#   make demo                          train the small joint model, evaluate it, draw what it sees
#   make test PROCESSES=2              hold every op and every model against torchvision; 5 GB a process
#   make test-course                   run the lessons, and look at them and at the web site in a browser
#   make lessons                       open the lessons in JupyterLab
#   make site                          build/site/: the course, the kernels and the library as a web site
#   make wheel TORCH=torch==2.13.0     dist/: the sources and a wheel, tried beside that torch; with a toolkit one for CUDA
#   make fuzz MINUTES=30 SEED=1000     random inputs and damaged files, for as long as you like
#   make sanitize                      all kernels on the CPU under gcc's sanitizers
#   make install TORCH=torch==2.13.0   with another torch (one without CUDA, say); torchvision may be left out

PYTHON ?= python3
TORCH ?= torch torchvision
VENV := .venv
BIN := $(VENV)/bin
SOURCES := setup.py pyproject.toml $(wildcard csrc/*.cpp csrc/*.h csrc/*/*)

.PHONY: install demo lessons lessons-build site test test-course lint format bench gpu-check fuzz sanitize wheel clean

install: $(VENV)/installed

# torch comes first: setup.py asks it how to build. No build isolation: the ops are for this torch, not for another.
$(VENV)/torch:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install $(TORCH) ninja "setuptools>=77"
	touch $@

$(VENV)/installed: $(VENV)/torch $(SOURCES)
	$(BIN)/python -m pip install --no-build-isolation --editable ".[export,photos,tensorboard,video,lessons,site,test]"
	touch $@

demo: install
	$(BIN)/mrcnn demo

# Copies to write in: what you have changed there stays. JupyterLab wants to be told that being root, as in a container,
# is meant.
lessons: install
	$(BIN)/python lessons/build.py --copies my_lessons
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) my_lessons/00_the_whole_model/lesson.ipynb

# LESSONS="04 07k" makes only those.
lessons-build: install
	$(BIN)/python lessons/build.py $(LESSONS)

site: install
	$(BIN)/python docs/build.py

# Processes take file after file: tests of one file share what they build.
PROCESSES ?= 2
PYTEST = $(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder
COURSE := tests/lessons tests/site

test: install
	$(PYTEST) $(COURSE:%=--ignore=%)

test-course: install
	$(PYTEST) $(COURSE)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install
	$(BIN)/python benchmarks/ops.py
	$(BIN)/python benchmarks/model.py
	$(BIN)/python benchmarks/export.py

# For a machine with an NVIDIA GPU, where a network may be missing: it takes the Python that is there.
gpu-check:
	$(PYTHON) benchmarks/gpu_check.py

MINUTES ?= 10
SEED ?= 0
fuzz: install
	$(BIN)/python tests/fuzz/fuzz.py --minutes $(MINUTES) --seed $(SEED)

sanitize: install
	$(BIN)/python -m pytest tests/ops/sanitizers.py

wheel: install
	$(BIN)/python packaging/wheels.py $(TORCH)

clean:
	rm -rf build dist $(VENV) mrcnn/*.so
