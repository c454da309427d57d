# A first Makefile; the build of the whole repository grows from here.
B ?= build
CC = gcc
OPT ?= -O2 -g
SAN ?=
PACKAGES = libevent_core libcurl hiredis jansson yaml-0.1 libssl libcrypto zlib
WARN = -Wall -Wextra -Wpedantic -Wshadow -Werror
HARDEN = -fstack-protector-strong -fPIE -fcf-protection -D_FORTIFY_SOURCE=2
CPPFLAGS = -D_GNU_SOURCE -I. -I$(B)/gen -I/usr/share/include/llhttp $(shell pkg-config --cflags $(PACKAGES))
CFLAGS = -std=c11 $(OPT) $(WARN) $(HARDEN) $(SAN) -pthread -MMD -MP
LDLIBS = $(shell pkg-config --libs $(PACKAGES)) -lm
LDFLAGS = -pie -Wl,-z,relro,-z,now $(SAN) -pthread

LIB = $(patsubst %.c,$(B)/%.o,$(wildcard lib/*.c)) $(B)/gen/scripts.o
SVC = $(patsubst %.c,$(B)/%.o,$(filter-out svc/main.c,$(wildcard svc/*.c svc/dialect/*.c)))
LLHTTP = $(patsubst %,$(B)/llhttp/%.o,api http llhttp)
UNIT = $(patsubst %.c,$(B)/%,$(wildcard tests/unit/*.c tests/lua/*.c tests/flow/*.c))
SUPPORT = $(patsubst %.c,$(B)/%.o,$(wildcard tests/support/*.c))

all: $(B)/sluice
lib: $(B)/libsluice.a
unit: $(UNIT)
$(B)/sluice: $(B)/svc/main.o $(SVC) $(B)/libsluice.a $(LLHTTP)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(B)/libsluice.a: $(LIB)
	rm -f $@ && ar rcs $@ $^
$(B)/llhttp/%.o: /usr/share/llhttp/%.c
	@mkdir -p $(@D)
	$(CC) -std=gnu11 $(OPT) $(SAN) -fPIE -DLLHTTP_STRICT_MODE=1 -I/usr/share/include/llhttp -c -o $@ $<
$(B)/gen/scripts.c: $(wildcard lua/*.lua) tests/check/embed.py
	@mkdir -p $(@D)
	/usr/bin/python3 tests/check/embed.py $(@D) $(wildcard lua/*.lua)
$(B)/gen/scripts.h: $(B)/gen/scripts.c
$(LIB) $(SVC) $(B)/svc/main.o $(SUPPORT): | $(B)/gen/scripts.h
$(B)/gen/%.o: $(B)/gen/%.c
	$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<
$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<
# An archive, so that a test takes along only what it names.
$(B)/libservice.a: $(SVC) $(LLHTTP)
	rm -f $@ && ar rcs $@ $^
# The fault proxy for tests that drive the program from outside; it needs nothing of ours.
$(B)/tests/fault-proxy: $(B)/tests/support/programs/fault_proxy.o $(B)/tests/support/fault_proxy.o
	$(CC) $(LDFLAGS) -o $@ $^
$(B)/tests/%: $(B)/tests/%.o $(SUPPORT) $(B)/libservice.a $(B)/libsluice.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka
# A fuzz target is built twice: with the usual compiler and replay.c, to run its corpus as a test; with clang, to fuzz.
FUZZ = $(patsubst %.c,$(B)/%,$(wildcard tests/fuzz/fuzz_*.c))
$(FUZZ): $(B)/tests/fuzz/replay.o
replay: $(FUZZ)
fuzz:
	$(MAKE) B=$(B)/fuzz CC=clang OPT="-O1 -g" SAN="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all" fuzzers
fuzzers: $(patsubst tests/fuzz/%.c,$(B)/%,$(wildcard tests/fuzz/fuzz_*.c))
$(B)/fuzz_%: $(B)/tests/fuzz/fuzz_%.o $(SUPPORT) $(SVC) $(B)/libsluice.a $(LLHTTP)
	$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LDLIBS) -lcmocka
SIM = $(patsubst %.c,$(B)/%.o,$(wildcard tests/sim/*.c))
$(B)/sluice-sim: $(SIM) $(B)/libsluice.a $(LLHTTP)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(B)/sluice-load: $(B)/tests/bench/load.o $(B)/libsluice.a $(LLHTTP)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(B)/bench_pool: $(B)/tests/bench/bench_pool.o $(B)/libsluice.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
clean:
	rm -rf $(B)
-include $(shell find $(B) -name '*.d' 2>/dev/null)
.SECONDARY:
.PHONY: all lib unit replay fuzz fuzzers clean
