//! Threads as libraries use them.

use crate::prelude::*;
use std::sync::{Arc, Barrier, Condvar, Mutex, RwLock, mpsc};

tests![
    spawn_join,
    mutex_contention,
    condvar_handoff,
    barrier_rounds,
    channel_pipeline,
    rwlock_mix,
    thread_locals,
    many_threads,
    ids_and_names,
    signals_to_threads,
    masks_per_thread,
    errno_per_thread,
    exit_of_first,
    panic_join,
    scoped_borrow,
    park_unpark,
    shared_descriptors,
    pthread_calls,
    robust_mutex,
    process_shared,
    affinity_of_threads,
    timed_waits,
    cancel_thread,
    stack_sizes,
    true_parallel,
    sleepers,
    proc_task,
];

fn spawn_join() {
    let v: Vec<i32> = (0..10)
        .map(|i| std::thread::spawn(move || i * i))
        .map(|t| t.join().unwrap())
        .collect();
    say!("{v:?}");
    let nested = std::thread::spawn(|| {
        std::thread::spawn(|| std::thread::spawn(|| 5).join().unwrap() + 1)
            .join()
            .unwrap()
            + 1
    });
    say!("{}", nested.join().unwrap());
    for _ in 0..200 {
        std::thread::spawn(|| ()).join().unwrap();
    }
    say!("200 more");
}

fn mutex_contention() {
    let m = Arc::new(Mutex::new(0u64));
    let t: Vec<_> = (0..8)
        .map(|_| {
            let m = m.clone();
            std::thread::spawn(move || (0..5000).for_each(|_| *m.lock().unwrap() += 1))
        })
        .collect();
    t.into_iter().for_each(|t| t.join().unwrap());
    say!("{}", m.lock().unwrap());
}

fn condvar_handoff() {
    let s = Arc::new((Mutex::new(0), Condvar::new()));
    let t: Vec<_> = (0..4)
        .map(|i| {
            let s = s.clone();
            std::thread::spawn(move || {
                for round in 0..50 {
                    let mut g = s.0.lock().unwrap();
                    while *g != round * 4 + i {
                        g = s.1.wait(g).unwrap();
                    }
                    *g += 1;
                    s.1.notify_all();
                }
            })
        })
        .collect();
    t.into_iter().for_each(|t| t.join().unwrap());
    say!("{}", s.0.lock().unwrap());
}

fn barrier_rounds() {
    let b = Arc::new(Barrier::new(5));
    let leaders = Arc::new(AtomicU32::new(0));
    let t: Vec<_> = (0..5)
        .map(|_| {
            let (b, l) = (b.clone(), leaders.clone());
            std::thread::spawn(move || {
                (0..30).for_each(|_| drop(l.fetch_add(b.wait().is_leader() as u32, SeqCst)))
            })
        })
        .collect();
    t.into_iter().for_each(|t| t.join().unwrap());
    say!("{}", leaders.load(SeqCst));
}

fn channel_pipeline() {
    let (a, b) = mpsc::channel::<u64>();
    let (c, d) = mpsc::sync_channel::<u64>(2);
    let mid = std::thread::spawn(move || b.iter().for_each(|v| c.send(v * 2).unwrap()));
    let end = std::thread::spawn(move || d.iter().sum::<u64>());
    (0..2000).for_each(|i| a.send(i).unwrap());
    drop(a);
    mid.join().unwrap();
    say!("{}", end.join().unwrap());
}

fn rwlock_mix() {
    let l = Arc::new(RwLock::new((0u64, 0u64)));
    let t: Vec<_> = (0..6)
        .map(|i| {
            let l = l.clone();
            std::thread::spawn(move || {
                let mut bad = 0;
                for _ in 0..1000 {
                    if i < 2 {
                        let mut g = l.write().unwrap();
                        g.0 += 1;
                        g.1 += 1;
                    } else {
                        let g = l.read().unwrap();
                        bad += (g.0 != g.1) as u32;
                    }
                }
                bad
            })
        })
        .collect();
    let bad: u32 = t.into_iter().map(|t| t.join().unwrap()).sum();
    say!("{bad} {:?}", *l.read().unwrap());
}

