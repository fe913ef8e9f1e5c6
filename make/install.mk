# make install, uninstall, dist.

SHARE := $(DESTDIR)$(PREFIX)/share/marrs_dist
DOC := $(DESTDIR)$(PREFIX)/share/doc/marrs_dist

install: all ## program, configurations, data of the default run, documents: PREFIX=/usr/local DESTDIR=
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(SHARE)/configs' '$(DOC)'
	install -m 755 $(PROGRAM) '$(DESTDIR)$(PREFIX)/bin/marrs_dist'
	cp -R configs/. '$(SHARE)/configs/'
	$(if $(wildcard data),install -d '$(SHARE)/data' && cp -R data/. '$(SHARE)/data/')
	install -d '$(SHARE)/slurm' && cp -R slurm/. '$(SHARE)/slurm/'
	install -m 644 README.md LICENSE CHANGELOG.md CITATION.cff docs/*.md '$(DOC)/'

uninstall: ## remove what install put there
	rm -f '$(DESTDIR)$(PREFIX)/bin/marrs_dist'
	rm -rf '$(SHARE)' '$(DOC)'

dist: ## build/marrs_dist-VERSION.tar.gz of the committed sources
	$(Q)mkdir -p build
	git archive --format=tar.gz --prefix=marrs_dist-$(VERSION)/ -o build/marrs_dist-$(VERSION).tar.gz HEAD
	@echo build/marrs_dist-$(VERSION).tar.gz

.PHONY: install uninstall dist
