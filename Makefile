# `make help` lists what there is. Everything runs from one virtual environment, .venv, made from a lock file.
PYTHON ?= python3
LOCK   ?= requirements-dev.txt
LINK   := .ansible/collections/ansible_collections/kiban/baremetal
STAMP  := .venv/lock-$(shell cat $(LOCK) | sha256sum | cut -c1-16)

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-print-directory
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

.PHONY: help
help: ## what can be made
	@grep -hE '^[a-z.-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

.PHONY: .venv
.venv: $(STAMP) $(LINK) ## the virtual environment with the locked tools

$(STAMP): $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: set PYTHON=<interpreter>"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Installing the Debian package python3-venv (needs root)"; apt-get -qq update; apt-get -qy install python3-venv; }
	@echo "Making .venv from $(LOCK)"
	@$(PYTHON) -m venv --clear .venv
	@.venv/bin/python -m pip --disable-pip-version-check -q install --require-hashes --no-deps -r $(LOCK)
	@touch $@

$(LINK):
	@mkdir -p $(dir $@) && ln -sfn ../../../.. $@