static DROPPED: AtomicU32 = AtomicU32::new(0);

struct Noisy(u32);
impl Drop for Noisy {
    fn drop(&mut self) {
        DROPPED.fetch_add(self.0, SeqCst);
    }
}

thread_local! {
    static LOCAL: std::cell::RefCell<Vec<Noisy>> = const { std::cell::RefCell::new(vec![]) };
}

fn thread_locals() {
    let t: Vec<_> = (1..6)
        .map(|i| {
            std::thread::spawn(move || {
                LOCAL.with(|l| l.borrow_mut().push(Noisy(i)));
                ms(2);
                LOCAL.with(|l| l.borrow().iter().map(|n| n.0).sum::<u32>())
            })
        })
        .collect();
    let v: Vec<u32> = t.into_iter().map(|t| t.join().unwrap()).collect();
    say!("{v:?} dropped {}", DROPPED.load(SeqCst));
    LOCAL.with(|l| say!("first thread {}", l.borrow().len()));
}

fn many_threads() {
    let n = 150;
    let b = Arc::new(Barrier::new(n + 1));
    let t: Vec<_> = (0..n)
        .map(|i| {
            let b = b.clone();
            std::thread::Builder::new()
                .stack_size(64 << 10)
                .spawn(move || {
                    b.wait();
                    b.wait();
                    i
                })
                .unwrap()
        })
        .collect();
    b.wait();
    say!(
        "tasks {}",
        std::fs::read_dir("/proc/self/task").unwrap().count()
    );
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    say!(
        "{}",
        status.lines().find(|l| l.starts_with("Threads")).unwrap()
    );
    b.wait();
    say!(
        "{}",
        t.into_iter().map(|t| t.join().unwrap()).sum::<usize>()
    );
}

fn ids_and_names() {
    let pid = unsafe { getpid() };
    say!("first {}", gettid() == pid);
    let (t, p) = std::thread::spawn(|| unsafe { (gettid(), getpid()) })
        .join()
        .unwrap();
    say!("other {} same pid {}", t != pid, p == pid);
    std::thread::Builder::new()
        .name("worker-with-long-name".into())
        .spawn(|| {
            say!("name {}", get("/proc/thread-self/comm"));
            sys!(prctl(PR_SET_NAME, c"short".as_ptr()));
            say!(
                "name {}",
                get(&format!("/proc/self/task/{}/comm", gettid()))
            );
        })
        .unwrap()
        .join()
        .unwrap();
    say!("first's name {}", get("/proc/self/comm"));
    put(&format!("/proc/self/task/{pid}/comm"), b"written");
    say!("written {}", get("/proc/self/comm"));
}

static WHO: AtomicI32 = AtomicI32::new(0);
extern "C" fn who(_: i32, _: *mut siginfo_t, _: *mut c_void) {
    WHO.store(gettid(), SeqCst);
}

fn signals_to_threads() {
    handle(SIGUSR1, who, 0);
    let stop = Arc::new(AtomicI32::new(0));
    let tid = Arc::new(AtomicI32::new(0));
    let (s, t) = (stop.clone(), tid.clone());
    let h = std::thread::spawn(move || {
        t.store(gettid(), SeqCst);
        while s.load(SeqCst) == 0 {
            ms(1);
        }
    });
    while tid.load(SeqCst) == 0 {
        ms(1);
    }
    let target = tid.load(SeqCst);
    let until = |w: i32| {
        for _ in 0..3000 {
            if WHO.load(SeqCst) == w {
                return true;
            }
            ms(1);
        }
        false
    };
    say!(
        "tgkill {}",
        sys!(syscall(SYS_tgkill, getpid(), target, SIGUSR1))
    );
    say!("reached it {}", until(target));
    say!(
        "self {} {}",
        sys!(raise(SIGUSR1)),
        WHO.load(SeqCst) == gettid()
    );
    block(&[SIGUSR1]);
    sys!(kill(getpid(), SIGUSR1)).v();
    say!("blocked here, goes there {}", until(target));
    stop.store(1, SeqCst);
    h.join().unwrap();
}

