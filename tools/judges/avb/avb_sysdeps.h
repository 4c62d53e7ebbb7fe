/* What libavb wants of its surroundings, from the C library. */
#if !defined(AVB_INSIDE_LIBAVB_H) && !defined(AVB_COMPILATION)
#error "Never include this file directly, include libavb.h instead."
#endif
#ifndef AVB_SYSDEPS_H_
#define AVB_SYSDEPS_H_
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#define AVB_ATTR_WARN_UNUSED_RESULT __attribute__((warn_unused_result))
#define AVB_ATTR_PACKED __attribute__((packed))
#define AVB_ATTR_NO_RETURN __attribute__((noreturn))
#define AVB_ATTR_SENTINEL __attribute__((__sentinel__))
#define AVB_ALIGNMENT_SIZE 8
int avb_memcmp(const void *, const void *, size_t);
int avb_strcmp(const char *, const char *);
int avb_strncmp(const char *, const char *, size_t);
void *avb_memcpy(void *, const void *, size_t);
void *avb_memset(void *, const int, size_t);
void avb_print(const char *);
void avb_printv(const char *, ...) AVB_ATTR_SENTINEL;
void avb_abort(void) AVB_ATTR_NO_RETURN;
void *avb_malloc_(size_t);
void avb_free(void *);
size_t avb_strlen(const char *);
uint32_t avb_div_by_10(uint64_t *);
#endif
