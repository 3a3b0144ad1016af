//! Pseudo-terminals, line discipline, job control.

mod jobs;
mod line;

use jobs::*;
use line::*;

use crate::prelude::*;

tests![
    open_pair,
    defaults,
    canonical,
    editing,
    echo,
    raw_mode,
    output_processing,
    input_flags,
    signals_from_keys,
    eof_key,
    vmin_vtime,
    window_size,
    hangup_master,
    hangup_slave,
    poll_states,
    nonblocking,
    packet_mode,
    ioctls,
    isatty_names,
    flush_and_queue,
    long_lines,
    big_output,
    termios_errors,
    exclusive_and_locked,
    controlling,
    foreground,
    background_read,
    background_write,
    background_tcsetpgrp,
    stop_key,
    session_leader_exit,
    orphaned_group,
    dev_tty,
    shell_jobs,
];

/// Master and slave of a new terminal.
pub fn pty() -> (i32, i32) {
    let m = open("/dev/ptmx", O_RDWR | O_NOCTTY).fd();
    sys!(ioctl(m, TIOCSPTLCK as _, &0i32)).v();
    let mut n = 0i32;
    sys!(ioctl(m, TIOCGPTN as _, &mut n)).v();
    let s = open(&format!("/dev/pts/{n}"), O_RDWR | O_NOCTTY).fd();
    (m, s)
}

pub fn attr(fd: i32) -> termios {
    let mut t: termios = zero();
    sys!(tcgetattr(fd, &mut t)).v();
    t
}

pub fn change(fd: i32, f: impl FnOnce(&mut termios)) {
    let mut t = attr(fd);
    f(&mut t);
    sys!(tcsetattr(fd, TCSANOW, &t)).v();
}

/// What there is to read: terminals may pass bytes on a little later, so wait for quiet.
pub fn now(fd: i32) -> String {
    let ready = |t| {
        let mut p = pollfd {
            fd,
            events: POLLIN,
            revents: 0,
        };
        sys!(poll(&mut p, 1, t)).v();
        p.revents & POLLIN != 0
    };
    if !ready(60) {
        return "nothing".into();
    }
    ms(8);
    read(fd, 4096)
}

/// Time for typed bytes to arrive.
pub fn settle() {
    ms(8)
}
