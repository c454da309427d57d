# Builds, tests and installs Sluice. `make help` lists the targets.
#
# Everything that is made goes below $(B). $(B)/flags holds the compiler and its flags; objects depend on it, so a build
# with other flags in the same folder is a whole one. Sanitizers and coverage build in folders of their own below $(B).
B ?= build
CC = gcc
OPT ?= -O3 -g
SAN ?=
PREFIX ?= /usr/local
VERSION = 0.1.0
PYTHON = /usr/bin/python3
JOBS := $(shell nproc)

PACKAGES = libevent_core libcurl hiredis jansson yaml-0.1 libssl libcrypto zlib libzstd
PACKAGE_CFLAGS := $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
PACKAGE_LIBS := $(shell pkg-config --libs $(PACKAGES) 2>/dev/null)

# Debian 13 has llhttp as a library; Debian 12 has its sources in node-llhttp, which are built here, strict.
ifneq ($(wildcard /usr/include/llhttp.h),)
LLHTTP_LIBS = -lllhttp
else
LLHTTP = $(patsubst %,$(B)/llhttp/%.o,api http llhttp)
LLHTTP_CFLAGS = -I/usr/share/include/llhttp
endif

# What only some compilers and machines have: asked, not assumed.
supported = $(shell for flag in $(1); do $(CC) -Werror $$flag -x c -c /dev/null -o /dev/null 2>/dev/null && echo $$flag; done)
HARDEN := -fstack-protector-strong $(call supported,-fstack-clash-protection -fcf-protection=full -mbranch-protection=standard)
# _FORTIFY_SOURCE needs an optimiser, and hides errors from the sanitizers.
ifeq ($(SAN)$(filter -O0,$(OPT)),)
FORTIFY = -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3
endif
WARN = -Wall -Wextra -Wpedantic -Wshadow -Werror
CPPFLAGS = -D_GNU_SOURCE $(FORTIFY) -DSLUICE_VERSION='"$(VERSION)"' -I. -I$(B)/gen $(LLHTTP_CFLAGS) $(PACKAGE_CFLAGS)
CFLAGS = -std=c11 $(OPT) $(WARN) $(HARDEN) -fPIE $(SAN) -pthread
LDFLAGS = -pie -Wl,-z,relro,-z,now,-z,noexecstack $(SAN) -pthread
LDLIBS = $(PACKAGE_LIBS) $(LLHTTP_LIBS) -lm

