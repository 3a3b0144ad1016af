//! Waiting for signals, and the timers that send them.

use super::basic::{COUNT, count, inside, note_mask, own_pid};
use super::queue::queue;
use crate::prelude::*;

pub fn sigwait_forms() {
    block(&[SIGUSR1, SIGUSR2, 40]);
    unsafe { kill(getpid(), SIGUSR2) };
    let mut n = 0;
    say!(
        "sigwait {} {}",
        unsafe { sigwait(&set(&[SIGUSR1, SIGUSR2]), &mut n) },
        sig(n)
    );
    queue(40, 7);
    queue(40, 8);
    let mut i: siginfo_t = zero();
    let r = sys!(sigwaitinfo(&set(&[40]), &mut i));
    say!(
        "{} code {} value {}",
        sig(r.0 as i32),
        i.si_code,
        unsafe { i.si_value().sival_ptr } as usize
    );
    let r = sys!(sigwaitinfo(&set(&[40]), null_mut()));
    say!("{}", sig(r.0 as i32));
    let pid = fork(|| {
        ms(20);
        unsafe { kill(getppid(), SIGUSR1) };
        0
    });
    let r = sys!(sigwaitinfo(&set(&[SIGUSR1]), &mut i));
    say!(
        "{} from the child {} {}",
        sig(r.0 as i32),
        unsafe { i.si_pid() } == pid,
        wait(pid)
    );
    handle(SIGHUP, count, 0);
    let parent = own_pid();
    let pid = fork(|| {
        until_asleep(parent);
        unsafe { kill(parent, SIGHUP) };
        0
    });
    say!(
        "another one's handler {} ran {}",
        sys!(sigwaitinfo(&set(&[SIGUSR1]), &mut i)),
        COUNT.load(SeqCst)
    );
    wait(pid);
}

pub fn sigtimedwait_timeouts() {
    block(&[SIGUSR1]);
    let t = ts(30);
    let (r, when) = took(30, || sys!(sigtimedwait(&set(&[SIGUSR1]), null_mut(), &t)));
    say!("{r} {when}");
    let z = ts(0);
    say!(
        "poll {}",
        sys!(sigtimedwait(&set(&[SIGUSR1]), null_mut(), &z))
    );
    unsafe { raise(SIGUSR1) };
    say!(
        "poll {}",
        sig(sys!(sigtimedwait(&set(&[SIGUSR1]), null_mut(), &z)).0 as i32)
    );
    let bad = timespec {
        tv_sec: 0,
        tv_nsec: -1,
    };
    say!(
        "bad {}",
        sys!(sigtimedwait(&set(&[SIGUSR1]), null_mut(), &bad))
    );
    say!("size {}", raw!(SYS_rt_sigtimedwait, &raw const z, 0, 0, 4));
    say!(
        "empty set {}",
        sys!(sigtimedwait(&set(&[]), null_mut(), &z))
    );
}

pub fn sigsuspend_swaps() {
    handle(SIGUSR1, count, 0);
    handle(SIGUSR2, note_mask, 0);
    block(&[SIGUSR1, SIGUSR2]);
    unsafe { raise(SIGUSR1) };
    say!(
        "{} ran {}",
        sys!(sigsuspend(&set(&[SIGUSR2]))),
        COUNT.load(SeqCst)
    );
    let mut now = zero();
    sys!(sigprocmask(SIG_BLOCK, null(), &mut now));
    say!("mask restored {}", members(&now));
    unsafe { raise(SIGUSR2) };
    sys!(sigsuspend(&set(&[SIGHUP])));
    say!("in the handler {}", inside());
    say!("size {}", raw!(SYS_rt_sigsuspend, 8, 3));
}

pub fn pause_returns() {
    handle(SIGALRM, count, SA_RESTART);
    let (r, when) = took(900, || {
        unsafe { alarm(1) };
        sys!(pause())
    });
    say!("{r} {when} {}", COUNT.load(SeqCst));
    set_action(SIGUSR1, SIG_IGN);
    let parent = own_pid();
    let pid = fork(|| {
        until_asleep(parent);
        unsafe { kill(parent, SIGUSR1) };
        ms(20);
        unsafe { kill(parent, SIGALRM) };
        0
    });
    say!(
        "an ignored one does not end it {} {}",
        sys!(pause()),
        COUNT.load(SeqCst)
    );
    wait(pid);
}