fn masks_per_thread() {
    block(&[SIGUSR1]);
    let inner = std::thread::spawn(|| {
        let mut old = zero();
        sys!(pthread_sigmask(SIG_BLOCK, &set(&[SIGUSR2]), &mut old)).v();
        say!("inherited {}", members(&old));
        sys!(raise(SIGUSR2));
        say!("pending in the thread {}", pending());
    });
    inner.join().unwrap();
    let mut now = zero();
    sys!(pthread_sigmask(SIG_BLOCK, null(), &mut now));
    say!("first {} pending {}", members(&now), pending());
    sys!(kill(getpid(), SIGUSR1));
    let seen = std::thread::spawn(pending).join().unwrap();
    say!("process pending seen by all {seen} {}", pending());
}

fn errno_per_thread() {
    let _ = open("missing", O_RDONLY);
    std::thread::spawn(|| drop(close(-1))).join().unwrap();
    say!("{}", errno_name(errno()));
}

fn exit_of_first() {
    let st = run(|| {
        let b = Arc::new(Barrier::new(2));
        let c = b.clone();
        std::thread::spawn(move || {
            c.wait();
            let pid = unsafe { getpid() };
            until_state(pid, "Z");
            say!("others go on; signal to the process {}", sys!(kill(pid, 0)));
            unsafe { _exit(3) }
        });
        b.wait();
        unsafe { syscall(SYS_exit, 0) };
        1
    });
    say!("{st}");
}

fn panic_join() {
    std::panic::set_hook(Box::new(|_| ()));
    let r = std::thread::spawn(|| {
        if std::hint::black_box(true) {
            panic!("message")
        }
    })
    .join();
    say!("{}", r.unwrap_err().downcast_ref::<&str>().unwrap());
    let m = Arc::new(Mutex::new(1));
    let n = m.clone();
    let _ = std::thread::spawn(move || {
        let _g = n.lock();
        panic!()
    })
    .join();
    say!("poisoned {}", m.is_poisoned());
}

fn scoped_borrow() {
    let mut data = vec![1u32; 10_000];
    std::thread::scope(|s| {
        for c in data.chunks_mut(1000) {
            s.spawn(|| c.iter_mut().enumerate().for_each(|(i, v)| *v += i as u32));
        }
    });
    say!("{}", data.iter().sum::<u32>());
}

fn park_unpark() {
    let t = std::thread::spawn(|| {
        for _ in 0..10 {
            std::thread::park();
        }
        "ten"
    });
    while !t.is_finished() {
        t.thread().unpark();
        ms(1);
    }
    say!("{}", t.join().unwrap());
    let ((), when) = took(30, || {
        std::thread::park_timeout(std::time::Duration::from_millis(30))
    });
    say!("{when}");
}

fn shared_descriptors() {
    let p = pipe();
    let t = std::thread::spawn(move || read(p[0], 10));
    ms(5);
    write(p[1], b"cross");
    say!("{}", t.join().unwrap());
    let fd = std::thread::spawn(|| open("f", RDWR).fd()).join().unwrap();
    say!("opened there, used here {}", write(fd, b"x"));
    std::thread::spawn(move || close(fd)).join().unwrap();
    say!("closed there {}", write(fd, b"x"));
}

