//! prctl(2), arch_prctl(2), personality(2).

use crate::prelude::*;

tests![
    names,
    dumpable,
    arch_bases,
    misc_values,
    personality_call,
    addresses_random,
    tid_address,
    thp_and_others
];

fn names() {
    let get_n = || {
        let mut b = [0u8; 17];
        sys!(prctl(PR_GET_NAME, b.as_mut_ptr())).v();
        show(&b[..b.iter().position(|c| *c == 0).unwrap()])
    };
    sys!(prctl(PR_SET_NAME, c"a name".as_ptr())).v();
    say!("{} {}", get_n(), get("/proc/self/comm"));
    sys!(prctl(PR_SET_NAME, c"much longer than sixteen".as_ptr())).v();
    say!("{}", get_n());
    sys!(prctl(PR_SET_NAME, c"".as_ptr())).v();
    say!("empty {}", get_n());
    say!(
        "pointer {} {}",
        sys!(prctl(PR_SET_NAME, 8)),
        sys!(prctl(PR_GET_NAME, 8))
    );
    say!("inherited {}", run(|| (get_n() != "\"\"") as i32));
}

fn dumpable() {
    say!(
        "{} {} {}",
        sys!(prctl(PR_GET_DUMPABLE)),
        sys!(prctl(PR_SET_DUMPABLE, 0)),
        sys!(prctl(PR_GET_DUMPABLE))
    );
    say!(
        "2 {} 5 {}",
        sys!(prctl(PR_SET_DUMPABLE, 2)),
        sys!(prctl(PR_SET_DUMPABLE, 5))
    );
    sys!(prctl(PR_SET_DUMPABLE, 1)).v();
    say!("{}", sys!(prctl(PR_GET_DUMPABLE)));
}

fn arch_bases() {
    let ap = |op: u64, a: usize| raw!(SYS_arch_prctl, op, a);
    let mut fs = 0usize;
    say!("get fs {} {}", ap(0x1003, &raw mut fs as usize), fs != 0);
    let mut gs = 1usize;
    say!("get gs {} {gs}", ap(0x1004, &raw mut gs as usize));
    let area = [0xabcdu64; 4];
    say!("set gs {}", ap(0x1001, area.as_ptr() as usize));
    let v: u64;
    unsafe { std::arch::asm!("mov {}, gs:[8]", out(reg) v) };
    say!("read through gs {v:#x}");
    say!("kept over calls and switches {}", {
        ms(5);
        let w: u64;
        unsafe { std::arch::asm!("mov {}, gs:[8]", out(reg) w) };
        w == v
    });
    say!(
        "other thread {}",
        std::thread::spawn(move || {
            let mut g = 1usize;
            raw!(SYS_arch_prctl, 0x1004, &raw mut g as usize).v();
            g
        })
        .join()
        .unwrap()
            == area.as_ptr() as usize
    );
    say!(
        "child {}",
        run(|| {
            let w: u64;
            unsafe { std::arch::asm!("mov {}, gs:[8]", out(reg) w) };
            (w != 0xabcd) as i32
        })
    );
    say!(
        "kernel address {} unknown {} pointer {}",
        ap(0x1001, 0xffff_8000_0000_0000),
        ap(0x9999, 0),
        ap(0x1003, 8)
    );
    say!("back {}", ap(0x1001, 0));
}

fn misc_values() {
    say!(
        "unknown {} seccomp mode {}",
        sys!(prctl(9999, 0, 0, 0, 0)),
        sys!(prctl(PR_GET_SECCOMP))
    );
    say!(
        "timerslack {} set {}",
        sys!(prctl(PR_GET_TIMERSLACK)),
        sys!(prctl(PR_SET_TIMERSLACK, 100_000))
    );
    say!("{}", sys!(prctl(PR_GET_TIMERSLACK)));
    say!(
        "timing {} {}",
        sys!(prctl(PR_GET_TIMING)),
        sys!(prctl(PR_SET_TIMING, 1))
    );
    say!("tsc {}", {
        let mut v = 0i32;
        let r = sys!(prctl(PR_GET_TSC, &mut v));
        format!("{r} {v}")
    });
    say!(
        "keepcaps {} securebits {}",
        sys!(prctl(PR_GET_KEEPCAPS)),
        sys!(prctl(PR_GET_SECUREBITS))
    );
}

fn personality_call() {
    say!("query {:#x}", sys!(personality(0xffff_ffff)).0);
    say!(
        "set {:#x} now {:#x}",
        sys!(personality(0x0040000)).0,
        sys!(personality(0xffff_ffff)).0
    );
    say!(
        "child {}",
        run(|| (unsafe { personality(0xffff_ffff) } != 0x40000) as i32)
    );
}

fn tid_address() {
    let mut w = 5i32;
    say!(
        "{}",
        raw!(SYS_set_tid_address, &raw mut w).0 == gettid() as i64
    );
    say!("gettid {}", gettid() == unsafe { getpid() });
    say!("rseq bad {}", raw!(SYS_rseq, 8, 5, 0, 0).failed());
}

fn thp_and_others() {
    say!(
        "fpemu {} unalign {}",
        sys!(prctl(PR_GET_FPEMU, 0)),
        sys!(prctl(PR_GET_UNALIGN, 0))
    );
    say!("membarrier {}", raw!(SYS_membarrier, 0, 0, 0).0 >= 0);
}

/// Where a mapping, the heap, the stack and the program's code lie in a fresh process.
pub fn print_addresses(_: &[String]) -> i32 {
    let map = sys!(mmap(
        null_mut(),
        4096,
        PROT_READ,
        MAP_PRIVATE | MAP_ANONYMOUS,
        -1,
        0
    ))
    .v();
    let on_stack = 0u8;
    let brk = unsafe { sbrk(0) }.addr();
    say!("{map:x} {brk:x} {:x}", (&raw const on_stack).addr());
    0
}

fn addresses_random() {
    let me = me();
    let seen = |persona: Option<u64>| {
        let p = pipe();
        let pid = fork(|| {
            if let Some(n) = persona {
                unsafe { personality(n) };
            }
            unsafe { dup2(p[1], 1) };
            exec(&me, &["guest", "--tool", "addresses"], &[]);
            1
        });
        wait(pid);
        let text = read(p[0], 200);
        close(p[0]);
        close(p[1]);
        text.trim_matches('"').trim_end_matches("\\n").to_string()
    };
    let differ = |persona: Option<u64>| {
        let (a, b) = (seen(persona), seen(persona));
        let pairs = a.split(' ').zip(b.split(' '));
        pairs.map(|(x, y)| x != y).collect::<Vec<_>>()
    };
    say!("by default {:?}", differ(None));
    say!("ADDR_NO_RANDOMIZE {:?}", differ(Some(0x0004_0000)));
}
