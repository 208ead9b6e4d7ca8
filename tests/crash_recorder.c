/* Stops a process after each call that changes a folder, until whoever watches has looked at it.

   Loaded by LD_PRELOAD. CRASH_FOLDER is the absolute path of the folder; a byte is written to the descriptor
   CRASH_NOTIFY after each change, and one is awaited from CRASH_GO. What lies in the folder in between is what a
   kill at that moment would leave. One change at a time: other threads wait.
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static const char *folder;
static int notify = -1, go = -1;

__attribute__((constructor)) static void start(void) {
  const char *to = getenv("CRASH_NOTIFY"), *from = getenv("CRASH_GO");
  folder = getenv("CRASH_FOLDER");
  if (folder && to && from) {
    notify = atoi(to);
    go = atoi(from);
  }
  unsetenv("LD_PRELOAD"); /* a child would use the same descriptors */
}

static int is_inside(const char *path) { return !strncmp(path, folder, strlen(folder)); }

static int is_watched_path(const char *path) {
  if (notify < 0 || !path) return 0;
  return path[0] != '/' || is_inside(path); /* a relative one may be: then it is looked at in vain */
}

static int is_watched(int descriptor) {
  char link[64], path[PATH_MAX];
  if (notify < 0 || descriptor < 0 || descriptor == notify || descriptor == go) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  return is_inside(path);
}

static void wait_for_watcher(void) {
  char byte = 1;
  if (syscall(SYS_write, notify, &byte, 1) != 1) _exit(97);
  if (syscall(SYS_read, go, &byte, 1) != 1) _exit(98);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define CALL(type, watched, call)                 \
  if (!(watched)) return call;                    \
  pthread_mutex_lock(&one_at_a_time);             \
  type result = call;                             \
  int saved = errno;                              \
  wait_for_watcher();                             \
  errno = saved;                                  \
  pthread_mutex_unlock(&one_at_a_time);           \
  return result

#include <errno.h>

#define MAKES(flags) ((flags) & (O_CREAT | O_TRUNC))
#define MODE                                      \
  mode_t mode = 0;                                \
  if ((flags)&O_CREAT) {                          \
    va_list rest;                                 \
    va_start(rest, flags);                        \
    mode = va_arg(rest, mode_t);                  \
    va_end(rest);                                 \
  }

int open(const char *path, int flags, ...) {
  MODE CALL(int, MAKES(flags) && is_watched_path(path), REAL(open)(path, flags, mode));
}
int open64(const char *path, int flags, ...) {
  MODE CALL(int, MAKES(flags) && is_watched_path(path), REAL(open64)(path, flags, mode));
}
int openat(int at, const char *path, int flags, ...) {
  MODE CALL(int, MAKES(flags) && is_watched_path(path), REAL(openat)(at, path, flags, mode));
}
int openat64(int at, const char *path, int flags, ...) {
  MODE CALL(int, MAKES(flags) && is_watched_path(path), REAL(openat64)(at, path, flags, mode));
}
FILE *fopen(const char *path, const char *how) {
  CALL(FILE *, how[0] != 'r' && is_watched_path(path), REAL(fopen)(path, how));
}
FILE *fopen64(const char *path, const char *how) {
  CALL(FILE *, how[0] != 'r' && is_watched_path(path), REAL(fopen64)(path, how));
}
ssize_t write(int fd, const void *data, size_t size) {
  CALL(ssize_t, is_watched(fd), REAL(write)(fd, data, size));
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
  CALL(ssize_t, is_watched(fd), REAL(pwrite)(fd, data, size, at));
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
  CALL(ssize_t, is_watched(fd), REAL(pwrite64)(fd, data, size, at));
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
  CALL(ssize_t, is_watched(fd), REAL(writev)(fd, parts, count));
}
size_t fwrite(const void *data, size_t size, size_t count, FILE *file) {
  CALL(size_t, is_watched(fileno(file)), REAL(fwrite)(data, size, count, file));
}
int fflush(FILE *file) { CALL(int, file && is_watched(fileno(file)), REAL(fflush)(file)); }
int fclose(FILE *file) { CALL(int, is_watched(fileno(file)), REAL(fclose)(file)); }
int ftruncate(int fd, off_t size) { CALL(int, is_watched(fd), REAL(ftruncate)(fd, size)); }
int ftruncate64(int fd, off64_t size) { CALL(int, is_watched(fd), REAL(ftruncate64)(fd, size)); }
ssize_t sendfile(int to, int from, off_t *at, size_t size);
ssize_t sendfile(int to, int from, off_t *at, size_t size) {
  CALL(ssize_t, is_watched(to), REAL(sendfile)(to, from, at, size));
}
ssize_t sendfile64(int to, int from, off64_t *at, size_t size);
ssize_t sendfile64(int to, int from, off64_t *at, size_t size) {
  CALL(ssize_t, is_watched(to), REAL(sendfile64)(to, from, at, size));
}
ssize_t copy_file_range(int from, off64_t *at, int to, off64_t *to_at, size_t size, unsigned flags) {
  CALL(ssize_t, is_watched(to), REAL(copy_file_range)(from, at, to, to_at, size, flags));
}
int rename(const char *from, const char *to) {
  CALL(int, is_watched_path(from) || is_watched_path(to), REAL(rename)(from, to));
}
int renameat(int at, const char *from, int to_at, const char *to) {
  CALL(int, is_watched_path(from) || is_watched_path(to), REAL(renameat)(at, from, to_at, to));
}
int unlink(const char *path) { CALL(int, is_watched_path(path), REAL(unlink)(path)); }
int unlinkat(int at, const char *path, int flags) {
  CALL(int, is_watched_path(path), REAL(unlinkat)(at, path, flags));
}
int remove(const char *path) { CALL(int, is_watched_path(path), REAL(remove)(path)); }
int rmdir(const char *path) { CALL(int, is_watched_path(path), REAL(rmdir)(path)); }
int mkdir(const char *path, mode_t mode) { CALL(int, is_watched_path(path), REAL(mkdir)(path, mode)); }
int mkdirat(int at, const char *path, mode_t mode) { CALL(int, is_watched_path(path), REAL(mkdirat)(at, path, mode)); }
int link(const char *from, const char *to) { CALL(int, is_watched_path(to), REAL(link)(from, to)); }
int symlink(const char *from, const char *to) { CALL(int, is_watched_path(to), REAL(symlink)(from, to)); }