fn pthread_calls() {
    unsafe {
        let mut a: pthread_attr_t = zero();
        pthread_attr_init(&mut a);
        say!(
            "detach {}",
            pthread_attr_setdetachstate(&mut a, PTHREAD_CREATE_DETACHED)
        );
        say!("stack {}", pthread_attr_setstacksize(&mut a, 128 << 10));
        say!(
            "small stack {}",
            errno_name(pthread_attr_setstacksize(&mut a, 100))
        );
        static RAN: AtomicI32 = AtomicI32::new(0);
        extern "C" fn body(v: *mut c_void) -> *mut c_void {
            RAN.store(v as usize as i32, SeqCst);
            null_mut()
        }
        let mut t: pthread_t = zero();
        say!(
            "create {}",
            pthread_create(&mut t, &a, body, 77 as *mut c_void)
        );
        while RAN.load(SeqCst) == 0 {
            ms(1);
        }
        say!("ran {}", RAN.load(SeqCst));
        let mut m: pthread_mutex_t = zero();
        let mut ma: pthread_mutexattr_t = zero();
        pthread_mutexattr_init(&mut ma);
        pthread_mutexattr_settype(&mut ma, PTHREAD_MUTEX_ERRORCHECK);
        pthread_mutex_init(&mut m, &ma);
        say!(
            "lock {} again {}",
            pthread_mutex_lock(&mut m),
            errno_name(pthread_mutex_lock(&mut m))
        );
        say!(
            "unlock {} again {}",
            pthread_mutex_unlock(&mut m),
            errno_name(pthread_mutex_unlock(&mut m))
        );
        pthread_mutexattr_settype(&mut ma, PTHREAD_MUTEX_RECURSIVE);
        pthread_mutexattr_setprotocol(&mut ma, PTHREAD_PRIO_INHERIT);
        let mut pi: pthread_mutex_t = zero();
        say!("PI {}", errno_name(pthread_mutex_init(&mut pi, &ma)));
        say!(
            "recursive {} {} {}",
            pthread_mutex_lock(&mut pi),
            pthread_mutex_lock(&mut pi),
            pthread_mutex_trylock(&mut pi)
        );
        let ptr = &raw mut pi as usize;
        say!(
            "other {}",
            std::thread::spawn(move || errno_name(pthread_mutex_trylock(ptr as *mut _)))
                .join()
                .unwrap()
        );
        (0..3).for_each(|_| drop(pthread_mutex_unlock(&mut pi)));
        let t = std::thread::spawn(move || {
            for _ in 0..1000 {
                pthread_mutex_lock(ptr as *mut _);
                pthread_mutex_unlock(ptr as *mut _);
            }
        });
        for _ in 0..1000 {
            pthread_mutex_lock(ptr as *mut _);
            pthread_mutex_unlock(ptr as *mut _);
        }
        t.join().unwrap();
        say!("PI contention done");
        let mut s: sem_t = zero();
        sem_init(&mut s, 0, 0);
        say!("sem try {}", R::of(sem_trywait(&mut s) as i64));
        let sp = &raw mut s as usize;
        let t = std::thread::spawn(move || (0..100).for_each(|_| drop(sem_wait(sp as *mut _))));
        (0..100).for_each(|_| drop(sem_post(sp as *mut _)));
        t.join().unwrap();
        let mut left = 0;
        sem_getvalue(&mut s, &mut left);
        say!("sem left {left}");
        let mut sl: pthread_spinlock_t = zero();
        say!(
            "spin {} {} {}",
            pthread_spin_init(&mut sl, 0),
            pthread_spin_lock(&mut sl),
            errno_name(pthread_spin_trylock(&mut sl))
        );
    }
}

fn shared_page() -> usize {
    sys!(mmap(
        null_mut(),
        4096,
        PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_ANONYMOUS,
        -1,
        0
    ))
    .v() as usize
}

