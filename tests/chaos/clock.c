/* A wrong clock, and a folder without locks, for one process: LD_PRELOAD.
   CHAOS_CLOCK: seconds that are added to the time of day and to the times of files.
   CHAOS_NO_LOCKS: flock fails as on some network file systems. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>

static long shift(void) {
    const char *text = getenv("CHAOS_CLOCK");
    return text ? atol(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += shift();
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *target) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (target) *target = exact.tv_sec;
    return exact.tv_sec;
}

int statx(int folder, const char *path, int flags, unsigned mask, struct statx *facts) {
    static int (*real)(int, const char *, int, unsigned, struct statx *);
    if (!real) real = dlsym(RTLD_NEXT, "statx");
    int result = real(folder, path, flags, mask, facts);
    if (result == 0) {
        facts->stx_mtime.tv_sec += shift();
        facts->stx_ctime.tv_sec += shift();
        facts->stx_btime.tv_sec += shift();
    }
    return result;
}

int flock(int descriptor, int operation) {
    static int (*real)(int, int);
    if (getenv("CHAOS_NO_LOCKS")) {
        errno = ENOLCK;
        return -1;
    }
    if (!real) real = dlsym(RTLD_NEXT, "flock");
    return real(descriptor, operation);
}
