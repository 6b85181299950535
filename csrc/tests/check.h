/* The whole test harness: CHECK says where it failed and goes on, finish() is main's result. */
#ifndef MERSTORE_CHECK_H
#define MERSTORE_CHECK_H

#define _GNU_SOURCE
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned long checks_made, checks_failed;

static inline void check_failed(const char *file, int line, const char *what)
{
    if (++checks_failed <= 20)
        fprintf(stderr, "%s:%d: %s\n", file, line, what);
}

#define CHECK(condition)                                  \
    do {                                                  \
        checks_made++;                                    \
        if (!(condition))                                 \
            check_failed(__FILE__, __LINE__, #condition); \
    } while (0)

#define CHECK_EQUAL(one, other)                                                                      \
    do {                                                                                             \
        unsigned long long one_ = (unsigned long long)(one), other_ = (unsigned long long)(other);   \
        checks_made++;                                                                               \
        if (one_ != other_) {                                                                        \
            char text_[300];                                                                         \
            snprintf(text_, sizeof text_, "%s is %llu, not %s = %llu", #one, one_, #other, other_);  \
            check_failed(__FILE__, __LINE__, text_);                                                 \
        }                                                                                            \
    } while (0)

static inline int finish(void)
{
    printf("%lu checks, %lu failed\n", checks_made, checks_failed);
    return checks_failed != 0;
}

/* Memory of exactly this size, so that the sanitizers see a step past its end. */
static inline uint8_t *exactly(size_t bytes)
{
    uint8_t *memory = malloc(bytes ? bytes : 1);
    if (!memory)
        abort();
    return memory;
}

/* xorshift64*: the same numbers in every run. */
static uint64_t random_state = 0x9e3779b97f4a7c15;

static inline uint64_t random_bits(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545f4914f6cdd1d;
}

static inline size_t random_below(size_t bound)
{
    return (size_t)(random_bits() % bound);
}

static inline void random_fill(uint8_t *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)random_bits();
}

#endif