fn robust_mutex() {
    unsafe {
        let m = shared_page() as *mut pthread_mutex_t;
        let mut a: pthread_mutexattr_t = zero();
        pthread_mutexattr_init(&mut a);
        pthread_mutexattr_setrobust(&mut a, PTHREAD_MUTEX_ROBUST);
        pthread_mutexattr_setpshared(&mut a, PTHREAD_PROCESS_SHARED);
        say!("init {}", pthread_mutex_init(m, &a));
        let p = m as usize;
        std::thread::spawn(move || pthread_mutex_lock(p as *mut _))
            .join()
            .unwrap();
        say!("owner thread died {}", errno_name(pthread_mutex_lock(m)));
        say!(
            "consistent {} unlock {}",
            pthread_mutex_consistent(m),
            pthread_mutex_unlock(m)
        );
        say!(
            "usable {} {}",
            pthread_mutex_lock(m),
            pthread_mutex_unlock(m)
        );
        let st = run(|| {
            pthread_mutex_lock(m);
            kill(getpid(), SIGKILL)
        });
        say!("{st} {}", errno_name(pthread_mutex_lock(m)));
        say!("unlocked without repair {}", pthread_mutex_unlock(m));
        say!("lost {}", errno_name(pthread_mutex_lock(m)));
        // A waiter is woken by the death of the owner.
        let n = (p + 256) as *mut pthread_mutex_t;
        pthread_mutex_init(n, &a);
        let g = Gate::new();
        let q = n as usize;
        let pid = fork(|| {
            pthread_mutex_lock(q as *mut _);
            g.open();
            ms(30);
            0
        });
        g.pass();
        say!("waiter {}", errno_name(pthread_mutex_lock(n)));
        say!("{}", wait(pid));
    }
}

fn process_shared() {
    unsafe {
        let base = shared_page();
        let m = base as *mut pthread_mutex_t;
        let c = (base + 512) as *mut pthread_cond_t;
        let n = (base + 1024) as *mut u32;
        let mut a: pthread_mutexattr_t = zero();
        pthread_mutexattr_init(&mut a);
        pthread_mutexattr_setpshared(&mut a, PTHREAD_PROCESS_SHARED);
        pthread_mutex_init(m, &a);
        let mut ca: pthread_condattr_t = zero();
        pthread_condattr_init(&mut ca);
        pthread_condattr_setpshared(&mut ca, PTHREAD_PROCESS_SHARED);
        pthread_cond_init(c, &ca);
        let kids: Vec<i32> = (0..3)
            .map(|i| {
                fork(|| {
                    for round in 0..40 {
                        pthread_mutex_lock(m);
                        while *n != round * 3 + i {
                            pthread_cond_wait(c, m);
                        }
                        *n += 1;
                        pthread_cond_broadcast(c);
                        pthread_mutex_unlock(m);
                    }
                    0
                })
            })
            .collect();
        for k in kids {
            say!("{}", wait(k));
        }
        say!("{}", *n);
        let s = (base + 2048) as *mut sem_t;
        sem_init(s, 1, 0);
        let pid = fork(|| {
            sem_post(s);
            0
        });
        say!("sem {} {}", sem_wait(s), wait(pid));
    }
}

fn affinity_of_threads() {
    let mut one: cpu_set_t = zero();
    unsafe { CPU_SET(0, &mut one) };
    let count = || {
        let mut s: cpu_set_t = zero();
        sys!(sched_getaffinity(0, size_of::<cpu_set_t>(), &mut s)).v();
        unsafe { CPU_COUNT(&s) }
    };
    let before = count();
    let t = std::thread::spawn(move || {
        sys!(sched_setaffinity(0, size_of::<cpu_set_t>(), &one));
        let inner = std::thread::spawn(move || count()).join().unwrap();
        (count(), inner)
    })
    .join()
    .unwrap();
    say!("{} first unchanged {}", t.1 == t.0, count() == before);
}

