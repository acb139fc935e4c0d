/* Stands between klingd and the kernel: numbers the calls that change something below a folder, writes each into a report,
 * and at the one that it was told of does what it was told. What for: tests/crash/calls/mod.rs.
 *
 * SHIM_BELOW   the folder                      SHIM_REPORT   the report: a line "NUMBER SORT NAME PATH" a call
 * SHIM_AT      the number                      SHIM_DOES     kill, enospc, eio, short, full, dead, tear or nosync; without it all are only reported
 * SHIM_MAKES   instead of the number: the first call that makes this path
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum sort { WRITE, MAKE, SYNC, OTHER }; /* the first two need room */
enum verdict { PASS, FAIL, HALF, TEAR, LIE };

static const char *const sorts[] = {"write", "make", "sync", "other"};
static const char *below, *makes, *does = "";
static _Atomic long at;
static int report = -1;
static atomic_long calls;
static atomic_int fired;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define kernel(...) REAL(syscall)(__VA_ARGS__)

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("SHIM_REPORT"), *number = getenv("SHIM_AT");
    below = getenv("SHIM_BELOW");
    makes = getenv("SHIM_MAKES");
    does = getenv("SHIM_DOES") ? getenv("SHIM_DOES") : "";
    at = number && *does ? atol(number) : LONG_MAX;
    if (file)
        report = (int)kernel(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    unsetenv("LD_PRELOAD"); /* the children's calls are not klingd's */
}

static void say(long n, enum sort sort, const char *name, const char *path) {
    char line[PATH_MAX + 100];
    int length = snprintf(line, sizeof line, "%ld %s %s %s\n", n, sorts[sort], name, path);
    if (length > 0)
        kernel(SYS_write, report, line, (size_t)length);
}

/* Whether the fault strikes at this call, and how. What is full is so until the reserve is removed; what is dead stays dead;
 * all else strikes once. */
static enum verdict act(long n, enum sort sort, const char *name, const char *path) {
    int full = !strcmp(does, "full"), dead = !strcmp(does, "dead"), lies = !strcmp(does, "nosync");
    enum verdict verdict = FAIL;
    int error = EIO;
    if (full && fired && !strcmp(name, "unlink") && strstr(path, "/reserve"))
        at = LONG_MAX;
    if (n < at || (fired && !full && !dead && !lies))
        return PASS;
    if (makes && !fired && (sort != MAKE || strcmp(path, makes)))
        return PASS;
    if (full || !strcmp(does, "enospc"))
        error = ENOSPC;
    if (full && sort != WRITE && sort != MAKE)
        return PASS;
    if (!strcmp(does, "short"))
        verdict = sort == WRITE ? HALF : PASS;
    if (!strcmp(does, "tear"))
        verdict = !strncmp(name, "rename", 6) && strstr(path, ".mp4") ? TEAR : PASS;
    if (lies)
        verdict = sort == SYNC ? LIE : PASS;
    if (verdict == PASS)
        return PASS;
    if (!atomic_exchange(&fired, 1))
        say(n, sort, "FIRED", path);
    else if (!full && !dead && !lies)
        return PASS;
    if (!strcmp(does, "kill"))
        kernel(SYS_kill, getpid(), SIGKILL);
    errno = error;
    return verdict;
}

