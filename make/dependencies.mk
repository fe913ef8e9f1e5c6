# make info, make deps: what is needed, what is here, and how to get the rest.
# One word a dependency: name:kind:what:package   kind pkg = pkg-config module, header = header file, program = command.
# Those after OPTIONAL_ are used where they are found and never installed by themselves.

# The GPU plugin is built where the CUDA toolkit is (make/cuda.mk).
CUDA_HOME ?= /usr/local/cuda
NVCC := $(CUDA_HOME)/bin/nvcc
CUDA ?= $(if $(wildcard $(NVCC)),1,0)
CXX := $(if $(filter default,$(origin CXX)),$(if $(findstring clang,$(CC)),clang++,g++),$(CXX))

NEED_BUILD := \
  compiler:program:$(CC):gcc \
  mpi:program:$(MPICC):$(if $(findstring mpich,$(MPICC)),libmpich-dev,libopenmpi-dev) \
  pkg-config:program:pkg-config:pkg-config \
  HDF5:pkg:hdf5:libhdf5-dev \
  libyaml:pkg:yaml-0.1:libyaml-dev \
  jansson:pkg:jansson:libjansson-dev \
  libjpeg-turbo:pkg:libjpeg:libjpeg62-turbo-dev \
  libpng:pkg:libpng:libpng-dev \
  hwloc:pkg:hwloc:libhwloc-dev \
  xxHash:pkg:libxxhash:libxxhash-dev \
  OpenBLAS:pkg:openblas:libopenblas-dev \
  LAPACKE:header:lapacke.h:liblapacke-dev \
  oneDNN:header:dnnl.h:libdnnl-dev \
  Random123:header:Random123/philox.h:librandom123-dev
ifneq ($(findstring clang,$(CC)),)
NEED_BUILD += OpenMP-for-clang:header-clang:omp.h:libomp-dev sanitizers-for-clang:program:clang:libclang-rt-14-dev
endif
NEED_RUN := mpirun:program:$(MPIRUN):$(if $(findstring mpich,$(MPICC)),mpich,openmpi-bin)
NEED_CHECK := $(if $(filter 1,$(CUDA)),C++:program:$(CXX):g++) cmocka:header:cmocka.h:libcmocka-dev h5dump:program:h5dump:hdf5-tools ip:program:ip:iproute2 \
  mandoc:program:mandoc:mandoc lexgrog:program:lexgrog:man-db zsh:program:zsh:zsh
NEED_LINT := clang:program:clang:clang clang-format:program:clang-format:clang-format \
  clang-tidy:program:clang-tidy:clang-tidy cppcheck:program:cppcheck:cppcheck shellcheck:program:shellcheck:shellcheck
# A real Slurm to try the job scripts in; only root can start one, without it that test is skipped.
NEED_LONG := slurmctld:program:slurmctld:slurmctld slurmd:program:slurmd:slurmd sbatch:program:sbatch:slurm-client \
  munge:program:munged:munge
# make deb alone wants these.
NEED_DEB := dpkg-buildpackage:program:dpkg-buildpackage:dpkg-dev debhelper:program:dh:debhelper fakeroot:program:fakeroot:fakeroot \
  lintian:program:lintian:lintian
OPTIONAL_BUILD := libwebp:pkg:libwebp:libwebp-dev

# The needs of what was asked for: `make lint check` wants both.
NEEDS := $(NEED_BUILD) $(NEED_RUN) $(if $(filter check-long,$(MAKECMDGOALS)),$(if $(filter 0,$(shell id -u)),$(NEED_LONG))) $(if $(filter check% demo test-programs,$(MAKECMDGOALS)),$(NEED_CHECK)) \
  $(if $(filter deb,$(MAKECMDGOALS)),$(NEED_DEB)) \
  $(if $(filter lint format fuzz%,$(MAKECMDGOALS)),$(NEED_LINT)) $(if $(filter deps,$(MAKECMDGOALS)),$(NEED_CHECK) $(NEED_LINT))

info: ## every dependency: found, or missing with the package to install
	@printf 'compiler  %s\nMPI       %s\nGPU       %s\nflags     %s\nobjects   %s\n\n' '$(shell $(CC) --version 2>/dev/null | head -n 1)' \
	  '$(shell $(MPICC) --version 2>/dev/null | head -n 1)' '$(if $(filter 1,$(CUDA)),$(shell $(NVCC) --version 2>/dev/null | sed -n 4p),no plugin (CUDA=0, or no $(NVCC)))' '$(strip $(OPT) $(SANFLAGS))' '$(OBJ)'
	@bash make/dependencies.sh info $(NEED_BUILD) $(NEED_RUN) $(NEED_CHECK) $(NEED_LINT) optional $(OPTIONAL_BUILD)

deps: ## install what is missing through apt where that is allowed, else list it
	@bash make/dependencies.sh install $(NEEDS)

.PHONY: info deps
