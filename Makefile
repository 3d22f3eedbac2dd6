# make             set up .venv with the two packages that the tools import
# make demo        show the whole suite at work, in a scratch directory (LISTEN=1, MAIL=files)
# make check       all tests (CSPOOL_CORPUS=directory: also on the mail there)
# make bench       measure what things cost, beside the least they could and other programs (MESSAGES=10000; minutes);
#                  .bench-history has each run, and .bench-history.svg the picture
# make lint        check style, types, shell, manual pages, and imported packages for known vulnerabilities
# make install     PREFIX=/usr/local DESTDIR= PYTHON=python3 (which must have PyNaCl and docopt)
# make dist        a release archive, which pip, pipx and Homebrew take too
# make wheel       a wheel made from it
# make html        the manuals for a web site, in html/
# make outdated    list the packages that are pinned and have a newer version
# make deb         a package for Debian
# make uninstall clean

PYTHON = python3
VENV = .venv
PREFIX = /usr/local
DESTDIR =
OUT = .
MAINTAINER = cspool <cspool@packages.example.org>

# Wheels run no code when they are installed. docopt has none, and is what its hash says.
PIP = $(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes --only-binary=:all: --no-binary=docopt
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' lib/cspool/__init__.py)
TOOLS := $(wildcard bin/cspool*)
SHELLS = bash:bash-completion/completions/cspool zsh:zsh/site-functions/_cspool fish:fish/vendor_completions.d/cspool.fish
PAGES := $(wildcard man/*.[1578])
ROOMS := $(patsubst %/__init__.py,%,$(wildcard lib/cspool/__init__.py lib/cspool/*/__init__.py))
# Ignore the MAIL that a login shell sets in the environment.
ifneq ($(origin MAIL),command line)
MAIL =
endif
MESSAGES = 10000
COMMA := ,
JOBS := $(shell nproc 2>/dev/null || echo 2)

# This PATH has the tools of this tree first.
export PATH := $(CURDIR)/bin:$(abspath $(VENV))/bin:$(PATH)
export PYTHONDONTWRITEBYTECODE = 1

all: $(VENV)/ready

$(VENV)/ready: lib/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r lib/requirements.txt
	touch $@

$(VENV)/ready-for-tests: t/requirements.txt $(VENV)/ready
	$(PIP) -r t/requirements.txt
	touch $@

demo: all
	@sh t/demo.sh $(MAIL)

