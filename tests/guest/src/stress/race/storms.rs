//! What happens while functions are called: signals, forks, and changes of the mappings
//! of the code and of what lies where an engine may have put something.

use super::code::{Code, PAGE, Random};
use super::*;
use std::sync::OnceLock;
use std::thread::JoinHandle;

/// How far above code the engine `kml` has its trampolines.
const REACH: usize = 0x6006_1000;

/// Where else than in the regions instructions are.
static EXECUTABLE: OnceLock<Vec<(usize, usize)>> = OnceLock::new();
static SHARED: AtomicPtr<Shared> = AtomicPtr::new(null_mut());

/// Where the thread is that got a signal.
fn rip(context: *mut c_void) -> usize {
    unsafe { (*context.cast::<ucontext_t>()).uc_mcontext.gregs[REG_RIP as usize] as usize }
}

fn shared() -> &'static Shared {
    unsafe { &*SHARED.load(SeqCst) }
}

/// The region that `at` is in.
fn region_of(at: usize) -> Option<&'static Region> {
    let mut all = shared().regions.iter();
    all.find(|r| (r.at..r.at + LEN).contains(&at))
}

/// Checks that a thread is where an instruction of the program's starts, and makes calls itself.
extern "C" fn on_interrupt(_: i32, _: *mut siginfo_t, context: *mut c_void) {
    let at = rip(context);
    let fine = match region_of(at) {
        Some(r) => r.code().starts[at - r.at],
        None => EXECUTABLE
            .get()
            .is_some_and(|v| v.iter().any(|x| (x.0..x.1).contains(&at))),
    };
    // Another mapping of the same code.
    let alias = ALIAS.load(SeqCst);
    let aliased = alias != 0 && (alias..alias + LEN).contains(&at);
    if !fine && !aliased {
        let place = region_of(at).map(|r| at - r.at);
        bad(&format!("a signal at {at:#x}, {place:x?} of its region"));
    }
}

static ALIAS: AtomicUsize = AtomicUsize::new(0);

/// Code that a storm has taken away for a moment comes back.
extern "C" fn on_fault(signo: i32, info: *mut siginfo_t, context: *mut c_void) {
    let (at, addr) = (rip(context), unsafe { (*info).si_addr() as usize });
    let starts = region_of(at).is_some_and(|r| r.code().starts[at - r.at]);
    if signo == SIGSEGV && starts && region_of(addr).is_some() {
        sys!(sched_yield());
        return;
    }
    let regs = unsafe { (*context.cast::<ucontext_t>()).uc_mcontext.gregs };
    let reg = |n: i32| regs[n as usize] as usize;
    let r15 = reg(REG_R15);
    let what = region_of(r15).map(|r| r.code().describe(r15 - r.at));
    let (vector, error) = (reg(REG_TRAPNO), reg(REG_ERR));
    // What is there now, and what should be.
    let bytes = region_of(at).map(|r| {
        let from = (at - 24).max(r.at);
        let now = unsafe { *(from as *const [u8; 48]) };
        format!(
            "{from:#x}: {now:02x?}, {:02x?}",
            &r.code().bytes[from - r.at..][..48]
        )
    });
    bad(&format!(
        "signal {signo} ({vector}, {error}) at {at:#x} for {addr:#x}, after a call of {r15:#x}: {what:?}, {bytes:?}, {regs:x?}"
    ));
}

