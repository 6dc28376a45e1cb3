# `make help` lists what there is. Everything runs from one virtual environment, .venv, made from a lock file.
PYTHON ?= python3
LOCK   ?= requirements-dev.txt
SITE   ?= inventories/lab
ARGS   ?=
BMCS   ?= 1000
SERVERS ?= 1000

export KIBAN_WORK ?= $(HOME)/.cache/kiban
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export PATH := $(CURDIR)/.venv/bin:$(PATH):/usr/sbin:/sbin
MAKEFLAGS   += --no-print-directory
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c

LINK    := .ansible/collections/ansible_collections/kiban/baremetal
STAMP   := .venv/lock-$(shell cat $(LOCK) | sha256sum | cut -c1-16)
# The control host of the lab is a network namespace without a route to the outside.
CONTROL := ip netns exec kiban-control
PLAY     = $(IN)ansible-playbook kiban.baremetal

.NOTPARALLEL:
.PHONY: help root packages .venv demo bundle image lab lab-absent site plan verify shell \
        test lint unit switches sanity build-test conformance third-parties integration test-rack molecule test-newest bench-first-light \
        bench-scan bench-faults bench-scale docs accept-tools supported lock clean

help: ## this list
	@sed -nE 's/^([a-z.-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

##### The virtual rack: each step is a playbook, ARGS are more arguments for it, SITE is the inventory

demo: bundle image lab site verify ## everything: from nothing to a verified cluster on the virtual rack
	@echo
	@echo "The cluster serves. What to look at next:"
	@echo "  sudo make shell      a shell on the control host: kubectl get nodes -o wide; kubectl get pods -A"
	@echo "  sudo make site       a second run: it changes nothing"
	@echo "  $(KIBAN_WORK)/sites/lab/verify.json    what was proved, for programs"
	@echo "  $(KIBAN_WORK)/lab/console/             what the servers say on their consoles"
	@echo "  README.md            from here to the first server of your own"
	@echo "  sudo make lab-absent takes the rack away"

bundle: root .venv ## all that a site runs, built or downloaded, with checksums
	$(PLAY).bundle -i $(SITE) $(ARGS)

image: root .venv ## node image and deploy ramdisk
	$(PLAY).image -i $(SITE) $(ARGS)

lab: root .venv ## a rack of blank, powered-off virtual servers
	$(PLAY).lab -i $(SITE) $(ARGS)

lab-absent: root .venv ## take the virtual rack away
	$(PLAY).lab -i $(SITE) -e lab_state=absent $(ARGS)

site plan verify: IN = $(CONTROL) $()
site: root .venv ## bring the site to what its model says
	$(PLAY).site -i $(SITE) $(ARGS)

plan: root .venv ## say what `make site` would do, and touch nothing
	$(PLAY).plan -i $(SITE) $(ARGS)

verify: root .venv ## prove that the cluster serves
	$(PLAY).verify -i $(SITE) $(ARGS)

shell: root ## a shell on the lab's control host, with kubectl
	@KUBECONFIG=$(KIBAN_WORK)/sites/$(notdir $(SITE))/kubeconfig PATH=$(KIBAN_WORK)/bundle/bin:$$PATH $(CONTROL) bash

##### Tests

test: lint unit sanity build-test ## all tests that need neither root nor the rack

