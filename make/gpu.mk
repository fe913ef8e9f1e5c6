# make check-gpu-bundle: one archive that checks the GPU backend on a bare machine with a GPU. make check-gpu: the same here.
# PLUGIN=twin puts the twin on the CPU in the GPU plugin's place, to try the bundle itself where there is no GPU.

GPU_CHECKS := models/golden_ops models/ops_random models/ops_small models/golden_optim models/golden_nets \
  $(patsubst tests/%.c,%,$(wildcard tests/cuda/on_device_*.c tests/cuda/comm_*.c))

GPU_PLUGIN = $(if $(filter twin,$(PLUGIN)),build/libmarrs_cuda_cpu.so,build/libmarrs_cuda.so)

check-gpu-bundle: all $(GPU_PLUGIN) $(addprefix $(OBJ)/tests/,$(GPU_CHECKS)) ## build/check-gpu.tar.xz: all GPU checks, for a machine with libc, driver and CUDA libraries
	$(Q)OBJ=$(OBJ) PLUGIN=$(GPU_PLUGIN) bash tests/gpu/bundle.sh build/check-gpu $(GPU_CHECKS)

check-gpu: check-gpu-bundle ## the GPU checks on this machine; exit code 66 where it has no GPU
	$(Q)bash build/check-gpu/check-gpu.sh

.PHONY: check-gpu-bundle check-gpu