pub fn handle_signals(s: &'static Shared) {
    SHARED.store(std::ptr::from_ref(s).cast_mut(), SeqCst);
    EXECUTABLE.get_or_init(|| {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let code = maps.lines().filter(|l| l.contains(" r-xp "));
        let range = |l: &str| {
            let (a, b) = l.split_once(' ')?.0.split_once('-')?;
            Some((
                usize::from_str_radix(a, 16).ok()?,
                usize::from_str_radix(b, 16).ok()?,
            ))
        };
        code.filter_map(range)
            .filter(|x| region_of(x.0).is_none())
            .collect()
    });
    let action = |signo: i32, f: usize| {
        let mut a: sigaction = zero();
        a.sa_sigaction = f;
        a.sa_flags = SA_SIGINFO | SA_RESTART;
        a.sa_mask = set(&[SIGALRM, SIGUSR1]);
        sys!(sigaction(signo, &a, null_mut())).v();
    };
    for signo in [SIGALRM, SIGUSR1] {
        action(signo, on_interrupt as *const () as usize);
    }
    for signo in [SIGSEGV, SIGILL, SIGBUS, SIGTRAP, SIGFPE] {
        action(signo, on_fault as *const () as usize);
    }
}

type Storm = fn(&'static Shared, &mut Random);

const STORMS: [(&str, Storm); 6] = [
    ("signals", signals),
    ("forks", forks),
    ("maps", maps),
    ("rights", rights),
    ("room", room),
    ("files", files),
];

/// Starts these storms, or all for `all`. Each tells at its end how often it came.
pub fn start(s: &'static Shared, names: &[&str], seed: u64) -> Vec<JoinHandle<String>> {
    let chosen = STORMS
        .iter()
        .filter(|x| names.contains(&x.0) || names.contains(&"all"));
    chosen
        .map(|&(name, storm)| {
            std::thread::spawn(move || {
                let mut r = Random(seed ^ name.len() as u64 ^ u64::from(name.as_bytes()[0]) << 8);
                let mut n = 0;
                while !s.stop.load(SeqCst) {
                    storm(s, &mut r);
                    sys!(sched_yield());
                    n += 1;
                }
                format!("{n} {name}")
            })
        })
        .collect()
}

/// A region, its code as it is now, and some pages of it. With the gate held.
fn some<'a>(s: &'a Shared, r: &mut Random) -> (&'a Region, &'static Code, usize, usize) {
    let region = &s.regions[r.below(REGIONS)];
    let first = r.below(PAGES);
    let n = 1 + r.below(PAGES - first);
    (region, region.code(), first * PAGE, n * PAGE)
}

fn pause(r: &mut Random) {
    for _ in 0..r.below(4) {
        sys!(sched_yield());
    }
}

/// To a thread that calls; a timer sends others.
fn signals(s: &'static Shared, r: &mut Random) {
    let every = timeval {
        tv_sec: 0,
        tv_usec: 100 + r.below(900) as i64,
    };
    let t = itimerval {
        it_interval: every,
        it_value: every,
    };
    raw!(
        SYS_setitimer,
        ITIMER_REAL,
        &raw const t,
        null_mut::<itimerval>()
    )
    .v();
    for w in &s.workers {
        let tid = w.load(SeqCst);
        if tid > 0 && !s.stop.load(SeqCst) {
            raw!(SYS_tgkill, getpid(), tid, SIGUSR1);
        }
    }
}

/// A child that calls what it has inherited, at times one that shares this memory.
#[expect(deprecated, reason = "vfork is what is tried")]
fn forks(s: &'static Shared, r: &mut Random) {
    let mut c = Caller::new(s);
    let seed = r.next();
    let pid = s.gate(|| {
        if seed % 4 == 0 {
            let pid = sys!(vfork());
            if pid.0 == 0 {
                unsafe { _exit(7) }
            }
            return pid;
        }
        s.children.fetch_add(1, SeqCst);
        let pid = sys!(fork());
        if pid.0 == 0 {
            let mut r = Random(seed);
            c.who = Who::me(s.fd);
            for i in 0..300 {
                let region = &s.regions[i % REGIONS];
                let n = r.below(region.code().sites.len());
                c.call(region.code(), region.at, n, &mut r);
            }
            unsafe { _exit(7) }
        }
        pid
    });
    let mut st = 0;
    if pid.failed() || sys!(waitpid(pid.0 as i32, &mut st, 0)) != pid || st != 7 << 8 {
        bad(&format!("a child: {pid}, {}", St(st)));
    }
    if seed % 4 > 0 {
        s.children.fetch_sub(1, SeqCst);
    }
}

