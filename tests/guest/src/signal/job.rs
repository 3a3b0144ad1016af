//! Whom kill(2) reaches, stopping and continuing.

use super::basic::{COUNT, count};
use crate::prelude::*;

pub fn kill_targets() {
    let kids: Vec<i32> = (0..3)
        .map(|_| {
            fork(|| {
                loop {
                    ms(1000)
                }
            })
        })
        .collect();
    for k in &kids {
        sys!(setpgid(*k, kids[0])).v();
    }
    say!("group {}", sys!(kill(-kids[0], SIGTERM)));
    for k in &kids {
        say!("{}", wait(*k));
    }
    say!("empty group {}", sys!(kill(-kids[0], 0)));
    handle(SIGUSR1, count, 0);
    say!(
        "own group by 0 {} {}",
        sys!(kill(0, SIGUSR1)),
        COUNT.load(SeqCst)
    );
    say!(
        "killpg {} {}",
        sys!(killpg(getpgrp(), SIGUSR1)),
        COUNT.load(SeqCst)
    );
    say!(
        "nobody {} int min {}",
        sys!(kill(99999, SIGTERM)),
        sys!(kill(i32::MIN, 0))
    );
    say!(
        "signal 0 to init {}",
        matches!(sys!(kill(1, 0)).err(), 0 | EPERM)
    );
}

pub fn kill_rights() {
    if !is_root() {
        say!("init {}", sys!(kill(1, SIGTERM)));
        return skip_root();
    }
    say!("init EPERM");
    let target = fork(|| {
        loop {
            ms(1000)
        }
    });
    let st = run(|| {
        sys!(setuid(1000)).v();
        say!(
            "root's process: term {} 0 {}",
            sys!(kill(target, SIGTERM)),
            sys!(kill(target, 0))
        );
        say!("CONT in the same session {}", sys!(kill(target, SIGCONT)));
        let mine = fork(|| {
            loop {
                ms(1000)
            }
        });
        say!("own {} {}", sys!(kill(mine, SIGTERM)), wait(mine));
        0
    });
    say!("{st}");
    unsafe { kill(target, SIGKILL) };
    say!("{}", wait(target));
}

pub fn stop_continue() {
    let p = pipe();
    let pid = fork(|| {
        let mut n = 0u8;
        loop {
            n = n.wrapping_add(1);
            write(p[1], &[n]);
            ms(2);
        }
    });
    read(p[0], 1);
    for s in [SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU] {
        unsafe { kill(pid, s) };
        let st = wait_opt(pid, WUNTRACED);
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let at = state.rfind(')').unwrap() + 2;
        sys!(fcntl(p[0], F_SETFL, O_NONBLOCK));
        read(p[0], 4096);
        ms(15);
        say!(
            "{st} state {} silent {}",
            &state[at..at + 1],
            read(p[0], 10)
        );
        sys!(fcntl(p[0], F_SETFL, 0));
        unsafe { kill(pid, SIGCONT) };
        say!(
            "{} talks {}",
            wait_opt(pid, WCONTINUED),
            read(p[0], 1).len() > 2
        );
    }
    unsafe { kill(pid, SIGKILL) };
    say!("{}", wait(pid));
}

pub fn stop_discards() {
    let g = Gate::new();
    let pid = fork(|| {
        handle(SIGCONT, count, 0);
        handle(SIGUSR1, count, 0);
        block(&[SIGTSTP, SIGCONT]);
        unsafe {
            raise(SIGTSTP);
            say!("pending {}", pending());
            raise(SIGCONT);
            say!("CONT removes stops {}", pending());
            raise(SIGTSTP);
            say!("a stop removes CONT {}", pending());
            raise(SIGCONT);
        }
        unblock(&[SIGTSTP, SIGCONT]);
        say!("CONT handled {}", COUNT.load(SeqCst));
        g.open();
        while COUNT.load(SeqCst) < 2 {
            ms(1);
        }
        0
    });
    g.pass();
    unsafe {
        kill(pid, SIGSTOP);
    }
    say!("{}", wait_opt(pid, WUNTRACED));
    unsafe {
        kill(pid, SIGUSR1);
        ms(5);
    }
    let mut st = 0;
    say!(
        "a handler does not run while stopped {}",
        sys!(waitpid(pid, &mut st, WNOHANG))
    );
    unsafe { kill(pid, SIGCONT) };
    say!("{}", wait(pid));
}
