//! PI futexes and priorities: who is served first, who is lent whose priority.

use super::pi::{pi, until_thread_asleep_in_futex};
use super::{W, fx};
use crate::prelude::*;

/// Makes the calling thread a real-time one; `false`: it may not.
pub fn realtime(priority: i32) -> bool {
    let mut p: sched_param = zero();
    p.sched_priority = priority;
    let policy = if priority > 0 {
        SCHED_FIFO
    } else {
        SCHED_OTHER
    };
    // The raw call: libc's may mean the process.
    !raw!(SYS_sched_setscheduler, 0, policy, &raw const p).failed()
}

/// Whether this process may use real-time priorities.
pub fn may_realtime() -> bool {
    realtime(1) && realtime(0)
}

/// Present priority of a thread of this process: 20 + nice, or -1 - real-time priority.
fn priority_of(tid: i32) -> i64 {
    let me = unsafe { getpid() };
    let s = std::fs::read_to_string(format!("/proc/{me}/task/{tid}/stat")).unwrap_or_default();
    let rest = s.rsplit_once(") ").map_or("", |(_, r)| r);
    rest.split(' ')
        .nth(15)
        .and_then(|f| f.parse().ok())
        .unwrap_or(-1000)
}

/// Priority of a thread that nobody lends one.
fn plain() -> i64 {
    20 + i64::from(niceness())
}

/// A thread of priority `prio` that locks `a`, notes `name`, and unlocks it.
fn contender(
    a: &'static AtomicU32,
    prio: i32,
    name: char,
    log: &'static std::sync::Mutex<String>,
) -> (std::thread::JoinHandle<()>, i32) {
    let tid: &'static AtomicI32 = Box::leak(Box::new(AtomicI32::new(0)));
    let t = std::thread::spawn(move || {
        if prio > 0 {
            realtime(prio);
        }
        tid.store(gettid(), SeqCst);
        pi(a, FUTEX_LOCK_PI).v();
        log.lock().unwrap().push(name);
        pi(a, FUTEX_UNLOCK_PI).v();
    });
    while tid.load(SeqCst) == 0 {
        ms(1);
    }
    let tid = tid.load(SeqCst);
    until_thread_asleep_in_futex(tid);
    (t, tid)
}

fn new_log() -> &'static std::sync::Mutex<String> {
    Box::leak(Box::new(std::sync::Mutex::new(String::new())))
}

pub fn pi_order() {
    let a = &W[0];
    let rt = may_realtime();
    pi(a, FUTEX_LOCK_PI).v();
    let log = new_log();
    let t: Vec<_> = [('a', 0), ('b', 5), ('c', 9), ('d', 5), ('e', 0), ('f', 9)]
        .map(|(n, p)| contender(a, if rt { p } else { 0 }, n, log))
        .into_iter()
        .collect();
    pi(a, FUTEX_UNLOCK_PI).v();
    t.into_iter().for_each(|t| t.0.join().unwrap());
    let log = log.lock().unwrap().clone();
    // Without real-time priorities: in order of arrival.
    let want = if rt { "cfbdae" } else { "abcdef" };
    say!("in order {}", if log == want { "yes" } else { &log });
}