check: $(VENV)/ready-for-tests
	prove --jobs $(JOBS) --failures --comments t/*.t
	pytest -q -n $(JOBS) t

bench: all
	@$(VENV)/bin/python t/bench.py $(MESSAGES)

lint: $(VENV)/ready-for-tests
	ruff check .
	ruff format --check .
	mypy
	shellcheck -x .ci/run .ci/commits .debian/p* man/examples/deliver t/*.sh t/*.t
	mandoc -Tlint -W warning $(PAGES)
	@sh t/audit.sh

install:
	install -d $(DESTDIR)$(PREFIX)/bin
	for room in $(ROOMS); do \
		install -d $(DESTDIR)$(PREFIX)/$$room && install -m 644 $$room/*.py $(DESTDIR)$(PREFIX)/$$room || exit 1; \
	done
	for tool in $(notdir $(TOOLS)); do \
		sed "1s|.*|#!$$(command -v $(PYTHON))|" bin/$$tool > $(DESTDIR)$(PREFIX)/bin/$$tool && \
		chmod 755 $(DESTDIR)$(PREFIX)/bin/$$tool || exit 1; \
	done
	$(PYTHON) -m compileall -q -s "$(DESTDIR)" $(DESTDIR)$(PREFIX)/lib/cspool
	for shell in $(SHELLS); do \
		file=$(DESTDIR)$(PREFIX)/share/$${shell#*:} && install -d $${file%/*} && \
		$(PYTHON) bin/cspool completion $${shell%%:*} > $$file || exit 1; \
	done
	for tool in $(notdir $(filter-out bin/cspool,$(TOOLS))); do \
		ln -sf cspool $(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$tool && \
		ln -sf cspool.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/$$tool.fish || exit 1; \
	done
	for page in $(PAGES); do \
		install -d $(DESTDIR)$(PREFIX)/share/man/man$${page##*.} && \
		install -m 644 $$page $(DESTDIR)$(PREFIX)/share/man/man$${page##*.} || exit 1; \
	done
	install -d $(DESTDIR)$(PREFIX)/share/doc/cspool/examples
	install -m 644 man/examples/* $(DESTDIR)$(PREFIX)/share/doc/cspool/examples
	install -m 644 README NEWS $(DESTDIR)$(PREFIX)/share/doc/cspool
	cd $(DESTDIR)$(PREFIX)/share && for file in man/man?/cspool* doc/cspool/README doc/cspool/examples/*; do \
		sed 's|/usr/local|$(PREFIX)|g' "$$file" > "$$file.new" && cat "$$file.new" > "$$file" && rm "$$file.new" || exit 1; \
	done

uninstall:
	rm -rf $(DESTDIR)$(PREFIX)/lib/cspool $(DESTDIR)$(PREFIX)/share/doc/cspool
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/,$(TOOLS)) $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_cspool
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/share/bash-completion/completions/,$(notdir $(TOOLS)))
	rm -f $(patsubst bin/%,$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/%.fish,$(TOOLS))
	for page in $(notdir $(PAGES)); do rm -f $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$$page; done

dist:
	sections=$$(for n in 1 5 7 8; do echo "\"share/man/man$$n\" = [\"man/*.$$n\"]"; done | tr '\n' '|'); \
	sed "s/@VERSION@/$(VERSION)/; s!@TOOLS@!$(patsubst %,\"%\"$(COMMA),$(TOOLS))!; s!@PAGES@!$$sections!" .dist/pyproject.in | \
		tr '|' '\n' > $(OUT)/pyproject.toml
	tar -czf $(OUT)/cspool-$(VERSION).tar.gz --exclude=__pycache__ --sort=name --owner=0 --group=0 --numeric-owner \
		--transform='s,^,cspool-$(VERSION)/,' -C $(abspath $(OUT)) pyproject.toml -C $(CURDIR) \
		.ci .debian .dist .gitignore .mypy.ini .pytest.ini .ruff.toml .shellcheckrc COPYING Makefile NEWS README bin lib man t

wheel: dist
	$(PYTHON) -m venv $(OUT)/.wheel
	$(OUT)/.wheel/bin/pip wheel --quiet --disable-pip-version-check --no-deps -w $(OUT) $(OUT)/cspool-$(VERSION).tar.gz
	rm -rf $(OUT)/.wheel

html:
	install -d $(OUT)/html
	install -m 644 man/html/style.css man/html/pipeline.svg $(OUT)/html
	for page in $(PAGES); do \
		mandoc -Thtml -Ostyle=style.css,man=%N.%S.html $$page | \
			awk '/<pre>/ && !done && "'$$page'" == "man/cspool.7" { print "<img src=\"pipeline.svg\" alt=\"the pipeline\">"; hidden = 1 } \
				!hidden { print } /<\/pre>/ && hidden { hidden = 0; done = 1 }' > $(OUT)/html/$${page#man/}.html || exit 1; \
	done
	ln -sf cspool.7.html $(OUT)/html/index.html

outdated: $(VENV)/ready-for-tests
	$(VENV)/bin/pip list --disable-pip-version-check --outdated

deb:
	rm -rf $(OUT)/.deb
	$(MAKE) --no-print-directory install DESTDIR=$(OUT)/.deb PREFIX=/usr PYTHON=/usr/bin/python3
	find $(OUT)/.deb -name __pycache__ -prune -exec rm -rf {} +
	gzip -9n $(OUT)/.deb/usr/share/man/man*/*
	install -m 644 COPYING $(OUT)/.deb/usr/share/doc/cspool/copyright
	gzip -9nc NEWS > $(OUT)/.deb/usr/share/doc/cspool/NEWS.gz
	printf 'cspool (%s) unstable; urgency=medium\n\n  * See NEWS.gz.\n\n -- %s  %s\n' '$(VERSION)' '$(MAINTAINER)' \
		"$$(date -uR -r NEWS)" | gzip -9n > $(OUT)/.deb/usr/share/doc/cspool/changelog.gz
	rm $(OUT)/.deb/usr/share/doc/cspool/NEWS
	mv $(OUT)/.deb/usr/share/zsh/site-functions $(OUT)/.deb/usr/share/zsh/vendor-completions
	install -d $(OUT)/.deb/DEBIAN
	sed 's/@VERSION@/$(VERSION)/; s/@MAINTAINER@/$(MAINTAINER)/' .debian/control > $(OUT)/.deb/DEBIAN/control
	install -m 755 .debian/postinst .debian/prerm $(OUT)/.deb/DEBIAN
	dpkg-deb --root-owner-group --build $(OUT)/.deb $(OUT)/cspool_$(VERSION)_all.deb
	rm -rf $(OUT)/.deb

clean:
	rm -rf $(VENV) .demo .hypothesis .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

.PHONY: all demo check bench lint install uninstall dist wheel html outdated deb clean