pub fn ppoll_mask() {
    handle(SIGUSR1, count, 0);
    block(&[SIGUSR1]);
    unsafe { raise(SIGUSR1) };
    let t = ts(2000);
    say!(
        "ppoll {} ran {}",
        sys!(ppoll(null_mut(), 0, &t, &set(&[]))),
        COUNT.load(SeqCst)
    );
    unsafe { raise(SIGUSR1) };
    let z = ts(0);
    say!(
        "ready first? ppoll without time {} ran {}",
        sys!(ppoll(null_mut(), 0, &z, &set(&[]))),
        COUNT.load(SeqCst)
    );
    unblock(&[SIGUSR1]);
    block(&[SIGUSR1]);
    COUNT.store(0, SeqCst);
    unsafe { raise(SIGUSR1) };
    say!(
        "pselect {} ran {}",
        sys!(pselect(
            0,
            null_mut(),
            null_mut(),
            null_mut(),
            &t,
            &set(&[])
        )),
        COUNT.load(SeqCst)
    );
    let ep = sys!(epoll_create1(0)).fd();
    let mut ev: [epoll_event; 1] = zero();
    unsafe { raise(SIGUSR1) };
    say!(
        "epoll_pwait {} ran {}",
        sys!(epoll_pwait(ep, ev.as_mut_ptr(), 1, 2000, &set(&[]))),
        COUNT.load(SeqCst)
    );
    let mut now = zero();
    sys!(sigprocmask(SIG_BLOCK, null(), &mut now));
    say!("mask {}", members(&now));
}

pub fn alarm_calls() {
    unsafe {
        say!("{} {} {}", alarm(100), alarm(50) >= 99, alarm(0) >= 49);
        say!("{}", alarm(0));
        handle(SIGALRM, count, 0);
        let (r, when) = took(900, || {
            alarm(1);
            sleep(10)
        });
        say!("{} {when} {}", r >= 8, COUNT.load(SeqCst));
    }
    say!(
        "default {}",
        run(|| {
            set_action(SIGALRM, SIG_DFL);
            unsafe { alarm(1) };
            loop {
                ms(1000)
            }
        })
    );
}

pub fn itimers() {
    handle(SIGALRM, count, 0);
    handle(SIGVTALRM, count, 0);
    handle(SIGPROF, count, 0);
    let tv = |us| timeval {
        tv_sec: 0,
        tv_usec: us,
    };
    let t = itimerval {
        it_interval: tv(5000),
        it_value: tv(5000),
    };
    sys!(setitimer(ITIMER_REAL, &t, null_mut())).v();
    let end = now_ms() + 3000;
    while COUNT.load(SeqCst) < 5 && now_ms() < end {
        ms(100);
    }
    let mut old: itimerval = zero();
    sys!(setitimer(ITIMER_REAL, &zero(), &mut old)).v();
    say!(
        "real, repeated {} interval {}",
        COUNT.swap(0, SeqCst) >= 5,
        old.it_interval.tv_usec
    );
    sys!(getitimer(ITIMER_REAL, &mut old)).v();
    say!("off {} {}", old.it_value.tv_sec, old.it_value.tv_usec);
    for which in [ITIMER_VIRTUAL, ITIMER_PROF] {
        let t = itimerval {
            it_interval: zero(),
            it_value: tv(10000),
        };
        sys!(setitimer(which, &t, null_mut())).v();
        let end = now_ms() + 4000;
        let mut x = 0u64;
        while COUNT.load(SeqCst) == 0 && now_ms() < end {
            for i in 0..100_000u64 {
                x = std::hint::black_box(x + i);
            }
        }
        say!("cpu time {}", COUNT.swap(0, SeqCst));
    }
    say!(
        "bad {} {}",
        sys!(setitimer(9, &t, null_mut())),
        sys!(setitimer(
            ITIMER_REAL,
            &itimerval {
                it_interval: zero(),
                it_value: tv(1_000_000)
            },
            null_mut()
        ))
    );
}
