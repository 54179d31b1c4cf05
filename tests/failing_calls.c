/* Makes the n-th system call on the files below a directory fail.

   Preloaded into a process, it counts the calls whose path, or the path of
   whose descriptor, lies below the directory that `arm` names. Each is logged
   as a line, and call `nth` fails with `code`. Nothing is counted before `arm`,
   which ctypes calls. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char root[PATH_MAX];
static size_t root_length;
static long nth, count;
static int code, log_file = -1, onwards;

/* `always`: the calls after the n-th fail as well. */
void arm(const char *directory, long n, int error, int always,
         const char *log) {
  strncpy(root, directory, sizeof root - 1);
  nth = n;
  code = error;
  onwards = always;
  log_file = (int)syscall(SYS_openat, AT_FDCWD, log,
                          O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  root_length = strlen(root);
}

static int below(const char *path) {
  return root_length && !strncmp(path, root, root_length) &&
         (path[root_length] == '/' || !path[root_length]);
}

/* Writes the absolute path of a descriptor, or nothing. */
static void of_descriptor(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
  path[length > 0 ? length : 0] = 0;
}

static void of_name(int at, const char *name, char *path) {
  path[0] = 0;
  if (name && name[0] == '/') {
    snprintf(path, PATH_MAX, "%s", name);
  } else if (name) {
    if (at == AT_FDCWD)
      syscall(SYS_getcwd, path, PATH_MAX - 1);
    else
      of_descriptor(at, path);
    size_t length = strlen(path);
    snprintf(path + length, PATH_MAX - length, name[0] ? "/%s" : "%s", name);
  }
}

/* Counts a call; returns whether it is to fail. */
static int counted(const char *call, const char *path, const char *other) {
  if (!root_length) return 0;
  int before = errno;
  int fails = 0;
  if (below(path) || (other && below(other))) {
    long number = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST);
    fails = nth && (number == nth || (onwards && number > nth));
    char line[2 * PATH_MAX + 64];
    int length = snprintf(line, sizeof line, "%s%s\t%s\t%s\n",
                          fails ? "!" : "", call, path, other ? other : "");
    syscall(SYS_write, log_file, line, length);
  }
  errno = fails ? code : before;
  return fails;
}

static int fails_fd(const char *call, int fd) {
  char path[PATH_MAX];
  if (!root_length) return 0;
  int before = errno;
  of_descriptor(fd, path);
  errno = before;
  return counted(call, path, NULL);
}

static int fails_at(const char *call, int at, const char *name) {
  char path[PATH_MAX];
  if (!root_length) return 0;
  int before = errno;
  of_name(at, name, path);
  errno = before;
  return counted(call, path, NULL);
}

static int fails_two(const char *call, int at, const char *name, int to,
                     const char *other) {
  char path[PATH_MAX], second[PATH_MAX];
  if (!root_length) return 0;
  int before = errno;
  of_name(at, name, path);
  of_name(to, other, second);
  errno = before;
  return counted(call, path, second);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* A call whose first argument is a descriptor, or a path. */
#define ON_FD(type, name, parameters, arguments)             \
  type name parameters {                                     \
    if (fails_fd(#name, fd)) return -1;                      \
    return REAL(name) arguments;                             \
  }
#define ON_AT(type, name, at, parameters, arguments)         \
  type name parameters {                                     \
    if (fails_at(#name, at, path)) return -1;                \
    return REAL(name) arguments;                             \
  }

ON_FD(ssize_t, read, (int fd, void *b, size_t n), (fd, b, n))
ON_FD(ssize_t, pread, (int fd, void *b, size_t n, off_t o), (fd, b, n, o))
ON_FD(ssize_t, pread64, (int fd, void *b, size_t n, off64_t o), (fd, b, n, o))
ON_FD(ssize_t, readv, (int fd, const struct iovec *v, int n), (fd, v, n))
ON_FD(ssize_t, preadv, (int fd, const struct iovec *v, int n, off_t o),
      (fd, v, n, o))
ON_FD(ssize_t, preadv64, (int fd, const struct iovec *v, int n, off64_t o),
      (fd, v, n, o))
ON_FD(ssize_t, write, (int fd, const void *b, size_t n), (fd, b, n))
ON_FD(ssize_t, pwrite, (int fd, const void *b, size_t n, off_t o),
      (fd, b, n, o))
ON_FD(ssize_t, pwrite64, (int fd, const void *b, size_t n, off64_t o),
      (fd, b, n, o))
ON_FD(ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n))
ON_FD(ssize_t, pwritev, (int fd, const struct iovec *v, int n, off_t o),
      (fd, v, n, o))
ON_FD(ssize_t, pwritev64, (int fd, const struct iovec *v, int n, off64_t o),
      (fd, v, n, o))
ON_FD(int, fsync, (int fd), (fd))
ON_FD(int, fdatasync, (int fd), (fd))
ON_FD(int, ftruncate, (int fd, off_t n), (fd, n))
ON_FD(int, ftruncate64, (int fd, off64_t n), (fd, n))
ON_FD(int, flock, (int fd, int operation), (fd, operation))
ON_AT(int, mkdir, AT_FDCWD, (const char *path, mode_t m), (path, m))
ON_AT(int, mkdirat, at, (int at, const char *path, mode_t m), (at, path, m))
ON_AT(int, rmdir, AT_FDCWD, (const char *path), (path))
ON_AT(int, unlink, AT_FDCWD, (const char *path), (path))
ON_AT(int, unlinkat, at, (int at, const char *path, int f), (at, path, f))
ON_AT(int, truncate, AT_FDCWD, (const char *path, off_t n), (path, n))

/* Counts only files that were written. Linux closes a file in any case. */
int close(int fd) {
  int flags = root_length ? (int)syscall(SYS_fcntl, fd, F_GETFL) : O_RDONLY;
  int fails = (flags & O_ACCMODE) && flags >= 0 && fails_fd("close", fd);
  int error = errno;
  int result = REAL(close)(fd);
  if (!fails) return result;
  errno = error;
  return -1;
}

#define OPEN(name, at, parameters, arguments)                \
  int name parameters {                                      \
    va_list rest;                                            \
    va_start(rest, flags);                                   \
    mode_t mode = va_arg(rest, mode_t);                      \
    va_end(rest);                                            \
    if (fails_at("open", at, path)) return -1;               \
    return REAL(name) arguments;                             \
  }
OPEN(open, AT_FDCWD, (const char *path, int flags, ...), (path, flags, mode))
OPEN(open64, AT_FDCWD, (const char *path, int flags, ...), (path, flags, mode))
OPEN(openat, at, (int at, const char *path, int flags, ...),
     (at, path, flags, mode))
OPEN(openat64, at, (int at, const char *path, int flags, ...),
     (at, path, flags, mode))

DIR *opendir(const char *path) {
  if (fails_at("opendir", AT_FDCWD, path)) return NULL;
  return REAL(opendir)(path);
}

DIR *fdopendir(int fd) {
  if (fails_fd("opendir", fd)) return NULL;
  return REAL(fdopendir)(fd);
}

int rename(const char *path, const char *other) {
  if (fails_two("rename", AT_FDCWD, path, AT_FDCWD, other)) return -1;
  return REAL(rename)(path, other);
}

int renameat(int at, const char *path, int to, const char *other) {
  if (fails_two("rename", at, path, to, other)) return -1;
  return REAL(renameat)(at, path, to, other);
}

int renameat2(int at, const char *path, int to, const char *other,
              unsigned flags) {
  if (fails_two("rename", at, path, to, other)) return -1;
  return REAL(renameat2)(at, path, to, other, flags);
}