pub fn pi_boost() {
    if !may_realtime() {
        say!("boosted true back true");
        say!("follows true true");
        say!("timeout true");
        return;
    }
    let a = &W[0];
    let me = gettid();
    pi(a, FUTEX_LOCK_PI).v();
    let log = new_log();
    let mut seen = vec![priority_of(me)];
    let w1 = contender(a, 10, 'a', log);
    seen.push(priority_of(me));
    let w2 = contender(a, 30, 'b', log);
    seen.push(priority_of(me));
    let w3 = contender(a, 20, 'c', log);
    seen.push(priority_of(me));
    // Neither policy nor priority that were set change.
    let mut p: sched_param = zero();
    sys!(sched_getparam(0, &mut p)).v();
    let own = (sys!(sched_getscheduler(0)).0, p.sched_priority);
    pi(a, FUTEX_UNLOCK_PI).v();
    seen.push(priority_of(me));
    for w in [w1, w2, w3] {
        w.0.join().unwrap();
    }
    let ok =
        seen == [plain(), -11, -31, -31, plain()] && own == (0, 0) && *log.lock().unwrap() == "bca";
    say!(
        "boosted {} back {}",
        if ok {
            "true".into()
        } else {
            format!("{seen:?} {own:?}")
        },
        priority_of(me) == plain()
    );
    // The waiter's priority changes while it waits.
    pi(a, FUTEX_LOCK_PI).v();
    let w = contender(a, 10, 'a', log);
    let set = |tid: i32, prio: i32| {
        let mut p: sched_param = zero();
        p.sched_priority = prio;
        let policy = if prio > 0 { SCHED_FIFO } else { SCHED_OTHER };
        raw!(SYS_sched_setscheduler, tid, policy, &raw const p).v();
        priority_of(me)
    };
    let seen = [set(w.1, 40), set(w.1, 3), set(w.1, 0), set(w.1, 7)];
    // The owner's own priority counts when it is higher.
    let own = [set(me, 5), set(me, 50), set(me, 0)];
    say!(
        "follows {} {}",
        if seen == [-41, -4, plain(), -8] {
            "true".into()
        } else {
            format!("{seen:?}")
        },
        if own == [-8, -51, -8] {
            "true".into()
        } else {
            format!("{own:?}")
        }
    );
    pi(a, FUTEX_UNLOCK_PI).v();
    w.0.join().unwrap();
    // A waiter that gives up takes its boost with it.
    pi(a, FUTEX_LOCK_PI).v();
    let before = std::thread::spawn(move || {
        realtime(25);
        let mut t: timespec = zero();
        unsafe { clock_gettime(CLOCK_REALTIME, &mut t) };
        t.tv_sec += (t.tv_nsec + 100_000_000) / 1_000_000_000;
        t.tv_nsec = (t.tv_nsec + 100_000_000) % 1_000_000_000;
        fx(&W[0], FUTEX_LOCK_PI, 0, &t, null(), 0)
    });
    let mut most = 0;
    while !before.is_finished() {
        most = most.min(priority_of(me));
        ms(1);
    }
    let r = before.join().unwrap();
    let ok = r.err() == ETIMEDOUT && most == -26 && priority_of(me) == plain();
    say!(
        "timeout {}",
        if ok {
            "true".into()
        } else {
            format!("{r} {most} {}", priority_of(me))
        }
    );
    pi(a, FUTEX_UNLOCK_PI).v();
}

pub fn pi_boost_chain() {
    if !may_realtime() {
        say!("chain true");
        return;
    }
    // Thread i owns word i and waits for word i - 1; word 0 is ours.
    let me = gettid();
    pi(&W[0], FUTEX_LOCK_PI).v();
    let tids: Vec<&'static AtomicI32> = (0..4)
        .map(|_| &*Box::leak(Box::new(AtomicI32::new(0))))
        .collect();
    let mut threads = Vec::new();
    for i in 1..4usize {
        let tid = tids[i];
        threads.push(std::thread::spawn(move || {
            pi(&W[i], FUTEX_LOCK_PI).v();
            tid.store(gettid(), SeqCst);
            pi(&W[i - 1], FUTEX_LOCK_PI).v();
            pi(&W[i - 1], FUTEX_UNLOCK_PI).v();
            pi(&W[i], FUTEX_UNLOCK_PI).v();
        }));
        while tid.load(SeqCst) == 0 {
            ms(1);
        }
        until_thread_asleep_in_futex(tid.load(SeqCst));
    }
    let log = new_log();
    let all = || -> Vec<i64> {
        (0..4)
            .map(|i| priority_of(if i == 0 { me } else { tids[i].load(SeqCst) }))
            .collect()
    };
    let before = all();
    let low = contender(&W[2], 8, 'l', log);
    let some = all();
    let high = contender(&W[3], 33, 'h', log);
    let after = all();
    pi(&W[0], FUTEX_UNLOCK_PI).v();
    threads.into_iter().for_each(|t| t.join().unwrap());
    low.0.join().unwrap();
    high.0.join().unwrap();
    let end = priority_of(me);
    let ok = before == [plain(); 4]
        && some == [-9, -9, -9, plain()]
        && after == [-34; 4]
        && end == plain();
    say!(
        "chain {}",
        if ok {
            "true".into()
        } else {
            format!("{before:?} {some:?} {after:?} {end}")
        }
    );
}

