# make manual, install, uninstall, dist.

# Where things go. The program finds its data relative to itself: bin/ and share/ may be moved together.
BINDIR := $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
SHARE := $(PREFIX)/share/marrs_dist
DOCDIR ?= $(PREFIX)/share/doc/marrs_dist
MANDIR := $(PREFIX)/share/man
BASH_COMPLETION := $(PREFIX)/share/bash-completion/completions/marrs_dist
ZSH_COMPLETION := $(PREFIX)/share/zsh/site-functions/_marrs_dist
MODULEDIR ?= $(PREFIX)/share/modulefiles

# The day that manual pages and archives bear: the last commit's, else the change log's.
ifndef SOURCE_DATE_EPOCH
SOURCE_DATE_EPOCH := $(or $(shell git log -1 --format=%ct 2>/dev/null),$(shell stat -c %Y CHANGELOG.md))
endif
export SOURCE_DATE_EPOCH
TODAY = $(shell date -u -d @$(SOURCE_DATE_EPOCH) +%Y-%m-%d)

# ---- manual pages: section 1 and the configuration from the program's tables, the others from docs/ -------------------
MAN ?= build/man
DOC_PAGES := marrs_dist-shard.5=docs/format-shard.md marrs_dist-features.5=docs/format-features.md \
  marrs_dist-checkpoint.5=docs/format-checkpoint.md marrs_dist-tutorial.7=docs/tutorial.md

manual: $(PROGRAM) ## the pages of the manual, in build/man
	$(Q)rm -rf '$(MAN)' && mkdir -p '$(MAN)'
	$(Q)for page in $$($(PROGRAM) manual); do $(PROGRAM) manual $$page >'$(MAN)'/$$page || exit; done
	$(Q)for pair in $(DOC_PAGES); do page=$${pair%%=*}; \
	  awk -v page=$${page%.*} -v section=$${page##*.} -v date=$(TODAY) -v version=$(VERSION) -f make/manual.awk $${pair#*=} >'$(MAN)'/$$page || exit; done

# ---- install ---------------------------------------------------------------------------------------------------------------
# The job scripts look for the program on the PATH here, not in build/.
install: all manual ## program, configurations, data of the default run, manual, completion, job scripts: PREFIX=/usr/local DESTDIR=
	install -d '$(DESTDIR)$(BINDIR)' '$(DESTDIR)$(SHARE)/configs/sweeps' '$(DESTDIR)$(SHARE)/data/digits' '$(DESTDIR)$(SHARE)/slurm' '$(DESTDIR)$(DOCDIR)'
	install -m 755 $(PROGRAM) '$(DESTDIR)$(BINDIR)/marrs_dist'
	install -m 644 configs/*.yaml '$(DESTDIR)$(SHARE)/configs/'
	install -m 644 configs/sweeps/*.yaml '$(DESTDIR)$(SHARE)/configs/sweeps/'
	install -m 644 data/digits/*.h5 data/digits/*.txt data/digits/fonts.tsv data/digits/README.md '$(DESTDIR)$(SHARE)/data/digits/'
	install -m 755 slurm/submit slurm/*.sbatch '$(DESTDIR)$(SHARE)/slurm/'
	sed -i -e 's|build/marrs_dist|marrs_dist|g' -e 's|that holds build/ and configs/|that the configuration'"'"'s paths start from|' '$(DESTDIR)$(SHARE)'/slurm/*.sbatch
	sed 's|build/marrs_dist|marrs_dist|g; s|holds `build/` and|holds|' slurm/README.md >'$(DESTDIR)$(SHARE)/slurm/README.md'
	$(Q)for page in $(MAN)/*; do install -D -m 644 $$page '$(DESTDIR)$(MANDIR)'/man$${page##*.}/$${page##*/} || exit; done
	install -d '$(DESTDIR)$(dir $(BASH_COMPLETION))' '$(DESTDIR)$(dir $(ZSH_COMPLETION))' '$(DESTDIR)$(MODULEDIR)/marrs_dist'
	$(PROGRAM) completion bash >'$(DESTDIR)$(BASH_COMPLETION)'
	$(PROGRAM) completion zsh >'$(DESTDIR)$(ZSH_COMPLETION)'
	sed 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|' packaging/modulefile.lua >'$(DESTDIR)$(MODULEDIR)/marrs_dist/$(VERSION).lua'
	sed 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|' packaging/modulefile.tcl >'$(DESTDIR)$(MODULEDIR)/marrs_dist/$(VERSION)'
	$(if $(wildcard build/libmarrs_cuda.so),install -D -m 644 build/libmarrs_cuda.so '$(DESTDIR)$(LIBDIR)/marrs_dist/libmarrs_cuda.so')
	install -m 644 README.md LICENSE CHANGELOG.md CITATION.cff docs/*.md $(wildcard docs/*.png docs/*.svg) '$(DESTDIR)$(DOCDIR)/'

uninstall: ## remove what install put there
	rm -f '$(DESTDIR)$(BINDIR)/marrs_dist' '$(DESTDIR)$(BASH_COMPLETION)' '$(DESTDIR)$(ZSH_COMPLETION)'
	rm -f '$(DESTDIR)$(MANDIR)'/man[157]/marrs_dist.1 '$(DESTDIR)$(MANDIR)'/man[157]/marrs_dist-*.[157]
	rm -rf '$(DESTDIR)$(SHARE)' '$(DESTDIR)$(DOCDIR)' '$(DESTDIR)$(MODULEDIR)/marrs_dist' '$(DESTDIR)$(LIBDIR)/marrs_dist'

# ---- archives and packages -------------------------------------------------------------------------------------------------
# The same commit gives the same bytes: git's archive bears the commit's time, gzip -n none.
DIST := build/marrs_dist-$(VERSION).tar.gz

dist: ## build/marrs_dist-VERSION.tar.gz of the committed sources
	$(Q)mkdir -p build
	$(Q)git rev-parse -q --verify HEAD >/dev/null || { echo 'make dist wants a git checkout: what is not committed is not part of it' >&2; exit 1; }
	$(Q)git diff --quiet HEAD || echo 'note: changes that are not committed are left out' >&2
	$(Q)git archive --format=tar --prefix=marrs_dist-$(VERSION)/ HEAD | gzip -n9 >$(DIST)
	@echo $(DIST)

deb: ## a Debian package, in build/deb; what it wants is installed (make deps for lintian too)
	$(Q)VERSION=$(VERSION) bash packaging/deb.sh

.PHONY: manual install uninstall dist deb