/* One call on a descriptor, or on a path below one. */
static enum verdict meet(const char *name, enum sort sort, int fd, const char *path) {
    char link[64], where[2 * PATH_MAX];
    int before = errno;
    size_t length = 0;
    if (!below)
        return PASS;
    if (!path || path[0] != '/') {
        snprintf(link, sizeof link, fd == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", fd);
        ssize_t got = kernel(SYS_readlinkat, AT_FDCWD, link, where, PATH_MAX - 1);
        length = got > 0 ? (size_t)got : 0;
    }
    snprintf(where + length, PATH_MAX, "%s%s", path && length ? "/" : "", path ? path : "");
    enum verdict verdict = PASS;
    if (!strncmp(where, below, strlen(below))) {
        long n = ++calls;
        say(n, sort, name, where);
        verdict = act(n, sort, name, where);
    }
    if (verdict != FAIL)
        errno = before;
    return verdict;
}

#define PASS_ON(name, sort, fd, path, type, params, ...)                                                               \
    type name params { return meet(#name, sort, fd, path) == FAIL ? (type)-1 : REAL(name)(__VA_ARGS__); }
#define WRITE_SOME(name, half, params, ...)                                                                            \
    ssize_t name params {                                                                                              \
        enum verdict verdict = meet(#name, WRITE, fd, NULL);                                                           \
        if (verdict == HALF)                                                                                           \
            count = half;                                                                                              \
        return verdict == FAIL ? -1 : REAL(name)(__VA_ARGS__);                                                         \
    }
#define SYNC_IT(name)                                                                                                  \
    int name(int fd) {                                                                                                 \
        enum verdict verdict = meet(#name, SYNC, fd, NULL);                                                            \
        return verdict == FAIL ? -1 : verdict == LIE ? 0 : REAL(name)(fd);                                             \
    }
#define RENAME(name, fd, to, params, ...)                                                                              \
    int name params {                                                                                                  \
        enum verdict verdict = meet(#name, MAKE, fd, to);                                                              \
        int done = verdict == FAIL ? -1 : REAL(name)(__VA_ARGS__);                                                     \
        if (verdict == TEAR && !done)                                                                                  \
            done = (int)kernel(SYS_truncate, to, 1000);                                                               \
        return done;                                                                                                   \
    }
#define OPEN(name, fd, params, ...)                                                                                    \
    int name params {                                                                                                  \
        mode_t mode = 0;                                                                                               \
        int makes = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;                                             \
        if (makes) {                                                                                                   \
            va_list rest;                                                                                              \
            va_start(rest, flags);                                                                                     \
            mode = va_arg(rest, mode_t);                                                                               \
            va_end(rest);                                                                                              \
        }                                                                                                              \
        return (makes || (flags & O_TRUNC)) && meet(#name, MAKE, fd, path) == FAIL ? -1 : REAL(name)(__VA_ARGS__, mode);                    \
    }

WRITE_SOME(write, (count + 1) / 2, (int fd, const void *from, size_t count), fd, from, count)
WRITE_SOME(pwrite, (count + 1) / 2, (int fd, const void *from, size_t count, off_t to), fd, from, count, to)
WRITE_SOME(pwrite64, (count + 1) / 2, (int fd, const void *from, size_t count, off64_t to), fd, from, count, to)
WRITE_SOME(writev, (count + 1) / 2, (int fd, const struct iovec *from, int count), fd, from, count)
WRITE_SOME(pwritev, (count + 1) / 2, (int fd, const struct iovec *from, int count, off_t to), fd, from, count, to)
WRITE_SOME(pwritev64, (count + 1) / 2, (int fd, const struct iovec *from, int count, off64_t to), fd, from, count, to)
WRITE_SOME(copy_file_range, (count + 1) / 2,
           (int in, off64_t *from, int fd, off64_t *to, size_t count, unsigned flags), in, from, fd, to, count, flags)
PASS_ON(fallocate, MAKE, fd, NULL, int, (int fd, int mode, off_t from, off_t count), fd, mode, from, count)
PASS_ON(fallocate64, MAKE, fd, NULL, int, (int fd, int mode, off64_t from, off64_t count), fd, mode, from, count)
SYNC_IT(fsync)
SYNC_IT(fdatasync)
PASS_ON(ftruncate, OTHER, fd, NULL, int, (int fd, off_t length), fd, length)
PASS_ON(ftruncate64, OTHER, fd, NULL, int, (int fd, off64_t length), fd, length)
PASS_ON(fchmod, OTHER, fd, NULL, int, (int fd, mode_t mode), fd, mode)
PASS_ON(fchown, OTHER, fd, NULL, int, (int fd, uid_t user, gid_t group), fd, user, group)
PASS_ON(chmod, OTHER, AT_FDCWD, path, int, (const char *path, mode_t mode), path, mode)
PASS_ON(mkdir, MAKE, AT_FDCWD, path, int, (const char *path, mode_t mode), path, mode)
PASS_ON(mkdirat, MAKE, fd, path, int, (int fd, const char *path, mode_t mode), fd, path, mode)
PASS_ON(link, MAKE, AT_FDCWD, to, int, (const char *from, const char *to), from, to)
PASS_ON(linkat, MAKE, fd, to, int, (int in, const char *from, int fd, const char *to, int flags), in, from, fd, to, flags)
PASS_ON(unlink, OTHER, AT_FDCWD, path, int, (const char *path), path)
PASS_ON(unlinkat, OTHER, fd, path, int, (int fd, const char *path, int flags), fd, path, flags)
PASS_ON(rmdir, OTHER, AT_FDCWD, path, int, (const char *path), path)
RENAME(rename, AT_FDCWD, to, (const char *from, const char *to), from, to)
RENAME(renameat, fd, to, (int in, const char *from, int fd, const char *to), in, from, fd, to)
RENAME(renameat2, fd, to, (int in, const char *from, int fd, const char *to, unsigned flags), in, from, fd, to, flags)
OPEN(open, AT_FDCWD, (const char *path, int flags, ...), path, flags)
OPEN(open64, AT_FDCWD, (const char *path, int flags, ...), path, flags)
OPEN(openat, fd, (int fd, const char *path, int flags, ...), fd, path, flags)
OPEN(openat64, fd, (int fd, const char *path, int flags, ...), fd, path, flags)

/* rustix has some calls made by number. */
long syscall(long number, ...) {
    long a[6];
    va_list rest;
    va_start(rest, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(rest, long);
    va_end(rest);
    enum verdict verdict = PASS;
    if (number == SYS_fchmod || number == SYS_fchown)
        verdict = meet(number == SYS_fchmod ? "fchmod" : "fchown", OTHER, (int)a[0], NULL);
    return verdict == FAIL ? -1 : kernel(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