fn timed_waits() {
    let m = Mutex::new(());
    let c = Condvar::new();
    let (r, when) = took(40, || {
        c.wait_timeout(m.lock().unwrap(), std::time::Duration::from_millis(40))
            .unwrap()
            .1
            .timed_out()
    });
    say!("{r} {when}");
    let (_a, b) = mpsc::channel::<()>();
    let (r, when) = took(30, || b.recv_timeout(std::time::Duration::from_millis(30)));
    say!("{r:?} {when}");
    unsafe {
        let mut m: pthread_mutex_t = zero();
        pthread_mutex_lock(&mut m);
        let mut t: timespec = zero();
        clock_gettime(CLOCK_REALTIME, &mut t);
        t.tv_nsec += 30_000_000;
        if t.tv_nsec >= 1_000_000_000 {
            t.tv_sec += 1;
            t.tv_nsec -= 1_000_000_000;
        }
        let p = &raw mut m as usize;
        let r = std::thread::spawn(move || {
            took(0, || errno_name(pthread_mutex_timedlock(p as *mut _, &t)))
        })
        .join()
        .unwrap();
        say!("{r:?}");
    }
}

fn cancel_thread() {
    unsafe {
        unsafe extern "C" {
            fn pthread_cancel(t: pthread_t) -> i32;
        }
        extern "C" fn body(_: *mut c_void) -> *mut c_void {
            loop {
                unsafe { sleep(100) };
            }
        }
        let mut t: pthread_t = zero();
        pthread_create(&mut t, null(), body, null_mut());
        ms(5);
        say!("{}", pthread_cancel(t));
        let mut v = null_mut();
        say!("{} canceled {}", pthread_join(t, &mut v), v as isize == -1);
    }
}

fn stack_sizes() {
    #[inline(never)]
    fn burn(n: usize) -> u8 {
        let mut a = [0u8; 1000];
        unsafe { (&raw mut a[n % 1000]).write_volatile(1) };
        if n == 0 {
            a[0]
        } else {
            burn(n - 1).wrapping_add(a[n % 1000])
        }
    }
    for kb in [256, 1024, 16384] {
        let r = std::thread::Builder::new()
            .stack_size(kb << 10)
            .spawn(move || burn(kb / 3))
            .unwrap()
            .join()
            .unwrap();
        say!("{kb} {}", r == (kb / 3 + 1) as u8);
    }
    let st = run(|| {
        let _ = std::thread::Builder::new()
            .stack_size(64 << 10)
            .spawn(|| burn(100_000))
            .unwrap()
            .join();
        0
    });
    say!("overflow hits the guard {st}");
}

fn true_parallel() {
    // Two threads that spin for each other make progress only if the system switches between them.
    let a = Arc::new(AtomicU32::new(0));
    let b = a.clone();
    let t = std::thread::spawn(move || {
        for i in 0..20 {
            while b.load(SeqCst) != 2 * i + 1 {
                std::hint::spin_loop();
            }
            b.store(2 * i + 2, SeqCst);
        }
    });
    for i in 0..20 {
        a.store(2 * i + 1, SeqCst);
        while a.load(SeqCst) != 2 * i + 2 {
            std::hint::spin_loop();
        }
    }
    t.join().unwrap();
    say!("{}", a.load(SeqCst));
}

fn sleepers() {
    let t0 = now_ms();
    let order = Arc::new(Mutex::new(vec![]));
    let t: Vec<_> = [400u64, 20, 200]
        .into_iter()
        .map(|d| {
            let o = order.clone();
            std::thread::spawn(move || {
                ms(d);
                o.lock().unwrap().push(d);
            })
        })
        .collect();
    t.into_iter().for_each(|t| t.join().unwrap());
    say!("{:?} {}", order.lock().unwrap(), now_ms() - t0 >= 399);
}

fn proc_task() {
    let b = Arc::new(Barrier::new(3));
    let t: Vec<_> = (0..2)
        .map(|_| {
            let b = b.clone();
            std::thread::spawn(move || {
                b.wait();
                b.wait();
                gettid()
            })
        })
        .collect();
    b.wait();
    let mut names: Vec<i32> = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().parse().unwrap())
        .collect();
    b.wait();
    let mut tids: Vec<i32> = t.into_iter().map(|t| t.join().unwrap()).collect();
    tids.push(unsafe { getpid() });
    tids.sort();
    names.sort();
    say!("{}", tids == names);
}
