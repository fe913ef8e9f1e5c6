# The GPU plugin, build/libmarrs_cuda.so, and its twin on the CPU for tests, build/libmarrs_cuda_cpu.so.
# CUDA=0 leaves both out; CUDA_HOME, CUDNN_HOME, NCCL_HOME say where toolkit and libraries are; CUDA_ARCHS which GPUs
# to build for (DEBUG or a developer's build: CUDA_ARCHS=90).

CUDNN_HOME ?= $(CUDA_HOME)
NCCL_HOME ?= $(CUDA_HOME)
CUDA_ARCHS ?= 80 86 89 90 100 120

CUDA_C := $(wildcard models/ops/cuda/*.c launcher/cuda/*.c comm/cuda/*.c)
CUDA_CU := $(wildcard models/ops/cuda/*.cu)
EMULATION := $(wildcard tests/emulated_cuda/*.cpp tests/emulated_cuda/*.c)
last = $(lastword $(CUDA_ARCHS))
CUDA_GENCODE := $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$(a)$(comma)code=sm_$(a)) -gencode arch=compute_$(last)$(comma)code=compute_$(last)
CUDA_INCLUDES := -isystem $(CUDA_HOME)/include -isystem $(CUDNN_HOME)/include -isystem $(NCCL_HOME)/include
NVCC_FLAGS := -std=c++17 -O3 -lineinfo -t2 $(CUDA_GENCODE) -Xptxas -v -Xcompiler -fPIC,-fvisibility=hidden,-Wall -I. -D_GNU_SOURCE
# Kernels read bf16 through vectors of integers.
EMULATED_FLAGS := -std=c++17 $(if $(DEBUG),-O0 -g3,-O2 -g) -fPIC -fno-strict-aliasing -Wall -Wextra -Wno-unknown-pragmas -Wno-unused-parameter \
  -I. -Itests/emulated_cuda $(CUDA_INCLUDES) -D_GNU_SOURCE $(SANFLAGS)
GPU_OBJ := build/gpu-$(shell echo '$(NVCC_FLAGS) $(CC) $(MPICC) $(CFLAGS_ALL)' | cksum | cut -d' ' -f1)
TWIN_OBJ := $(OBJ)/emulated

CUDA_PLUGIN := $(GPU_OBJ)/libmarrs_cuda.so
CUDA_TWIN := $(OBJ)/libmarrs_cuda_cpu.so
CUDA_TARGETS := $(if $(filter 1,$(CUDA)),build/libmarrs_cuda.so)
TWIN_TARGETS := $(if $(filter 1,$(CUDA)),build/libmarrs_cuda_cpu.so)

# ---- the plugin: libraries of the CUDA toolkit are needed only where it is opened ----------------------------
$(GPU_OBJ)/%.cu.o: %.cu
	$(call say,NVCC,$<)
	$(Q)mkdir -p $(@D) && $(NVCC) $(NVCC_FLAGS) -MMD -MP -MF $@.d -c -o $@ $< 2>$@.log || { cat $@.log; exit 1; }

$(GPU_OBJ)/%.o: %.c
	$(call say,CC,'$< (GPU)')
	$(Q)mkdir -p $(@D) && $(MPICC) $(CPPFLAGS) $(CUDA_INCLUDES) $(filter-out -fsanitize% -fno-sanitize%,$(CFLAGS_ALL)) -fvisibility=hidden -MMD -MP -c -o $@ $<

$(CUDA_PLUGIN): $(CUDA_C:%.c=$(GPU_OBJ)/%.o) $(CUDA_CU:%=$(GPU_OBJ)/%.o)
	$(call say,LINK,$@)
	$(Q)$(MPICC) -shared -o $@ $^ -Wl,--exclude-libs,ALL -Wl,-z,now -L$(CUDA_HOME)/lib64 -L$(NCCL_HOME)/lib64 -L$(NCCL_HOME)/lib \
	  -lcublasLt -lnccl -lcudart_static -lstdc++ -ldl -lrt -lpthread -lm

# ---- the twin: the same sources, kernels and libraries on the CPU ---------------------------------------------
$(TWIN_OBJ)/%.cu.o: %.cu
	$(call say,CXX,'$< (on the CPU)')
	$(Q)mkdir -p $(@D) && $(CXX) $(EMULATED_FLAGS) -MMD -MP -MF $@.d -x c++ -c -o $@ $<

$(TWIN_OBJ)/%.cpp.o: %.cpp
	$(call say,CXX,$<)
	$(Q)mkdir -p $(@D) && $(CXX) $(EMULATED_FLAGS) -MMD -MP -MF $@.d -c -o $@ $<

$(TWIN_OBJ)/%.o: %.c
	$(call say,CC,'$< (on the CPU)')
	$(Q)mkdir -p $(@D) && $(MPICC) $(CPPFLAGS) $(CUDA_INCLUDES) -Itests/emulated_cuda $(CFLAGS_ALL) -fvisibility=hidden -MMD -MP -c -o $@ $<

# cuDNN's seam, cudnn_graph.h, is tests/emulated_cuda/cudnn_cpu.cpp in the twin.
TWIN_C := $(filter-out %/cudnn_graph.c,$(CUDA_C))
TWIN_OBJECTS := $(TWIN_C:%.c=$(TWIN_OBJ)/%.o) $(CUDA_CU:%=$(TWIN_OBJ)/%.o) $(patsubst %.c,$(TWIN_OBJ)/%.o,$(EMULATION:%.cpp=$(TWIN_OBJ)/%.cpp.o))
$(CUDA_TWIN): $(TWIN_OBJECTS)
	$(call say,LINK,$@)
	$(Q)$(MPICC) -shared $(SANFLAGS) -o $@ $^ $(shell pkg-config --libs openblas) -lstdc++ -lpthread -lm

# Functions of the program that the plugin calls: linked in even where nothing else calls them.
PRODUCT_TWIN := $(CUDA_C:%.c=$(TWIN_OBJ)/%.o) $(CUDA_CU:%=$(TWIN_OBJ)/%.o)
$(PLUGIN_NEEDS): $(if $(filter 1,$(CUDA)),$(PRODUCT_TWIN)) $(OBJ)/libmarrs.a
	$(Q)mkdir -p $(@D) && { [ -z '$(filter %.o,$^)' ] || comm -12 <(nm -u $(filter %.o,$^) | awk 'NF == 2 { print $$2 }' | sort -u) \
	  <(nm --defined-only $(OBJ)/libmarrs.a 2>/dev/null | awk 'NF == 3 { print $$3 }' | sort -u) | sed 's/^/-Wl,-u,/'; } >$@

build/%.so: FORCE
	$(Q)from=$(if $(findstring _cpu,$@),$(CUDA_TWIN),$(CUDA_PLUGIN)); $(MAKE) --no-print-directory $$from && \
	  { cmp -s $$from $@ || { cp -f $$from $@.new && mv -f $@.new $@; }; }

# Plans of cuDNN are checked without the plugin around them.
$(OBJ)/tests/cuda/cudnn_plans: private TEST_LIB_OBJECTS += $(TWIN_OBJ)/models/ops/cuda/cudnn_graph.o
$(OBJ)/tests/cuda/cudnn_plans: $(TWIN_OBJ)/models/ops/cuda/cudnn_graph.o

# Products are tested inside the twin: plans and the stand-in are no exports of it.
$(OBJ)/tests/cuda/gemm: private TEST_LIB_OBJECTS += $(TWIN_OBJECTS) -lstdc++
$(OBJ)/tests/cuda/gemm: private CPPFLAGS += $(CUDA_INCLUDES)
$(OBJ)/tests/cuda/gemm: $(TWIN_OBJECTS)

# The emulation itself, with kernels and orders that are wrong.
STAND_IN := $(addprefix $(TWIN_OBJ)/tests/emulated_cuda/,faulty.cu.o cudart_cpu.cpp.o)
$(OBJ)/tests/cuda/stand_in: private TEST_LIB_OBJECTS += $(STAND_IN) -lstdc++
$(OBJ)/tests/cuda/stand_in: private CPPFLAGS += $(CUDA_INCLUDES)
$(OBJ)/tests/cuda/stand_in: $(STAND_IN)

# Without the toolkit nothing of this can be built.
ifneq ($(CUDA),1)
TEST_PROGRAMS := $(filter-out $(OBJ)/tests/cuda/%,$(TEST_PROGRAMS))
endif

cuda: $(CUDA_TARGETS) $(TWIN_TARGETS) ## the GPU plugin and its twin for tests (where the CUDA toolkit is)

.PHONY: cuda
-include $(shell find $(GPU_OBJ) $(TWIN_OBJ) -name '*.d' 2>/dev/null)
