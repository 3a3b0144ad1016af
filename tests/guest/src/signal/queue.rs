//! Signals that wait: the pending set, queues, what comes with a signal.

use super::basic::{COUNT, count, log, logged, own_pid};
use crate::prelude::*;

pub fn pending_set() {
    block(&[SIGUSR1, SIGUSR2, SIGTERM, 40]);
    say!("{}", pending());
    for n in [SIGUSR2, SIGTERM, 40, SIGUSR2] {
        unsafe { kill(getpid(), n) };
    }
    say!("{}", pending());
    set_action(SIGTERM, SIG_IGN);
    say!("ignoring drops it {}", pending());
    unsafe { kill(getpid(), SIGTERM) };
    say!("blocked and ignored {}", pending());
    say!(
        "child starts empty {}",
        run(|| {
            say!("{}", pending());
            0
        })
    );
    set_action(SIGUSR2, SIG_IGN);
    set_action(40, SIG_IGN);
    say!("{}", pending());
}

pub fn standard_not_queued() {
    handle(SIGUSR1, count, 0);
    block(&[SIGUSR1]);
    for _ in 0..10 {
        unsafe { kill(getpid(), SIGUSR1) };
    }
    unblock(&[SIGUSR1]);
    say!("{}", COUNT.load(SeqCst));
    block(&[SIGUSR1]);
    unsafe {
        kill(getpid(), SIGUSR1);
        raise(SIGUSR1);
    }
    unblock(&[SIGUSR1]);
    say!(
        "one for the thread, one for the process {}",
        COUNT.load(SeqCst) - 1
    );
}

pub(super) fn queue(n: i32, v: usize) -> R {
    sys!(sigqueue(
        getpid(),
        n,
        sigval {
            sival_ptr: v as *mut c_void
        }
    ))
}

pub fn realtime_queue() {
    handle(40, log, 0);
    block(&[40]);
    for v in 1..=5 {
        say!("{}", queue(40, v));
    }
    say!("{}", pending());
    unblock(&[40]);
    say!("{}", logged());
}

pub fn realtime_order() {
    for n in [SIGUSR1, SIGUSR2, 35, 40, 64] {
        let mut sa: sigaction = zero();
        sa.sa_sigaction = log as *const () as usize;
        sa.sa_flags = SA_SIGINFO;
        unsafe { sigfillset(&mut sa.sa_mask) };
        sys!(sigaction(n, &sa, null_mut())).v();
    }
    let all = [SIGUSR1, SIGUSR2, 35, 40, 64];
    block(&all);
    for (i, n) in [64, 40, SIGUSR2, 35, 40, SIGUSR1, 64]
        .into_iter()
        .enumerate()
    {
        queue(n, i).v();
    }
    unblock(&all);
    say!("lowest first, first in first out: {}", logged());
}

pub fn sigqueue_value() {
    handle(SIGUSR1, log, 0);
    queue(SIGUSR1, 12345);
    say!("{}", logged());
    say!(
        "0 {} bad {} nobody {}",
        queue(0, 0),
        queue(65, 0),
        sys!(sigqueue(
            99999,
            0,
            sigval {
                sival_ptr: null_mut()
            }
        ))
    );
    let mut i: siginfo_t = zero();
    i.si_code = SI_USER;
    i.si_signo = SIGUSR1;
    let other = fork(|| {
        loop {
            ms(1000)
        }
    });
    say!(
        "forged kernel code to another {}",
        raw!(SYS_rt_sigqueueinfo, other, SIGUSR1, &raw const i)
    );
    i.si_code = SI_TKILL;
    say!(
        "forged tkill {}",
        raw!(SYS_rt_sigqueueinfo, other, SIGUSR1, &raw const i)
    );
    i.si_code = SI_QUEUE;
    say!(
        "queue {} {}",
        raw!(SYS_rt_sigqueueinfo, other, SIGTERM, &raw const i),
        wait(other)
    );
    say!(
        "bad pointer {}",
        raw!(SYS_rt_sigqueueinfo, own_pid(), SIGUSR1, 8)
    );
    say!(
        "tgsigqueueinfo {} {}",
        raw!(
            SYS_rt_tgsigqueueinfo,
            own_pid(),
            gettid(),
            SIGUSR1,
            &raw const i
        ),
        COUNT.load(SeqCst)
    );
}

static INFO: [AtomicI32; 4] = [const { AtomicI32::new(0) }; 4];

extern "C" fn take(n: i32, i: *mut siginfo_t, _: *mut c_void) {
    unsafe {
        INFO[0].store(n, SeqCst);
        INFO[1].store((*i).si_code, SeqCst);
        INFO[2].store((*i).si_pid(), SeqCst);
        INFO[3].store((*i).si_uid() as i32, SeqCst);
    }
}

pub fn siginfo_sources() {
    for n in [SIGUSR1, SIGALRM, SIGPIPE, SIGIO, SIGCHLD] {
        handle(n, take, 0);
    }
    let show = |who: i32| {
        let v: Vec<i32> = INFO.iter().map(|i| i.swap(-99, SeqCst)).collect();
        let pid = if v[2] == who {
            "sender"
        } else if v[2] == 0 {
            "0"
        } else {
            "other"
        };
        let uid = match v[3] {
            0 => "0",
            u if u == unsafe { getuid() } as i32 => "ours",
            _ => "other",
        };
        format!("{} code {} pid {pid} uid {uid}", sig(v[0]), v[1])
    };
    unsafe { kill(getpid(), SIGUSR1) };
    say!("kill {}", show(own_pid()));
    unsafe { raise(SIGUSR1) };
    say!("raise {}", show(own_pid()));
    queue(SIGUSR1, 1);
    say!("sigqueue {}", show(own_pid()));
    let t = itimerval {
        it_interval: zero(),
        it_value: timeval {
            tv_sec: 0,
            tv_usec: 5000,
        },
    };
    block(&[SIGALRM]);
    sys!(setitimer(ITIMER_REAL, &t, null_mut())).v();
    unsafe { sigsuspend(&set(&[])) };
    say!("itimer {}", show(own_pid()));
    let p = pipe();
    close(p[0]);
    write(p[1], b"x");
    say!("pipe {}", show(own_pid()));
    let pid = fork(|| unsafe { kill(getppid(), SIGUSR1) });
    wait(pid);
    let v = INFO[0].load(SeqCst);
    say!("last one is one of two: {}", v == SIGCHLD || v == SIGUSR1);
}

pub fn queue_limit() {
    let lim = rlimit {
        rlim_cur: 10,
        rlim_max: 10,
    };
    sys!(setrlimit(RLIMIT_SIGPENDING, &lim)).v();
    block(&[40, SIGUSR1]);
    let mut n = 0;
    let e = loop {
        let r = queue(40, n);
        if r.failed() || n > 100 {
            break r;
        }
        n += 1;
    };
    say!("bounded {} {e}", n <= 10);
    // The user's other processes count too: there may be none of the queued ones.
    say!("kill still works {}", sys!(kill(own_pid(), SIGUSR1)));
    let mut waiting: sigset_t = zero();
    sys!(sigpending(&mut waiting)).v();
    say!("it waits {}", unsafe { sigismember(&waiting, SIGUSR1) });
}
