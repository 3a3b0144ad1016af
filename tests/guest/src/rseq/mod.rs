//! rseq(2). The C library registers each thread; so the tests run in children that share its memory, but not that.

use crate::prelude::*;
use std::arch::global_asm;
use std::ptr::{addr_of, addr_of_mut};

tests![
    registration,
    cpu_numbers,
    aborted_by_signals,
    aborted_by_others,
    handlers_outside,
    broken_sequences,
    inherited_by_fork,
];

const SIGNATURE: u32 = 0x5305_3053;
const UNREGISTER: i32 = 1;

#[repr(C, align(32))]
struct Area {
    cpu_start: u32,
    cpu: u32,
    sequence: u64,
    flags: u32,
    node: u32,
    cid: u32,
    end: u32,
}

#[repr(C, align(32))]
struct Sequence {
    version: u32,
    flags: u32,
    start: u64,
    len: u64,
    abort: u64,
}

global_asm!(
    ".globl guest_rseq_spin, guest_rseq_start, guest_rseq_end, guest_rseq_abort, guest_rseq_unsigned",
    // guest_rseq_spin(rdi = the area's word, rsi = the sequence, rdx = a counter)
    "guest_rseq_spin:",
    "mov [rdi], rsi",
    "guest_rseq_start:",
    "inc qword ptr [rdx]",
    "jmp guest_rseq_start",
    "guest_rseq_end:",
    "ud2",
    ".long 0x53053053",
    "guest_rseq_abort:",
    "mov eax, 7",
    "ret",
    ".long 0",
    "guest_rseq_unsigned:",
    "mov eax, 8",
    "ret",
);

unsafe extern "C" {
    fn guest_rseq_spin(word: *mut u64, sequence: *const Sequence, counter: *mut u64) -> i32;
    static guest_rseq_start: u8;
    static guest_rseq_end: u8;
    static guest_rseq_abort: u8;
    static guest_rseq_unsigned: u8;
}

static mut AREA: Area = Area {
    cpu_start: 0,
    cpu: 0,
    sequence: 0,
    flags: 0,
    node: 9,
    cid: 0,
    end: 0,
};
static mut COUNTER: u64 = 0;

fn area() -> *mut Area {
    addr_of_mut!(AREA)
}

fn sequence() -> Sequence {
    unsafe {
        let start = addr_of!(guest_rseq_start) as u64;
        Sequence {
            version: 0,
            flags: 0,
            start,
            len: addr_of!(guest_rseq_end) as u64 - start,
            abort: addr_of!(guest_rseq_abort) as u64,
        }
    }
}

fn rseq(area: *mut Area, len: u32, flags: i32, signature: u32) -> R {
    raw!(SYS_rseq, area, len, flags, signature)
}

fn register() {
    let r = rseq(area(), 32, 0, SIGNATURE);
    if r.failed() {
        say!("register {r}");
    }
}

/// Spins in a sequence until it is aborted.
fn spin(s: &Sequence) -> i32 {
    unsafe { guest_rseq_spin(addr_of_mut!((*area()).sequence), s, addr_of_mut!(COUNTER)) }
}

/// Runs `f` in a child in the same memory, which has nothing registered.
fn unregistered(f: fn()) -> St {
    extern "C" fn start(f: *mut c_void) -> i32 {
        let f: fn() = unsafe { std::mem::transmute(f) };
        f();
        0
    }
    let mut stack = vec![0u8; 256 << 10];
    let top = unsafe { stack.as_mut_ptr().add(stack.len()) } as usize & !63;
    let flags = CLONE_VM | SIGCHLD;
    let pid = sys!(clone(start, top as *mut c_void, flags, f as *mut c_void));
    wait(pid.v() as i32)
}

/// A timer's signal every so often.
fn alarms(ms: i64) {
    let t = libc::timeval {
        tv_sec: 0,
        tv_usec: ms * 1000,
    };
    let every = libc::itimerval {
        it_interval: t,
        it_value: t,
    };
    sys!(setitimer(ITIMER_REAL, &every, std::ptr::null_mut()));
}

fn registration() {
    say!(
        "{}",
        unregistered(|| {
            let a = area();
            let odd = (a as usize + 8) as *mut Area;
            say!(
                "short {} long {}",
                rseq(a, 16, 0, SIGNATURE),
                rseq(a, 31, 0, SIGNATURE)
            );
            say!(
                "odd {} flags {}",
                rseq(odd, 32, 0, SIGNATURE),
                rseq(a, 32, 2, SIGNATURE)
            );
            say!(
                "beyond {}",
                rseq(0xffff_ffff_ffff_ffe0u64 as *mut Area, 32, 0, SIGNATURE)
            );
            say!("none {}", rseq(a, 32, UNREGISTER, SIGNATURE));
            say!("first {}", rseq(a, 32, 0, SIGNATURE));
            say!("again {}", rseq(a, 32, 0, SIGNATURE));
            say!("other signature {}", rseq(a, 32, 0, 1));
            say!("other length {}", rseq(a, 64, 0, SIGNATURE));
            say!("back: other length {}", rseq(a, 64, UNREGISTER, SIGNATURE));
            say!("back: other signature {}", rseq(a, 32, UNREGISTER, 1));
            say!("back: flags {}", rseq(a, 32, UNREGISTER | 2, SIGNATURE));
            say!("back {}", rseq(a, 32, UNREGISTER, SIGNATURE));
            let a = unsafe { &*a };
            say!("{} {} {}", a.cpu_start, a.cpu as i32, a.node);
        })
    );
}