pub fn pi_inversion() {
    // On one CPU: low owns, high wants, medium computes. Low must run before medium.
    if !may_realtime() {
        say!("high first true");
        return;
    }
    let mut old: cpu_set_t = zero();
    sys!(sched_getaffinity(0, size_of::<cpu_set_t>(), &mut old)).v();
    let cpu = (0..1024).find(|c| unsafe { CPU_ISSET(*c, &old) }).unwrap();
    let pin = move || {
        let mut s: cpu_set_t = zero();
        unsafe { CPU_SET(cpu, &mut s) };
        raw!(
            SYS_sched_setaffinity,
            0,
            size_of::<cpu_set_t>(),
            &raw const s
        )
        .v();
    };
    static STEP: AtomicU32 = AtomicU32::new(0);
    let log = new_log();
    STEP.store(0, SeqCst);
    let start = Gate::new();
    let low = std::thread::spawn(move || {
        pin();
        realtime(10);
        pi(&W[0], FUTEX_LOCK_PI).v();
        STEP.store(1, SeqCst);
        start.pass();
        // Some work in the critical section.
        let t = now_ms();
        while now_ms() < t + 20 {}
        log.lock().unwrap().push('l');
        pi(&W[0], FUTEX_UNLOCK_PI).v();
    });
    while STEP.load(SeqCst) != 1 {
        ms(1);
    }
    let (up, compute, go) = (Gate::new(), Gate::new(), Gate::new());
    let medium = std::thread::spawn(move || {
        pin();
        realtime(20);
        up.open();
        compute.pass();
        let t = now_ms();
        while now_ms() < t + 250 {}
        log.lock().unwrap().push('m');
    });
    let high = std::thread::spawn(move || {
        pin();
        realtime(30);
        up.open();
        go.pass();
        // Both can run from here on, but not before this thread waits.
        start.open();
        compute.open();
        pi(&W[0], FUTEX_LOCK_PI).v();
        log.lock().unwrap().push('h');
        pi(&W[0], FUTEX_UNLOCK_PI).v();
    });
    up.pass();
    up.pass();
    go.open();
    low.join().unwrap();
    high.join().unwrap();
    medium.join().unwrap();
    let log = log.lock().unwrap().clone();
    say!("high first {}", if log == "lhm" { "true" } else { &log });
}

pub fn pi_crowd() {
    // Threads take two locks in any order: circles are refused, waits time out, owners end.
    static INSIDE: [AtomicU32; 4] = [const { AtomicU32::new(0) }; 4];
    let rt = may_realtime();
    let bad: &'static AtomicU32 = Box::leak(Box::new(AtomicU32::new(0)));
    let enter = move |i: usize| {
        if INSIDE[i].fetch_add(1, SeqCst) != 0 {
            bad.fetch_add(1, SeqCst);
        }
    };
    let leave = |i: usize| {
        INSIDE[i].fetch_sub(1, SeqCst);
        pi(&W[i], FUTEX_UNLOCK_PI)
    };
    let t: Vec<_> = (0..6u64)
        .map(|n| {
            std::thread::spawn(move || {
                let mut seed = n + 1;
                for round in 0..300 {
                    seed = seed
                        .wrapping_mul(6364136223846793005)
                        .wrapping_add(1442695040888963407);
                    let (a, b) = ((seed >> 33) as usize % 4, (seed >> 41) as usize % 4);
                    if rt && seed >> 60 == 0 {
                        realtime((seed >> 50) as i32 % 3);
                    }
                    // Linux may refuse it for the circle that another is about to be refused for.
                    if pi(&W[a], FUTEX_LOCK_PI).err() == EDEADLK {
                        continue;
                    }
                    enter(a);
                    let mut t: timespec = zero();
                    unsafe { clock_gettime(CLOCK_REALTIME, &mut t) };
                    t.tv_nsec = (t.tv_nsec + 300_000).min(999_999_999);
                    let until = if round % 3 == 0 { &raw const t } else { null() };
                    let r = fx(&W[b], FUTEX_LOCK_PI, 0, until, null(), 0);
                    match r.err() {
                        0 => {
                            enter(b);
                            leave(b).v();
                        }
                        EDEADLK | ETIMEDOUT => {}
                        _ => {
                            bad.fetch_add(1000, SeqCst);
                        }
                    }
                    leave(a).v();
                }
                realtime(0);
            })
        })
        .collect();
    t.into_iter().for_each(|t| t.join().unwrap());
    let free = W[..4].iter().all(|w| w.load(SeqCst) & FUTEX_TID_MASK == 0);
    say!(
        "bad {} free {free} own priority {}",
        bad.load(SeqCst),
        priority_of(gettid()) == plain()
    );
}
