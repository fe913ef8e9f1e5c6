# make format, make lint, make fuzz.

C_FILES := $(wildcard $(addsuffix /*.[ch],$(FOLDERS) models/ops/ref models/ops/cuda comm/cuda launcher/cuda tests/*))
SHELL_FILES := $(wildcard .ci/run make/*.sh packaging/*.sh tests/*.sh tests/*/*.sh slurm/*.sh slurm/*.sbatch slurm/submit)
# clang-tidy has its own runs of the preprocessor, so one stamp a file: only what changed is looked at again.
# Not the tests: the analyser does not know that a failed assertion does not return.
TIDY_FILES := $(SOURCES) $(wildcard models/ops/ref/*.c)
TIDY_STAMPS := $(patsubst %.c,build/tidy/%.stamp,$(TIDY_FILES))
# OMPI_CC keeps the wrapper's own flags out of the way: headers only.
MPI_CFLAGS := $(shell $(MPICC) --showme:compile 2>/dev/null | tr ' ' '\n' | grep '^-I' | sed 's/^-I/-isystem /')
CHECKER_FLAGS := $(CPPFLAGS) -std=c17 -fopenmp $(MPI_CFLAGS) $(patsubst -I%,-isystem %,$(shell pkg-config --cflags $(PACKAGES) $(FOUND) 2>/dev/null)) \
  -Wno-unknown-pragmas

format: ## clang-format all sources in place
	$(Q)clang-format -i $(C_FILES)

lint: deps lint-format lint-shell lint-cppcheck lint-tidy ## clang-format, clang-tidy, cppcheck, shellcheck: all clean

lint-format:
	$(call say,FORMAT,'$(words $(C_FILES)) files')
	$(Q)clang-format --dry-run -Werror $(C_FILES)

lint-shell:
	$(call say,SHELL,'$(words $(SHELL_FILES)) scripts')
	$(Q)shellcheck -x $(SHELL_FILES)

lint-cppcheck:
	$(call say,CPPCHECK,'$(words $(SOURCES)) files')
	$(Q)mkdir -p build/cppcheck && cppcheck -q -j$(CORES) --cppcheck-build-dir=build/cppcheck --std=c11 --language=c --error-exitcode=1 \
	  --inline-suppr --enable=warning,performance,portability --suppressions-list=make/cppcheck.txt \
	  -I. -D_GNU_SOURCE -DMARRS_VERSION='""' -DSIMD_ISA=base $(SOURCES) $(SIMD_SOURCES)

lint-tidy: $(TIDY_STAMPS)

build/tidy/%.stamp: %.c .clang-tidy
	$(call say,TIDY,$<)
	$(Q)mkdir -p $(@D) && clang-tidy --quiet $< -- $(CHECKER_FLAGS) -MMD -MF $@.d -MT $@ 2>$@.log || { cat $@.log; exit 1; }
	$(Q)touch $@

# ---- fuzzing: tests/fuzz/NAME.c holds LLVMFuzzerTestOneInput; its corpus lies in tests/fuzz/corpus/NAME/ ----------------
FUZZ_TARGETS := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/*.c))
SECONDS ?= 600

fuzz: ## build the fuzz targets with clang and libFuzzer, in build/fuzz
	$(Q)$(MAKE) --no-print-directory CC=clang SAN=1 FUZZ=1 fuzz-programs

fuzz-programs: $(addprefix build/fuzz/,$(FUZZ_TARGETS))

build/fuzz/%: tests/fuzz/%.c $(OBJ)/libmarrs.a $(SANITIZER_OBJECTS)
	$(call say,FUZZ,$@)
	$(Q)mkdir -p $(@D) && $(MPICC) $(CPPFLAGS) $(CFLAGS_ALL) $(LINK_FLAGS) -fsanitize=fuzzer -o $@ $< $(SANITIZER_OBJECTS) $(OBJ)/libmarrs.a $(LIBS)

fuzz-run: fuzz ## run one: TARGET=config SECONDS=600; findings in build/fuzz/
	$(Q)mkdir -p build/fuzz/work-$(TARGET) && nice build/fuzz/$(TARGET) -max_total_time=$(SECONDS) -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 \
	  -artifact_prefix=build/fuzz/$(TARGET)- build/fuzz/work-$(TARGET) $(wildcard tests/fuzz/corpus/$(TARGET))

.PHONY: format lint lint-format lint-shell lint-cppcheck lint-tidy fuzz fuzz-programs fuzz-run
-include $(wildcard build/tidy/*/*.d build/tidy/*/*/*.d build/tidy/*/*/*/*.d)