fn current_cpu() -> u32 {
    let mut cpu = 0u32;
    raw!(SYS_getcpu, &raw mut cpu, 0, 0);
    cpu
}

fn cpu_numbers() {
    say!(
        "{}",
        unregistered(|| {
            register();
            let mut allowed: cpu_set_t = zero();
            sys!(sched_getaffinity(0, size_of::<cpu_set_t>(), &mut allowed));
            let cpus = (0..64).filter(|c| unsafe { CPU_ISSET(*c, &allowed) });
            for c in cpus.take(2) {
                let mut one: cpu_set_t = zero();
                unsafe { CPU_SET(c, &mut one) };
                sys!(sched_setaffinity(0, size_of::<cpu_set_t>(), &one));
                let a = unsafe { area().read_volatile() };
                let same = (a.cpu, a.cpu_start) == (c as u32, c as u32) && current_cpu() == a.cpu;
                if !same || a.node != 0 || a.cid > 64 {
                    say!("on {c}: {} {} {} {}", a.cpu, a.cpu_start, a.node, a.cid);
                }
            }
        })
    );
}

static mut FOUND: u64 = 0;

extern "C" fn note_ip(_: i32, _: *mut siginfo_t, u: *mut c_void) {
    unsafe {
        let u: *mut ucontext_t = u.cast();
        FOUND = (*u).uc_mcontext.gregs[REG_RIP as usize] as u64;
    }
}

fn aborted_by_signals() {
    say!(
        "{}",
        unregistered(|| {
            register();
            set_action(SIGALRM, note_ip as *const () as usize);
            alarms(3);
            let s = sequence();
            for _ in 0..20 {
                let r = spin(&s);
                let (found, word) = unsafe { (FOUND, (*area()).sequence) };
                // Who is preempted first has been aborted before the signal.
                if r != 7 || word != 0 || s.start <= found && found < s.start + s.len {
                    say!("gave {r}, word {word:#x}, rip {found:#x}");
                }
            }
            say!("counted {}", unsafe { COUNTER } > 0);
        })
    );
}

fn aborted_by_others() {
    // Another that wants the same CPU.
    let mut one: cpu_set_t = zero();
    unsafe { CPU_SET(current_cpu() as usize, &mut one) };
    sys!(sched_setaffinity(0, size_of::<cpu_set_t>(), &one));
    let hog = fork(|| {
        loop {
            std::hint::spin_loop();
        }
    });
    say!(
        "{}",
        unregistered(|| {
            register();
            let s = sequence();
            for _ in 0..5 {
                let r = spin(&s);
                if r != 7 {
                    say!("gave {r}");
                }
            }
        })
    );
    sys!(kill(hog, SIGKILL));
    wait(hog);
}

fn handlers_outside() {
    say!(
        "{}",
        unregistered(|| {
            register();
            set_action(SIGUSR1, note_ip as *const () as usize);
            // Not in the sequence that the word names: the word is cleared, nothing else.
            let s = sequence();
            unsafe { (*area()).sequence = &raw const s as u64 };
            sys!(raise(SIGUSR1));
            let word = unsafe { area().read_volatile().sequence };
            say!("{word} {}", unsafe { FOUND } != s.abort);
        })
    );
}

/// A child that is in `s` when a signal comes.
fn broken(name: &str, change: fn(&mut Sequence)) {
    static mut BROKEN: Sequence = Sequence {
        version: 0,
        flags: 0,
        start: 0,
        len: 0,
        abort: 0,
    };
    unsafe {
        BROKEN = sequence();
        change(&mut *addr_of_mut!(BROKEN));
        (*area()).flags = 0;
    }
    fn go() -> ! {
        set_action(SIGALRM, note_ip as *const () as usize);
        register();
        alarms(3);
        spin(unsafe { &*addr_of!(BROKEN) });
        say!("it came out");
        unsafe { _exit(1) }
    }
    say!(
        "{name}: {}",
        unregistered(|| {
            go();
        })
    );
}

fn broken_sequences() {
    broken("unsigned", |s| {
        s.abort = unsafe { addr_of!(guest_rseq_unsigned) as u64 }
    });
    broken("version", |s| s.version = 1);
    broken("flags", |s| s.flags = 1);
    broken("abort inside", |s| s.abort = s.start + 1);
    broken("too long", |s| s.len = 1 << 63);
    broken("abort beyond", |s| s.abort = 1 << 62);
    say!(
        "nowhere: {}",
        unregistered(|| {
            register();
            set_action(SIGUSR1, note_ip as *const () as usize);
            unsafe { (*area()).sequence = 64 };
            sys!(raise(SIGUSR1));
            say!("it came back");
        })
    );
}

fn inherited_by_fork() {
    say!(
        "{}",
        unregistered(|| {
            register();
            say!(
                "child {}",
                run(|| {
                    let ids = unsafe { area().read_volatile() };
                    say!("here {}", ids.cpu == current_cpu() || ids.cpu < 64);
                    say!("back {}", rseq(area(), 32, UNREGISTER, SIGNATURE));
                    0
                })
            );
            say!("still {}", rseq(area(), 32, 0, SIGNATURE));
        })
    );
}