/// The same code again where it is: in one step, or taken away for a moment.
fn maps(s: &'static Shared, r: &mut Random) {
    s.gate(|| {
        let (region, _, first, len) = some(s, r);
        let at = region.at + first;
        let rights = PROT_READ | PROT_EXEC;
        if region.fd < 0 {
            return region.put();
        }
        if r.below(2) == 0 {
            sys!(munmap(at as *mut _, len)).v();
            pause(r);
        }
        let flags = MAP_PRIVATE | MAP_FIXED;
        sys!(mmap(
            at as *mut _,
            len,
            rights,
            flags,
            region.fd,
            first as i64
        ))
        .v();
    });
}

/// Other rights for a moment.
fn rights(s: &'static Shared, r: &mut Random) {
    s.gate(|| {
        let (region, code, first, len) = some(s, r);
        let at = (region.at + first) as *mut c_void;
        let (rw, rx) = (PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC);
        let mut now = r.pick(&[PROT_NONE, PROT_READ, rw, rw | PROT_EXEC, PROT_EXEC]);
        if region.in_place {
            now &= !PROT_WRITE;
        }
        sys!(mprotect(at, len, now)).v();
        if now & PROT_WRITE != 0 {
            // What the program reads there is what it has written.
            let p = at as *mut u8;
            for i in (0..len).step_by(97) {
                unsafe { p.add(i).write_volatile(code.bytes[first + i]) };
            }
            let got = unsafe { std::slice::from_raw_parts(p, len) };
            if got != &code.bytes[first..first + len] {
                bad("bytes of code that can be written");
            }
        }
        pause(r);
        sys!(mprotect(at, len, rx)).v();
    });
}

/// Memory of the program's own where trampolines are, or would be.
fn room(s: &'static Shared, r: &mut Random) {
    let region = &s.regions[r.below(REGIONS)];
    let at = region.at + REACH - PAGE + r.below(PAGES + 2) * PAGE;
    let len = (1 + r.below(4)) * PAGE;
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    let m = sys!(mmap(
        at as *mut _,
        len,
        PROT_READ | PROT_WRITE,
        flags,
        -1,
        0
    ));
    if m.0 != at as i64 {
        if !m.failed() {
            sys!(munmap(m.0 as *mut _, len));
        }
        return;
    }
    let p = at as *mut u64;
    for i in 0..len / 8 {
        let old = unsafe { p.add(i).read_volatile() };
        if old != 0 {
            bad(&format!("fresh memory holds {old:#x}"));
        }
        unsafe { p.add(i).write_volatile(i as u64 ^ 0x5555) };
    }
    for _ in 0..r.below(30) {
        sys!(sched_yield());
    }
    for i in 0..len / 8 {
        let v = unsafe { p.add(i).read_volatile() };
        if v != i as u64 ^ 0x5555 {
            bad(&format!("memory of the program's own holds {v:#x}"));
        }
    }
    sys!(munmap(m.0 as *mut _, len)).v();
}

/// The file of the code: written, read, and mapped elsewhere.
fn files(s: &'static Shared, r: &mut Random) {
    let mut c = Caller::new(s);
    s.gate(|| {
        let region = &s.regions[r.pick(&super::FILES)];
        let code = region.code();
        match r.below(3) {
            0 => region.write(),
            1 => {
                let mut b = vec![0u8; LEN];
                let n = sys!(pread(region.fd, b.as_mut_ptr().cast(), LEN, 0));
                if n.0 != LEN as i64 || b != code.bytes {
                    bad("the file of the code holds something else");
                }
            }
            _ => {
                let m = region.map(0, 0).v() as usize;
                ALIAS.store(m, SeqCst);
                for _ in 0..100 {
                    let n = r.below(code.sites.len());
                    c.call(code, m, n, r);
                }
                ALIAS.store(0, SeqCst);
                sys!(munmap(m as *mut _, LEN)).v();
            }
        }
    });
}
