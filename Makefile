# SPDX-License-Identifier: Apache-2.0
# Everything runs in .venv, which `setup` makes and keeps up to date. ARGS goes to the command: make test ARGS="-k planner"

PYTHON := .venv/bin/python
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo docs test test-long bench bench-deltas bench-host bench-browser bench-page bench-fp16 bench-guards bench-store bench-mcunet bench-replay bench-side bench-ranks bench-goodness bench-bits bench-rates bench-saturation bench-speed bench-models bench-pieces conformance fp16-ablation learning methods bench-worth faults fuzz-link sparse lint clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make the virtual environment and install missing compilers and emulators
	@sh scripts/setup.sh

demo: setup ## teach an emulated STM32F405 new handwritten digits
	@$(PYTHON) examples/digits/demo.py $(ARGS)

test: setup ## run all tests, ruff and mypy among them
	@$(PYTHON) -m pytest -n 2 --dist worksteal $(ARGS)

test-long: setup ## the same with the long tests and many more random cases
	@$(PYTHON) -m pytest -n 2 --dist worksteal -m "long or not long" --hypothesis-profile=long $(ARGS)

bench: setup ## count instructions and bytes of the benchmark workloads
	@$(PYTHON) benchmarks/micro.py $(ARGS)

bench-saturation: setup ## how many int8 weights training leaves at the ends of their range (half an hour; goes on when interrupted)
	@$(PYTHON) benchmarks/saturation.py $(ARGS)

learning: setup ## table of how well int8 training learns, method by method (45 minutes; goes on when interrupted)
	@$(PYTHON) benchmarks/int8_learning.py $(ARGS)

methods: setup ## table and picture of every method of learning: accuracy, old world, RAM, instructions (hours; goes on when interrupted)
	@$(PYTHON) benchmarks/methods.py $(ARGS)

bench-worth: setup ## which samples are worth a step: known ones left out, learning without labels, detectors (half an hour; goes on when interrupted)
	@$(PYTHON) benchmarks/worth.py $(ARGS)

bench-mcunet: setup ## the same for MCUNet in int8, where ../shared/data is there
	@$(PYTHON) benchmarks/mcunet.py $(ARGS)

bench-replay: setup ## what holds on to the old world: a memory, distillation, elastic weights (hours; goes on when interrupted)
	@$(PYTHON) benchmarks/replay.py $(ARGS)

bench-side: setup ## the tail of int8 MCUNet in less RAM: last layers, side networks, adapters
	@$(PYTHON) benchmarks/side.py $(ARGS)

bench-ranks: setup ## who chooses the ranks of adapters under a budget: all alike, gradients, ordered dropout (20 minutes)
	@$(PYTHON) benchmarks/ranks.py $(ARGS)

bench-goodness: setup ## untrained networks that learn by losses of their own for each layer, beside back-propagation (half an hour)
	@$(PYTHON) benchmarks/goodness.py

bench-bits: setup ## accuracy with weights of 8 and 4 bits: the choice of `quantize --bits mixed` beside others of the same bytes
	@$(PYTHON) benchmarks/bits.py $(ARGS)

bench-rates: setup ## learning rates that `tinytrain lr` finds, beside the default and a grid (an hour; goes on when interrupted)
	@$(PYTHON) benchmarks/rates.py $(ARGS)

bench-speed: setup ## instructions and estimated cycles of every row that this project promises, board by board (ARGS="--only resnet8")
	@$(PYTHON) benchmarks/speed.py $(ARGS)

bench-fp16: setup ## RAM and instructions of a training step in fp16 beside fp32, board by board (ARGS="--only har")
	@$(PYTHON) benchmarks/fp16.py $(ARGS)

fp16-ablation: setup ## what loss scaling and sums in fp32 are for: gradients of trained networks without them
	@$(PYTHON) benchmarks/fp16_ablation.py $(ARGS)

bench-guards: setup ## what guards cost: instructions, RAM and flash of a training step without them and with them
	@$(PYTHON) benchmarks/guards.py $(ARGS)

bench-store: setup ## bytes of code of the weight store and of guards, together, on a Cortex-M4
	@$(PYTHON) benchmarks/store.py $(ARGS)

bench-pieces: setup ## how many instructions the longest piece of a training step takes
	@$(PYTHON) benchmarks/pieces.py $(ARGS)

conformance: setup ## ONNX's own test cases against the generated C on the host twin (15 minutes; ARGS="reduce -v" for some)
	@$(PYTHON) benchmarks/conformance.py $(ARGS)

bench-models: setup ## eleven networks on two emulated boards, trained and compared with the NumPy reference (ARGS="lstm gru")
	@$(PYTHON) benchmarks/models_train.py $(ARGS)

bench-host: setup ## a training step of the host twin against PyTorch, where that is installed, on one thread of this computer
	@$(PYTHON) benchmarks/host.py $(ARGS)

bench-browser: setup ## a training step as WebAssembly, in Node.js, against the host twin
	@$(PYTHON) benchmarks/browser.py $(ARGS)

bench-page: setup ## how long a page takes to open, and how large it is: MCUNet's, or that of projects (ARGS="out")
	@$(PYTHON) benchmarks/page.py $(ARGS)

bench-deltas: setup ## bytes and accuracy of what a device has learned, in each form of `pull` (2 minutes)
	@$(PYTHON) benchmarks/deltas.py $(ARGS)

faults: setup ## cut the power of an emulated board 300 times while it trains and saves: nothing may be lost (15 minutes)
	@$(PYTHON) benchmarks/faults.py $(ARGS)
	@$(PYTHON) -m pytest -q -m "long or not long" tests/test_store.py tests/test_save_load.py tests/test_store_device.py

sparse: setup ## table of found update schemes against what the same bytes buy without a search (goes on when interrupted)
	@$(PYTHON) benchmarks/sparse.py $(ARGS)

fuzz-link: setup ## feed the link bytes that no host would send, under sanitizers (10 minutes; ARGS="--seconds 60")
	@$(PYTHON) tests/fuzz_link.py $(ARGS)

docs: setup ## make the site of docs/, for a browser without a network: site/index.html
	@NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --quiet $(ARGS)
	@echo site/index.html

lint: setup ## ruff and mypy alone
	@$(PYTHON) -m ruff check
	@$(PYTHON) -m mypy

clean: ## remove caches and outputs; .venv stays
	@rm -rf build dist out site examples/*/out benchmarks/out .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find tinytrain tests benchmarks examples -name __pycache__ -type d -exec rm -rf {} +
