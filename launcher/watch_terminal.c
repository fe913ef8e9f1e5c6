/* The picture on a terminal: the alternate screen, once a second, until somebody has seen enough. */
#include "launcher/watch.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static volatile sig_atomic_t leave, resized;

static void on_end(int number) {
    (void)number;
    leave = 1;
}

static void on_resize(int number) {
    (void)number;
    resized = 1;
}

bool watch_terminal_size(int *width, int *height) {
    struct winsize size;
    if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return false;
    *width = size.ws_col > 0 ? size.ws_col : 80;
    *height = size.ws_row > 0 ? size.ws_row : 24;
    return true;
}

struct terminal {
    struct termios before;
    sigset_t mask; /* signals come in pauses only: none is lost between a look at a flag and the pause */
    bool keys;     /* standard input is the terminal, too */
};

static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

static void enter(struct terminal *t) {
    sigset_t held;
    sigemptyset(&held);
    sigaddset(&held, SIGWINCH);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        sigaddset(&held, signals[i]);
        sigaction(signals[i], &(struct sigaction){.sa_handler = on_end}, NULL);
    }
    sigaction(SIGWINCH, &(struct sigaction){.sa_handler = on_resize}, NULL);
    sigprocmask(SIG_BLOCK, &held, &t->mask);
    t->keys = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &t->before) == 0;
    if (t->keys) {
        struct termios raw = t->before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        raw.c_cc[VSUSP] = _POSIX_VDISABLE; /* a suspended watcher would leave the screen as it is */
        raw.c_cc[VMIN] = 1;
        raw.c_cc[VTIME] = 0;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw);
    }
    fputs("\033[?1049h\033[?25l", stdout); /* the alternate screen, no cursor */
}

static void restore(const struct terminal *t) {
    fputs("\033[?25h\033[?1049l", stdout);
    fflush(stdout);
    if (t->keys) tcsetattr(STDIN_FILENO, TCSAFLUSH, &t->before);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) signal(signals[i], SIG_DFL);
    signal(SIGWINCH, SIG_DFL);
    sigprocmask(SIG_SETMASK, &t->mask, NULL);
}

/* In one write, so that the terminal never shows half a picture. */
static status_t draw(const struct watch_run *run, bool unicode) {
    struct watch_look look = {.unicode = unicode, .escapes = true};
    char *text = NULL;
    size_t n = 0;
    if (!watch_terminal_size(&look.width, &look.height)) return FAIL(STATUS_IO, "the terminal is gone");
    FILE *out = open_memstream(&text, &n);
    CHECK(out, STATUS_NO_MEMORY, "out of memory for the picture");
    fputs(resized ? "\033[2J\033[H" : "\033[H", out);
    resized = 0;
    watch_picture(out, run, &look);
    status_t status = STATUS_OK;
    if (fclose(out) != 0) status = FAIL(STATUS_NO_MEMORY, "out of memory for the picture");
    if (status == STATUS_OK && (fwrite(text, 1, n, stdout) != n || fflush(stdout) != 0) && !leave)
        status = FAIL(STATUS_IO, "cannot write to the terminal: %s", strerror(errno));
    free(text);
    return status;
}

/* Wait for a second, a key or a signal. */
static void pause_or_key(const struct terminal *t) {
    struct pollfd in = {.fd = t->keys ? STDIN_FILENO : -1, .events = POLLIN};
    const struct timespec second = {.tv_sec = 1};
    if (ppoll(&in, 1, &second, &t->mask) <= 0 || !in.revents) return;
    char keys[64];
    const ssize_t n = read(STDIN_FILENO, keys, sizeof keys);
    if (n == 0 || (n < 0 && errno != EINTR)) leave = 1; /* the terminal was closed */
    for (ssize_t i = 0; i < n; i++)
        if (keys[i] == 'q' || keys[i] == 'Q' || keys[i] == 4) leave = 1; /* 4: Ctrl-D */
}

status_t watch_terminal(struct watch_run *run, bool unicode) {
    struct terminal terminal;
    status_t status = STATUS_OK;
    leave = resized = 0;
    enter(&terminal);
    while (!leave && status == STATUS_OK) {
        status = draw(run, unicode);
        if (status == STATUS_OK && !leave) pause_or_key(&terminal);
        if (status == STATUS_OK && !leave) status = watch_run_look(run);
    }
    restore(&terminal);
    return status;
}