lint: .venv packages ## linters and type checks
	ruff check
	shellcheck --severity=warning .ci/run tests/have-packages tests/*/run $$(find roles tests -name '*.sh')
	mypy
	yamllint --strict .
	antsibull-changelog lint
	antsibull-docs lint-collection-docs --plugin-docs --skip-rstcheck --validate-collection-refs self $(LINK)
	ansible-lint

# They have two cores to themselves: real switches beside other tests miss their times.
SWITCHES = $(addprefix tests/unit/plugins/,modules/test_switch_on_ovs.py modules/test_host_network.py \
           modules/test_fabric_playbook.py modules/test_lab_fabric.py modules/test_switch_lag_on_ovs.py \
           $(addprefix plugin_utils/_fabric/,test_cabling_on_lldpd.py test_frr_loads.py \
           test_overlay_on_frr.py test_dual_stack_on_frr.py test_routed_servers.py) plugin_utils/_endpoint/test_endpoint_on_frr.py)

unit: .venv packages ## unit tests
	pytest -n auto --dist worksteal $(addprefix --ignore=,$(SWITCHES))

switches: root .venv ## switch modules and cabling on real Open vSwitch, FRR and lldpd, where they are installed
	pytest $(SWITCHES)

sanity: .venv ## ansible-test sanity
	tests/sanity/run

build-test: .venv ## build the collection, install it in an empty place, use it from there
	tests/build/run

conformance: .venv ## the BMC simulator against the DMTF's validators
	@[ -x build/conformance/bin/rf_protocol_validator ] || { $(PYTHON) -m venv --clear build/conformance && \
	    build/conformance/bin/pip -q install --require-hashes --no-deps -r requirements-conformance.txt; }
	@[ -n "$${KIBAN_REDFISH_SCHEMAS:-}" ] || [ -d build/schemas/vendor ] || ! command -v cargo > /dev/null || { \
	    mkdir -p build/schemas && cp tests/conformance/schemas.toml build/schemas/Cargo.toml && \
	    cargo vendor -q --manifest-path build/schemas/Cargo.toml build/schemas/vendor > /dev/null; }
	pytest tests/conformance

# Of the system's Python, since libvirt's bindings are Debian's.
third-parties: .venv packages ## the bmc_* modules on BMCs that others wrote: sushy-tools, VirtualBMC, ipmi_sim
	@/usr/bin/python3 -c 'import ensurepip, libvirt' || { echo "Run: sudo apt-get install python3-libvirt python3-venv"; exit 1; }
	@[ -e build/third-parties/complete ] || { /usr/bin/python3 -m venv --clear --system-site-packages build/third-parties && \
	    build/third-parties/bin/pip -q --disable-pip-version-check install --ignore-installed --require-hashes --no-deps \
	        -r requirements-third-parties.txt && touch build/third-parties/complete; }
	pytest -rs $(addprefix tests/unit/plugins/modules/test_bmc_on_,sushy.py virtualbmc.py ipmi_sim.py)

integration: root .venv ## the modules for Kubernetes against the bundle's own API server
	pytest tests/integration

test-rack: root .venv ## tests on the running virtual rack
	pytest -m rack tests/rack

molecule: root .venv ## Molecule scenario lab, on the running virtual rack
	$(CONTROL) molecule test -s lab

test-newest: root ## unit and sanity tests with the newest ansible-core, in a Debian 13 root
	tests/newest/run

bench-first-light: root .venv ## stage timeline of a site run, and its ratio to a bare script
	python tests/bench/first_light/bench.py $(ARGS)

bench-scan: .venv ## many simulated BMCs in full inventory, against a bare client: BMCS=1000
	python tests/bench/scan/bench.py --bmcs $(BMCS) $(ARGS)

bench-scale: root .venv ## cost of a run with nothing to do at SERVERS servers, on simulated devices and a real API server
	python tests/bench/scale/bench.py --servers $(SERVERS) $(ARGS)

bench-faults: .venv ## 2,000 seeded runs of the bmc_* modules on simulated BMCs whose requests fail
	python tests/bench/bmc_faults/bench.py $(ARGS)

##### The rest

docs: .venv ## the reference of modules, plugins and roles, in build/docs
	tests/docs/run

supported: .venv ## docs/supported.md anew, with the contract's results where its validator is at hand
	python -m tests.docs.supported --measure

accept-tools: ## the validator that the playbook accept calls, in a Python of its own
	@mkdir -p $(KIBAN_WORK) && $(PYTHON) -m venv --clear $(KIBAN_WORK)/accept
	$(KIBAN_WORK)/accept/bin/pip -q install --require-hashes --no-deps -r requirements-accept.txt

lock: ## resolve the lock files anew
	$(PYTHON) -m venv build/uv && build/uv/bin/pip -q install uv
	$(UV) --python-version 3.11 requirements.in -o requirements.txt
	$(UV) --python-version 3.11 requirements-dev.in -o requirements-dev.txt
	$(UV) --python-version 3.13 requirements-newest.in -o requirements-newest.txt
	$(UV) --python-version 3.11 requirements-conformance.in -o requirements-conformance.txt
	$(UV) --python-version 3.11 requirements-accept.in -o requirements-accept.txt
	$(UV) --python-version 3.11 --no-emit-package libvirt-python requirements-third-parties.in -o requirements-third-parties.txt

lock: UV = build/uv/bin/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
    --custom-compile-command 'make lock'

clean: ## remove what was made in the checkout
	rm -rf .venv .ansible build .mypy_cache .pytest_cache .ruff_cache .hypothesis kiban-baremetal-*.tar.gz

root:
	@[ "$$(id -u)" = 0 ] || { echo "This needs root. Run: sudo make $(MAKECMDGOALS)"; exit 1; }

packages:
	@tests/have-packages

.venv: $(STAMP) $(LINK) ## the virtual environment with the locked tools

$(STAMP):  # named by what is in the lock file, whatever its date
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed. Say which with PYTHON=<interpreter>"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	    { echo "Installing the Debian package python3-venv"; apt-get -qq update; apt-get -qqy -o DPkg::Lock::Timeout=600 install python3-venv; }
	@echo "Making .venv from $(LOCK)"
	@$(PYTHON) -m venv --clear .venv
	@.venv/bin/python -m pip --disable-pip-version-check -q install --require-hashes --no-deps -r $(LOCK)
	@touch $@

$(LINK):
	@mkdir -p $(dir $@) && ln -sfn ../../../.. $@
