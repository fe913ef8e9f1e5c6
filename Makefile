# marrs_dist: GNU make. "make help" lists the targets, "make info" what was found on this machine.
# Settings: CC MPICC SAN=1 DEBUG=1 V=1 PREFIX DESTDIR search=WORD GOLDEN=DIR RANKS=N CFLAGS LDFLAGS, ONEDNN_HOME=DIR (a oneDNN in DIR/include, DIR/lib)

SHELL := /bin/bash
.DEFAULT_GOAL := all
MAKEFLAGS += --no-builtin-rules
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-7s %s\n' $(1) $(2))

-include local.mk # your own settings, such as CUDA_ARCHS := 90

VERSION := 0.1.0
PREFIX ?= /usr/local
MPICC ?= mpicc
CC := $(if $(filter default,$(origin CC)),gcc,$(CC))
MPIRUN ?= $(if $(findstring mpich,$(MPICC)),mpirun.mpich,mpirun)
CORES := $(shell nproc)
RANKS ?=
export OMPI_CC := $(CC)
export MPICH_CC := $(CC)
export MPIRUN SAN GOLDEN
ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(CORES)
endif

# Before anything is asked of pkg-config: what is missing is installed for the goals that newcomers use. Packagers, who
# say DESTDIR or DEPS=no, have seen to that themselves.
include make/dependencies.mk
ifneq ($(filter check demo lint check-golden check-long fuzz deb $(if $(DESTDIR),,install),$(MAKECMDGOALS)),)
ifeq ($(MAKELEVEL)$(filter no,$(DEPS)),0)
ifneq ($(shell CC=$(CC) bash make/dependencies.sh install $(NEEDS) 1>&2; echo $$?),0)
$(error dependencies are missing (make info lists all))
endif
endif
endif

# ---- flags -------------------------------------------------------------------------------------------------
PACKAGES := hdf5 yaml-0.1 jansson libjpeg libpng hwloc libxxhash openblas
# Debian's LAPACKE is a library of its own, elsewhere OpenBLAS holds it.
OPTIONAL := lapacke libwebp
FOUND := $(strip $(foreach p,$(OPTIONAL),$(shell pkg-config --exists $(p) 2>/dev/null && echo $(p))))
WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wno-unknown-warning-option -Wno-unknown-pragmas -Wno-format-truncation
OPT := $(if $(DEBUG),-O0 -g3,-O3 -g)
comma := ,
SANFLAGS := $(if $(SAN),-fsanitize=address$(comma)undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer) \
  $(if $(FUZZ),-fsanitize=fuzzer-no-link)
# gcc 12 takes MPICH's MPI_STATUSES_IGNORE, (MPI_Status *)1, for an array of no length.
WARN += $(if $(findstring mpich,$(MPICC)),-Wno-stringop-overflow)
CPPFLAGS += -I. -isystem /usr/include/hdf5/serial -D_GNU_SOURCE -DMARRS_VERSION='"$(VERSION)"' \
  $(if $(filter libwebp,$(FOUND)),-DHAVE_WEBP)
CFLAGS_ALL := -std=c17 $(if $(ONEDNN_HOME),-isystem $(ONEDNN_HOME)/include) $(OPT) -fopenmp -fPIC -fno-math-errno $(WARN) $(SANFLAGS) \
  $(patsubst -I%,-isystem %,$(shell pkg-config --cflags $(PACKAGES) $(FOUND) 2>/dev/null)) $(CFLAGS)
LIBS := $(shell pkg-config --libs $(PACKAGES) $(FOUND) 2>/dev/null) $(if $(ONEDNN_HOME),-L$(ONEDNN_HOME)/lib -Wl$(comma)-rpath$(comma)$(ONEDNN_HOME)/lib) -ldnnl -lm -lpthread -ldl
LINK_FLAGS := -rdynamic -fopenmp $(SANFLAGS) $(LDFLAGS)

# Objects lie in a folder named after everything that changes them.
FLAGS_KEY := $(shell echo '$(CC) $(MPICC) $(CPPFLAGS) $(CFLAGS_ALL) $(LINK_FLAGS)' | cksum | cut -d' ' -f1)
OBJ := build/obj-$(FLAGS_KEY)
PROGRAM := build/marrs_dist
PLUGIN_NEEDS := $(OBJ)/plugin-needs

# ---- instruction sets for *.simd.c -------------------------------------------------------------------------
ARCH := $(shell uname -m)
SIMD_ISAS := base $(if $(filter x86_64,$(ARCH)),avx2 avx512 avx512bf16)
isa_base :=
isa_avx2 := -march=x86-64-v3
isa_avx512 := -march=x86-64-v4 -mprefer-vector-width=512
isa_avx512bf16 := $(isa_avx512) -mavx512bf16

# Linked into sanitizer builds only: a plugin that stays loaded keeps its name in leak reports.
SANITIZER_OBJECTS := $(if $(SAN),$(OBJ)/tests/support/sanitizer/no_dlclose.o)

