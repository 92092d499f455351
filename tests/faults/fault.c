/*
 * Makes writes to, or syncs of, SQLite's write-ahead log fail, or reads of it and of the database: loaded into
 * bank-server by LD_PRELOAD.
 *
 * It interferes only with files whose names end in "-wal", in reads also ".db", and only while the file named by BANK_FAULT exists.
 * That file holds what fails, with which errno, and at which call of that kind, counted from the moment at which
 * the file appears: "write 28 1" fails every write at once, "sync 5 3" lets two syncs pass. A write that fails with
 * ENOSPC after the first has written half of its bytes, as a disk that fills up does.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_int calls;

/* Whether a call of this kind on this file may fail: reads also of the database itself. */
static int is_ours(int fd, const char *kind)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path);
    if (length >= 4 && memcmp(path + length - 4, "-wal", 4) == 0)
        return 1;
    return strcmp(kind, "read") == 0 && length >= 3 && memcmp(path + length - 3, ".db", 3) == 0;
}

/* The errno with which this call fails, or 0. */
static int fault(int fd, const char *kind)
{
    int saved = errno, error = 0, first = 1;
    char wanted[16] = "", text[64] = "";
    const char *trigger = getenv("BANK_FAULT");
    FILE *file = trigger ? fopen(trigger, "re") : NULL;
    if (file == NULL) {
        atomic_store(&calls, 0);
    } else {
        if (is_ours(fd, kind) && fgets(text, sizeof text, file) != NULL
            && sscanf(text, "%15s %d %d", wanted, &error, &first) >= 2 && strcmp(wanted, kind) == 0) {
            if (atomic_fetch_add(&calls, 1) + 1 < first)
                error = 0;
        } else {
            error = 0;
        }
        fclose(file);
    }
    errno = saved;
    return error;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define FAULTY_PWRITE(name, offset_type)                                          \
    ssize_t name(int fd, const void *bytes, size_t count, offset_type offset)     \
    {                                                                             \
        int error = fault(fd, "write");                                           \
        if (error == 0)                                                           \
            return NEXT(name)(fd, bytes, count, offset);                          \
        if (error == ENOSPC && count > 1 && atomic_load(&calls) % 2 == 0)         \
            return NEXT(name)(fd, bytes, count / 2, offset);                      \
        errno = error;                                                            \
        return -1;                                                                \
    }

FAULTY_PWRITE(pwrite, off_t)
FAULTY_PWRITE(pwrite64, off64_t)

ssize_t write(int fd, const void *bytes, size_t count)
{
    int error = fault(fd, "write");
    if (error == 0)
        return NEXT(write)(fd, bytes, count);
    errno = error;
    return -1;
}

#define FAULTY_PREAD(name, offset_type)                                           \
    ssize_t name(int fd, void *bytes, size_t count, offset_type offset)           \
    {                                                                             \
        int error = fault(fd, "read");                                            \
        if (error == 0)                                                           \
            return NEXT(name)(fd, bytes, count, offset);                          \
        errno = error;                                                            \
        return -1;                                                                \
    }

FAULTY_PREAD(pread, off_t)
FAULTY_PREAD(pread64, off64_t)

ssize_t read(int fd, void *bytes, size_t count)
{
    int error = fault(fd, "read");
    if (error == 0)
        return NEXT(read)(fd, bytes, count);
    errno = error;
    return -1;
}

#define FAULTY_SYNC(name)                 \
    int name(int fd)                      \
    {                                     \
        int error = fault(fd, "sync");    \
        if (error == 0)                   \
            return NEXT(name)(fd);        \
        errno = error;                    \
        return -1;                        \
    }

FAULTY_SYNC(fsync)
FAULTY_SYNC(fdatasync)