objects = $(patsubst %.c,$(B)/%.o,$(wildcard $(1)))
programs = $(patsubst %.c,$(B)/%,$(wildcard $(1)))
LIB = $(call objects,lib/*.c) $(B)/gen/scripts.o
SVC = $(filter-out $(B)/svc/main.o,$(call objects,svc/*.c svc/dialect/*.c))
MAIN = $(call objects,svc/main.c)
SIM = $(call objects,tests/sim/*.c)
LOAD = $(call objects,tests/bench/load*.c)
SUPPORT = $(call objects,tests/support/*.c)
SUPPORT_PROGRAMS = $(B)/tests/fault-proxy $(B)/tests/latency-relay $(B)/tests/http-echo $(B)/tests/clock-shift.so
UNIT = $(call programs,tests/unit/*.c tests/lua/*.c tests/flow/*.c)
FUZZ = $(call programs,tests/fuzz/fuzz_*.c)
LOADER = $(if $(LOAD),$(B)/sluice-load)
ALL_OBJECTS = $(LIB) $(WORLD) $(SVC) $(MAIN) $(SIM) $(LOAD) $(SUPPORT) $(UNIT:=.o) $(FUZZ:=.o) $(call objects,tests/*/*.c tests/support/programs/*.c)
C_FILES = $(wildcard lib/*.[ch] svc/*.[ch] svc/*/*.[ch] tests/*/*.[ch] tests/*/*/*.[ch])

# `make V=1` shows the commands.
Q = $(if $(V),,@)
say = $(if $(V),,@echo "  $(1)	$(patsubst $(B)/%,%,$@)")
# Within a recipe: as many jobs as cores, unless the caller chose.
again = $(MAKE) --no-print-directory $(if $(findstring -j,$(MAKEFLAGS)),,-j$(JOBS))

all: $(B)/sluice $(B)/sluice-sim $(LOADER) $(B)/libsluice.a ## build the program, the library and the simulator (the default)

# A request takes some eighty small allocations, most of them libcurl's: jemalloc spares a twentieth of all its CPU. Sanitizers bring their own.
$(B)/sluice: $(MAIN) $(B)/libservice.a $(B)/libsluice.a
	$(call say,link)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) $(if $(SAN),,-ljemalloc)
$(B)/sluice-sim: $(SIM) $(B)/libsluice.a $(LLHTTP)
	$(call say,link)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(B)/bench_pool: $(B)/tests/bench/bench_pool.o $(B)/libsluice.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(B)/sluice-load: $(LOAD) $(B)/libsluice.a $(LLHTTP)
	$(call say,link)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# The folders are prerequisites, so that a file that goes away leaves its archive too.
$(B)/libsluice.a: $(LIB) lib/.
	$(call say,ar)
	$(Q)rm -f $@ && ar rcs $@ $(LIB)
# An archive, so that a test takes along only what it names.
$(B)/libservice.a: $(SVC) $(LLHTTP) svc/.
	$(call say,ar)
	$(Q)rm -f $@ && ar rcs $@ $(SVC) $(LLHTTP)

# The fault proxy for tests that drive the program from outside; it needs nothing of ours.
$(B)/tests/fault-proxy: $(B)/tests/support/programs/fault_proxy.o $(B)/tests/support/fault_proxy.o
	$(call say,link)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^
# The link that is as long as a wide-area one, for benches.
$(B)/tests/latency-relay: $(B)/tests/support/programs/latency_relay.o $(B)/libsluice.a
	$(call say,link)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^
# The HTTP server alone, with an answer that says what it understood.
$(B)/tests/http-echo: $(B)/tests/support/programs/http_echo.o $(B)/libservice.a $(B)/libsluice.a
	$(call say,link)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
# A wall clock to be set, for any program: never with a sanitizer, which would have to come first in it.
$(B)/tests/clock-shift.so: tests/support/programs/clock_shift.c $(B)/flags
	$(call say,link)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -std=c11 $(OPT) $(WARN) $(HARDEN) -fPIC -shared -o $@ $<
# The flow's tests bring the world around it: their stand-ins are taken instead of the archives' members of the same names.
# Named explicitly as well: of a part that is new make would not know that it can be built, and take the rule of the other tests.
WORLD = $(call objects,tests/flow/world/*.c)
$(call programs,tests/flow/*.c): $(WORLD)
$(B)/tests/flow/%: $(B)/tests/flow/%.o $(WORLD) $(B)/libservice.a $(B)/libsluice.a
	$(call say,link)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka
# A fuzz target is built twice: here with replay.c, to run its corpus as a test, and below with clang, to fuzz.
$(FUZZ): $(B)/tests/fuzz/replay.o
$(B)/tests/%: $(B)/tests/%.o $(SUPPORT) $(B)/libservice.a $(B)/libsluice.a
	$(call say,link)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka
$(B)/fuzzer/%: $(B)/tests/fuzz/%.o $(SUPPORT) $(B)/libservice.a $(B)/libsluice.a
	$(call say,link)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LDLIBS) -lcmocka

$(B)/gen/scripts.c: $(wildcard lua/*.lua lua/part/*.lua) lua/. lua/part/. tests/check/embed.py
	$(call say,embed)
	@mkdir -p $(@D)
	$(Q)$(PYTHON) tests/check/embed.py $(@D) $(wildcard lua/*.lua)
$(B)/gen/scripts.h: $(B)/gen/scripts.c
$(B)/gen/%.o: $(B)/gen/%.c $(B)/flags
	$(call say,cc)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<
$(B)/llhttp/%.o: /usr/share/llhttp/%.c $(B)/flags
	$(call say,cc)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 $(OPT) $(FORTIFY) $(HARDEN) $(SAN) -fPIE -DLLHTTP_STRICT_MODE=1 $(LLHTTP_CFLAGS) -c -o $@ $<
$(B)/%.o: %.c $(B)/flags | $(B)/gen/scripts.h
	$(call say,cc)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# Written only when it changes. Without the libraries nothing can be built, and pkg-config's own words are long.
$(B)/flags: force
	@mkdir -p $(@D)
	@pkg-config --exists $(PACKAGES) 2>/dev/null || { echo "make: libraries are missing; 'make packages' installs them" >&2; exit 1; }
	@printf '%s\n' "$$($(CC) --version | head -n 1)" '$(subst ','\'',$(CPPFLAGS) $(CFLAGS) $(LDFLAGS))' >$@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

packages: ## install the Debian packages that building and running need
	@tests/check/packages.sh build run

run: ## build and serve on 127.0.0.1:8080, with the simulator where no provider's key is set
	@tests/check/packages.sh build run
	@$(again) all
	@docker/run.sh $(B)

# --- proof ---

lib: $(B)/libsluice.a
unit: $(UNIT)
replay: $(FUZZ)
tests: all $(UNIT) $(FUZZ) $(SUPPORT_PROGRAMS)

test: ## run every test: unit, scripts, flow, fuzz corpora, checks, the whole program
	@tests/check/packages.sh build test check
	@$(again) tests
	@tests/run --build $(B)

check: ## check layers, lengths, names, formatting, documents (fast; no network once its packages are there)
	@tests/check/packages.sh check
	@$(PYTHON) -m pytest -q -p no:cacheprovider tests/check

# The suites under sanitizers take the same tests; only the build differs.
ASAN = B=$(B)/asan OPT="-O1 -g -fno-omit-frame-pointer" SAN="-fsanitize=address,undefined -fno-sanitize-recover=all"
asan: ## run the whole suite under AddressSanitizer and UndefinedBehaviorSanitizer
	@tests/check/packages.sh build test check
	@$(again) $(ASAN) tests
	@tests/run --build $(B)/asan --skip tests/check

TSAN = B=$(B)/tsan CC=clang OPT="-O1 -g -fno-omit-frame-pointer" SAN="-fsanitize=thread"
TSAN_ONLY ?= tests/(unit|flow|e2e)
tsan: ## run the tests that may have several threads under ThreadSanitizer
	@tests/check/packages.sh build test ci
	@$(again) $(TSAN) tests
	@tests/run --build $(B)/tsan --skip tests/check --only '$(TSAN_ONLY)'

SOAK_ROUNDS ?= 50
SOAK_ONLY ?= flight_faults|retry_|breaker\b|regions|upstream_faults|redis_(share|line|losses|away)|sentinel|random_configurations|(limiter|pool)_random
soak: ## run the faults that kill, stop and pause, and what chance brings, SOAK_ROUNDS (50) times each, and hold the promised times; SOAK_ONLY='redis_|sentinel': those of Redis
	@tests/check/packages.sh build test
	@$(again) tests
	@SLUICE_LONG=1 SLUICE_SOAK=$(SOAK_ROUNDS) tests/run --build $(B) --slow 6 --only 'tests/(e2e/test_|unit/test_(?=.*_random))($(SOAK_ONLY))'

FUZZ_SECONDS ?= 60
fuzz: ## run every fuzzer for FUZZ_SECONDS (60) with libFuzzer, from its corpus
	@tests/check/packages.sh build test ci
	@$(again) B=$(B)/fuzz CC=clang OPT="-O1 -g" SAN="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all" fuzzers
	@for target in $(notdir $(FUZZ)); do \
		echo "$$target, $(FUZZ_SECONDS) s"; \
		found=$(B)/fuzz/corpus/$${target#fuzz_}; mkdir -p "$$found"; \
		$(B)/fuzz/fuzzer/$$target -max_total_time=$(FUZZ_SECONDS) -timeout=10 -artifact_prefix="$$found-" -verbosity=0 \
			-print_final_stats=1 "$$found" tests/fuzz/corpus/$${target#fuzz_} || exit 1; \
	done
fuzzers: $(patsubst tests/fuzz/%.c,$(B)/fuzzer/%,$(wildcard tests/fuzz/fuzz_*.c))

COVERAGE = B=$(B)/coverage OPT="-O0 -g" SAN="--coverage"
coverage: ## print how much of lib and svc the suite covers; fails below 85 % of lines
	@tests/check/packages.sh build test check
	@find $(B)/coverage -name '*.gcda' -delete 2>/dev/null || true
	@$(again) $(COVERAGE) tests
	@tests/run --build $(B)/coverage --skip tests/check
	@$(PYTHON) tests/check/coverage.py $(B)/coverage 85

tidy: $(B)/gen/scripts.h ## run clang-tidy over the sources
	@tests/check/packages.sh build test ci
	@printf '%s\n' $(wildcard lib/*.c svc/*.c svc/dialect/*.c) | xargs -P $(JOBS) -n 1 sh -c \
		'clang-tidy --quiet "$$0" -- $(subst ','\'',$(CPPFLAGS)) -std=c11 2>/dev/null || { echo "tidy: $$0" >&2; exit 1; }'

format: ## format the C sources (clang-format 14)
	clang-format -i $(C_FILES)

bench: ## measure CPU, latency and memory beside nginx and HAProxy, and what pooling spares (BENCH=--quick)
	@tests/check/packages.sh build run bench
	@$(again) all
	@$(again) $(patsubst tests/bench/%.c,$(B)/tests/bench/%,$(wildcard tests/bench/bench_*.c)) $(B)/tests/http-echo $(B)/tests/latency-relay
	@$(PYTHON) tests/bench/bench.py $(B) $(BENCH)

demo: ## three instances, HAProxy, one Redis, the simulator: watch 300 streams be one call, and one quota hold
	@tests/check/packages.sh build run demo
	@$(again) all
	@docker/demo.sh $(B)

# --- what is given away ---

docs: all ## write the generated documents below build/docs, and the generated parts of README.md
	@mkdir -p $(B)/docs
	$(B)/sluice config --docs >$(B)/docs/configuration.md
	$(B)/sluice config --example >$(B)/docs/sluice.yaml
	$(B)/sluice flow >$(B)/docs/flow.dot
	$(PYTHON) tests/check/readme.py $(B)

# The library's headers say "lib/…" here and "sluice/…" where they are installed. What a module keeps to its own parts
# (module_part.h) stays here, but for the parts that a public header includes.
PUBLIC = $(filter-out %_internal.h %_wire.h,$(shell cd lib && ls *.h | grep -vE '^(redis|pool|limiter|json|embedded)_') json_scan.h json_plan.h json_hash.h json_member.h)
install: all ## install below DESTDIR and PREFIX: program, library, headers, pkg-config, manual, systemd unit
	@$(MAKE) --no-print-directory install-files
# What is there, without building.
install-files:
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include/sluice
	install -m 755 $(B)/sluice $(DESTDIR)$(PREFIX)/bin/sluice
	install -m 644 $(B)/libsluice.a $(DESTDIR)$(PREFIX)/lib/libsluice.a
	for header in $(sort $(PUBLIC)); do \
		sed 's|#include "lib/|#include "sluice/|' lib/$$header >$(DESTDIR)$(PREFIX)/include/sluice/$$header || exit 1; \
	done
	printf '%s\n' 'prefix=$(PREFIX)' 'Name: sluice' 'Description: quotas, flights, answers and scripts shared by a fleet' 'Version: $(VERSION)' \
		'Requires: $(PACKAGES)' 'Libs: -L$${prefix}/lib -lsluice -pthread -lm' 'Cflags: -I$${prefix}/include' \
		>$(DESTDIR)$(PREFIX)/lib/pkgconfig/sluice.pc
	for page in $(wildcard docker/*.1); do install -D -m 644 $$page $(DESTDIR)$(PREFIX)/share/man/man1/$${page##*/}; done
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's|/usr/local/bin/|$(PREFIX)/bin/|' docker/sluice.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/sluice.service

docker: ## build the image
	docker build -t sluice:$(VERSION) -f docker/Dockerfile .

clean: ## remove everything that was made
	rm -rf $(B)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

-include $(wildcard $(ALL_OBJECTS:.o=.d))
.SECONDARY:
.DELETE_ON_ERROR:
.PHONY: all lib unit replay tests packages run test check soak asan tsan fuzz fuzzers coverage tidy format bench demo docs install install-files docker clean help force