# ---- sources -----------------------------------------------------------------------------------------------
FOLDERS := common comm data_shards models models/ops models/ops/cpu training launcher
SOURCES := $(filter-out %.simd.c,$(wildcard $(addsuffix /*.c,$(FOLDERS))))
SIMD_SOURCES := $(wildcard $(addsuffix /*.simd.c,$(FOLDERS)))
LIB_OBJECTS := $(patsubst %.c,$(OBJ)/%.o,$(filter-out launcher/main.c,$(SOURCES))) \
  $(foreach isa,$(SIMD_ISAS),$(patsubst %.simd.c,$(OBJ)/%.$(isa).o,$(SIMD_SOURCES)))
# The reference and the checking implementation of the operations serve tests only.
TEST_LIB_OBJECTS := $(patsubst %.c,$(OBJ)/%.o,$(wildcard models/ops/ref/*.c tests/support/*.c))
TESTS := $(filter-out tests/support/% tests/fuzz/% tests/bench/% tests/emulated_cuda/%,$(wildcard tests/*/*.c))
TEST_PROGRAMS := $(patsubst tests/%.c,$(OBJ)/tests/%,$(TESTS))

include make/cuda.mk

all: $(PROGRAM) $(CUDA_TARGETS) ## build the program, build/marrs_dist, and where the CUDA toolkit is, its GPU plugin

$(OBJ)/marrs_dist: $(OBJ)/launcher/main.o $(SANITIZER_OBJECTS) $(OBJ)/libmarrs.a $(PLUGIN_NEEDS)
	$(call say,LINK,$@)
	$(Q)$(MPICC) $(LINK_FLAGS) -o $@ $$(cat $(PLUGIN_NEEDS)) $(filter-out $(PLUGIN_NEEDS),$^) $(LIBS)

# The copy is made anew whenever it is not the program of these flags.
$(PROGRAM): $(OBJ)/marrs_dist FORCE
	$(Q)cmp -s $< $@ || { cp -f $< $@.new && mv -f $@.new $@; }

$(OBJ)/libmarrs.a: $(LIB_OBJECTS)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(OBJ)/%.o: %.c
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(MPICC) $(CPPFLAGS) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

# Kernels: contraction to FMA and reordering of sums are wanted here, the rest of -ffast-math is not.
KERNEL_FLAGS := -ffp-contract=fast -fno-trapping-math -fno-signed-zeros
define simd_rule
$$(OBJ)/%.$(1).o: %.simd.c
	$$(call say,CC,'$$< ($(1))')
	$$(Q)mkdir -p $$(@D) && $$(MPICC) $$(CPPFLAGS) $$(CFLAGS_ALL) $$(KERNEL_FLAGS) $$(isa_$(1)) -DSIMD_ISA=$(1) -MMD -MP -c -o $$@ $$<
endef
$(foreach isa,$(SIMD_ISAS),$(eval $(call simd_rule,$(isa))))
# Pixels must equal Pillow's: no contraction there.
$(OBJ)/data_shards/%: KERNEL_FLAGS := -ffp-contract=off

# ---- tests -------------------------------------------------------------------------------------------------
$(OBJ)/tests/%: tests/%.c $(TEST_LIB_OBJECTS) $(SANITIZER_OBJECTS) $(OBJ)/libmarrs.a $(PLUGIN_NEEDS)
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D) && $(MPICC) $(CPPFLAGS) $(CFLAGS_ALL) $(LINK_FLAGS) $$(cat $(PLUGIN_NEEDS)) -MMD -MP -MF $@.d -o $@ $< \
	  $(TEST_LIB_OBJECTS) $(SANITIZER_OBJECTS) $(OBJ)/libmarrs.a -lcmocka $(LIBS)

test-programs: $(TEST_PROGRAMS)

bench-programs: $(patsubst tests/%.c,$(OBJ)/tests/%,$(wildcard tests/bench/*.c))

# Ranks of the demo: as many as cores, from 2 (a peer each) to 8; alone where there is no mpirun.
demo: all ## the default run, printed digits to handwritten ones, in runs/digits: about a minute; RANKS=N
	$(Q)PROGRAM=$(PROGRAM) RANKS='$(RANKS)' bash make/demo.sh

check: all test-programs $(TWIN_TARGETS) check-layers ## all tests; search=WORD picks some, SAN=1 under ASan and UBSan
	$(Q)OBJ=$(OBJ) GPU_OBJ=$(GPU_OBJ) bash tests/run.sh '$(search)'

check-golden: test-programs $(TWIN_TARGETS) ## tests against golden files, those of GOLDEN=DIR (default tests/golden)
	$(Q)OBJ=$(OBJ) bash tests/run.sh golden

check-long: all ## what takes minutes: tests/long/*.sh
	$(Q)OBJ=$(OBJ) bash tests/run.sh --long '$(search)'

check-layers: ## launcher -> training -> {models, comm, data_shards} -> common, and nothing upwards
	$(Q)bash tests/check_layers.sh

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile make/*.mk | sed -E 's/:[^#]*## /\t/' | expand -t 18

clean: ## remove build/
	rm -rf build

include make/gpu.mk make/lint.mk make/install.mk

FORCE:
.PHONY: all demo check check-golden check-long check-layers test-programs bench-programs help clean FORCE
.SECONDARY:
-include $(shell find $(OBJ) -name '*.d' 2>/dev/null)
