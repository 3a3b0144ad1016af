//! Arguments: numbers, descriptors, memory, structures that hold what they should, or nearly.

use super::calls::CALLS;
use crate::prelude::*;
use std::ffi::CStr;

pub(super) const ARENA: usize = 64 << 10;
const VICTIM: usize = 1 << 20;
const HIGH: u64 = 0x5000_0000_0000;
const NOBODY: u64 = 65534;

/// A random number generator: splitmix64.
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

const PATHS: &[&CStr] = &[
    c"",
    c".",
    c"..",
    c"/",
    c"/tmp",
    c"a",
    c"b",
    c"a/b",
    c"a/b/c",
    c"l",
    c"l/l",
    c"./a/../b",
    c"/dev/null",
    c"/dev/zero",
    c"/dev/full",
    c"/dev/random",
    c"/dev/tty",
    c"/dev/ptmx",
    c"/dev/pts/0",
    c"/proc/self",
    c"/proc/self/fd",
    c"/proc/self/maps",
    c"/proc/self/mem",
    c"/proc/self/status",
    c"/proc/self/task",
    c"/proc/self/exe",
    c"/proc/self/fd/3",
    c"/proc/self/fd/7",
    c"/proc/self/cwd",
    c"/proc/self/root/tmp",
    c"/proc/self/environ",
    c"/proc/self/stat",
    c"/proc/self/oom_score_adj",
    c"/proc/thread-self/stat",
    c"/proc/1/maps",
    c"/proc/1/mem",
    c"/proc/sys/kernel/pid_max",
    c"/proc/mounts",
    c"/proc/stat",
    c"/proc/meminfo",
    c"/sys",
    c"/dev/shm/x",
    c"/dev/fd/5",
    c"/etc/passwd",
    c"/bin/true",
    c"/usr/bin/true",
    c"/usr/bin",
    c"/usr/lib",
    c"/nowhere/at/all",
    c"s",
    c"sub",
    c"sub/c",
    c"sub/deep/d",
    c"hard",
    c"/proc/self/oom_score",
    c"/proc/self/comm",
    c"/proc/sysvipc/shm",
    c"/proc/sys/kernel/hostname",
    c"/dev/shm",
    c"/proc/self/ns",
    c"/sys/devices/system/cpu/online",
];

const XATTRS: &[&CStr] = &[
    c"user.a",
    c"user.b",
    c"user.",
    c"security.capability",
    c"trusted.x",
    c"system.posix_acl_access",
    c"none",
];

extern "C" fn handler(_: i32) {}

/// Memory for arguments of one thread.
pub(super) struct Fuzzer {
    rng: Rng,
    arena: usize,
    victim: usize,
    parent: i32,
    /// The worker has kept its rights: no call must reach the parent.
    root: bool,
}

fn map(len: usize) -> usize {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS;
    let at = unsafe { mmap(null_mut(), len, PROT_READ | PROT_WRITE, flags, -1, 0) };
    if at == MAP_FAILED {
        unsafe { _exit(0) }
    }
    at as usize
}

impl Fuzzer {
    pub(super) fn new(seed: u64, parent: i32, root: bool) -> Fuzzer {
        let arena = map(ARENA + 4096);
        unsafe { mprotect((arena + ARENA) as *mut c_void, 4096, PROT_NONE) };
        Fuzzer {
            rng: Rng(seed),
            arena,
            victim: map(VICTIM),
            parent,
            root,
        }
    }

    fn number(&mut self) -> u64 {
        match self.rng.below(12) {
            0 => 0,
            1 => u64::MAX,
            2 => self.rng.next(),
            3 => 1 << self.rng.below(64),
            4 => (1u64 << self.rng.below(64)).wrapping_sub(1),
            5 => i64::MAX as u64,
            6 => u64::MAX - self.rng.below(8192),
            7 => u64::from(self.rng.next() as u32),
            8 => i32::MAX as u64,
            9 => HIGH.wrapping_sub(self.rng.below(8192)),
            _ => self.rng.below(300),
        }
    }

    fn small(&mut self) -> u64 {
        match self.rng.below(8) {
            0 => self.number(),
            1 => self.rng.below(70),
            _ => self.rng.below(8),
        }
    }

    fn bits(&mut self) -> u64 {
        match self.rng.below(6) {
            0 => 0,
            1 => self.number(),
            2 => 1 << self.rng.below(32),
            3 => (1 << self.rng.below(32)) | (1 << self.rng.below(32)),
            4 => self.rng.next() & self.rng.next() & self.rng.next() & 0xffff_ffff,
            _ => self.rng.below(16),
        }
    }

    fn fd(&mut self) -> u64 {
        match self.rng.below(20) {
            0 => self.number(),
            1 => AT_FDCWD as u64,
            _ => self.rng.below(40),
        }
    }

    fn buffer(&mut self) -> u64 {
        let a = self.arena as u64;
        match self.rng.below(16) {
            0 => 0,
            1 => a + ARENA as u64 - self.rng.below(64),
            2 => self.rng.pick(&[
                HIGH - 8,
                HIGH,
                HIGH + 4096,
                u64::MAX - 7,
                1 << 47,
                0x7fff_ffff_f000,
                0xffff_8000_0000_0000,
                1,
            ]),
            3 => self.victim as u64 + self.rng.below(VICTIM as u64),
            _ => a + (self.rng.below(ARENA as u64 / 2) & !7),
        }
    }

    /// Fills a structure with what structures hold: numbers, pointers, lengths, descriptors.
    fn structure(&mut self) -> u64 {
        let at = self.arena + (self.rng.below(ARENA as u64 - 512) & !7) as usize;
        let style = self.rng.below(6);
        for i in 0..24 {
            let v = match style {
                0 if i % 2 == 0 => self.buffer(),
                0 => self.rng.below(9000),
                1 => self.rng.below(3),
                2 => self.small(),
                3 => self.fd() & 0xffff_ffff | self.bits() << 32,
                4 => {
                    if self.rng.chance(50) {
                        self.buffer()
                    } else {
                        self.small()
                    }
                }
                _ => self.number(),
            };
            unsafe { ((at + 8 * i) as *mut u64).write_unaligned(v) };
        }
        at as u64
    }

    fn time(&mut self) -> u64 {
        if self.rng.chance(10) {
            return self.structure();
        }
        let at = self.arena + (self.rng.below(ARENA as u64 - 64) & !7) as usize;
        let ns = self.rng.below(3_000_000);
        unsafe {
            (at as *mut u64).write_unaligned(0);
            ((at + 8) as *mut u64).write_unaligned(ns);
            ((at + 16) as *mut u64).write_unaligned(0);
            ((at + 24) as *mut u64).write_unaligned(ns / 2);
        }
        at as u64
    }

    fn path(&mut self) -> u64 {
        if self.rng.chance(4) {
            return self.structure();
        }
        let p: &CStr = self.rng.pick(PATHS);
        p.as_ptr() as u64
    }

    fn process(&mut self) -> u64 {
        let me = unsafe { getpid() } as u64;
        match self.rng.below(10) {
            0 => self.number(),
            1 => 0,
            2 => me,
            3 => gettid() as u64,
            4 => 0u64.wrapping_sub(me),
            5 if !self.root => self.parent as u64,
            6 if !self.root && self.rng.chance(10) => u64::MAX,
            _ => me + self.rng.below(6),
        }
    }

    /// Room for a structure of our own.
    fn room(&mut self) -> usize {
        self.arena + (self.rng.below(ARENA as u64 - 2048) & !15) as usize
    }

    fn words(&mut self, w: &[u64]) -> u64 {
        let at = self.room();
        for (i, v) in w.iter().enumerate() {
            // One word in forty is not what it should be.
            let v = if self.rng.chance(2) {
                self.number()
            } else {
                *v
            };
            unsafe { ((at + 8 * i) as *mut u64).write(v) };
        }
        at as u64
    }

    /// Pairs of a buffer and a length.
    fn vector(&mut self) -> u64 {
        let mut w = [0; 16];
        for p in w.chunks_mut(2) {
            let long = self.rng.below(20_000);
            p[0] = self.buffer();
            p[1] = self.rng.pick(&[0, 1, 8, 100, 4096, long]);
        }
        self.words(&w)
    }

    /// A message with data, perhaps an address, perhaps descriptors or credentials.
    fn message(&mut self) -> u64 {
        let data = self.vector();
        let kind = self.rng.pick(&[SCM_RIGHTS, SCM_CREDENTIALS]) as u64;
        let n = self.rng.below(6);
        let fds: [u64; 3] = core::array::from_fn(|_| self.fd() & 0xffff_ffff | self.fd() << 32);
        let body = match kind as i32 {
            SCM_RIGHTS => fds,
            _ => [unsafe { getpid() } as u64 | NOBODY << 32, NOBODY, 0],
        };
        let long = self.rng.below(300);
        let len = self.rng.pick(&[16 + 4 * n, 28, long]);
        let control = self.words(&[len, 1 | kind << 32, body[0], body[1], body[2], 0]);
        let (name, name_len) = match self.rng.below(3) {
            0 => (self.arg(b'u'), self.rng.below(20)),
            _ => (0, 0),
        };
        let with = self.rng.pick(&[0, (len + 7) & !7, 64]);
        let count = self.rng.below(9);
        self.words(&[name, name_len, data, count, control, with, 0])
    }

    /// What a clone makes: flags that let the child live apart, and some others.
    fn clone_args(&mut self) -> u64 {
        let flags = self.bits() & !(CLONE_VM | CLONE_VFORK) as u64;
        let (a, b, c) = (self.buffer(), self.buffer(), self.buffer());
        let signal = self.rng.pick(&[0, SIGCHLD, SIGUSR1]) as u64;
        self.words(&[flags, a, b, c, signal, 0, 0, 0, 0, 0, 0])
    }

    fn futexes(&mut self) -> u64 {
        let mut w = [0; 24];
        for f in w.chunks_mut(3) {
            f[0] = self.rng.below(3);
            f[1] = self.arg(b'w');
            f[2] = self.rng.pick(&[2, 2, 2, 0x82, 3]);
        }
        self.words(&w)
    }

    fn arg(&mut self, letter: u8) -> u64 {
        if self.rng.chance(4) {
            return self.number();
        }
        match letter {
            b'f' => self.fd(),
            b'd' if self.rng.chance(60) => AT_FDCWD as u64,
            b'd' => self.fd(),
            b'b' => self.buffer(),
            b's' => self.structure(),
            b'n' => match self.rng.below(8) {
                0 => self.number(),
                1 => 8,
                2 => 4096 << self.rng.below(6),
                3 => self.rng.below(64),
                4 => 1 << self.rng.below(40),
                _ => self.rng.below(5000),
            },
            b'l' => match self.rng.below(4) {
                0 => self.number(),
                1 => self.rng.below(1 << 24),
                2 => 4096 * self.rng.below(64),
                _ => self.rng.below(5000),
            },
            b'p' => self.path(),
            b'm' => 0o700 | self.rng.below(0o1_000_000) * u64::from(self.rng.chance(20)),
            b'x' => self.bits(),
            b'o' => {
                let all = [
                    O_CREAT,
                    O_NONBLOCK,
                    O_CLOEXEC,
                    O_APPEND,
                    O_TRUNC,
                    O_DIRECTORY,
                    O_PATH,
                ];
                let mut o = self.rng.below(3);
                for f in all {
                    if self.rng.chance(25) {
                        o |= f as u64;
                    }
                }
                o
            }
            b'r' => self.rng.below(8),
            b'M' => {
                let base = self.rng.pick(&[MAP_PRIVATE, MAP_SHARED]) as u64;
                let anon = if self.rng.chance(60) {
                    MAP_ANONYMOUS
                } else {
                    0
                } as u64;
                let fixed = if self.rng.chance(40) { MAP_FIXED } else { 0 } as u64;
                let rare = if self.rng.chance(10) {
                    self.bits() & 0xfffff
                } else {
                    0
                };
                base | anon | fixed | rare
            }
            b'a' => match self.rng.below(20) {
                0 => self.number(),
                1 => 0,
                _ => self.victim as u64 + (self.rng.below(VICTIM as u64) & !4095),
            },
            b't' => self.rng.below(4),
            b'T' => self.time(),
            b'S' => match self.rng.below(6) {
                0 => self.number(),
                1 => self.rng.below(65),
                2 => 0,
                _ => self
                    .rng
                    .pick(&[SIGALRM, SIGUSR1, SIGUSR2, SIGCHLD, SIGCONT, SIGURG, 34, 40])
                    as u64,
            },
            b'P' => self.process(),
            b'0' => 0,
            b'1' => 1,
            b'3' => 24,
            b'8' => 8,
            b'9' => self.rng.pick(&[64, 80, 88]),
            b'k' => self.rng.below(6),
            b'z' => self.rng.pick(&[0, 1, 4096, 65536, 1 << 20]),
            b'U' => {
                let any = self.number();
                self.rng.pick(&[0, NOBODY, u64::from(u32::MAX), any])
            }
            b'X' => {
                let x: &CStr = self.rng.pick(XATTRS);
                x.as_ptr() as u64
            }
            b'v' => self.vector(),
            b'h' => self.message(),
            b'C' => self.clone_args(),
            b'V' => self.futexes(),
            b'e' => {
                let (a, b) = (self.bits(), self.number());
                self.words(&[a | b << 32, b >> 32])
            }
            b'q' => {
                let f = handler as *const () as u64;
                let f = self.rng.pick(&[0, 1, f, f, f]);
                let (flags, mask) = (self.bits() & !0x0400_0000, self.number());
                self.words(&[f, flags, 0, mask])
            }
            b'c' => {
                let mut w = [0; 6];
                w.fill_with(|| {
                    self.rng.below(4) | self.rng.below(5) << 16 | self.rng.below(2) << 44
                });
                self.words(&w)
            }
            b'g' => {
                let kind = self.rng.below(4);
                self.words(&[kind, 1, 2, 3, 4, 5])
            }
            b'R' => {
                let at = self.room() as u64;
                let next = self.buffer();
                let list = self.words(&[next, 16, 0]);
                self.words(&[list, at, list])
            }
            b'A' => {
                let (p, q) = (c"guest".as_ptr() as u64, c"--list".as_ptr() as u64);
                self.words(&[p, q, 0])
            }
            b'u' => {
                let at = self.arena + 8 * self.rng.below(32) as usize;
                unsafe {
                    (at as *mut u16).write(1);
                    ((at + 2) as *mut u8).write(b'0' * self.rng.below(2) as u8);
                    ((at + 3) as *mut u8).write(b'a' + self.rng.below(3) as u8);
                    ((at + 4) as *mut u8).write(0);
                }
                at as u64
            }
            b'w' => self.arena as u64 + 4 * self.rng.below(4),
            b'F' => self.rng.pick(&[
                0, 1, 2, 3, 4, 5, 8, 9, 10, 15, 1024, 1025, 1026, 1030, 1031, 1032,
            ]),
            b'I' => 0x5400 + self.rng.below(0x60),
            _ => self.small(),
        }
    }

    pub(super) fn call(&mut self) {
        let (nr, args) = if self.rng.chance(3) {
            let nr = self.rng.below(470) as c_long;
            (
                nr,
                core::array::from_fn(|_| self.arg(b"fbspix"[(nr % 6) as usize])),
            )
        } else {
            let (nr, letters) = self.rng.pick(CALLS);
            let mut args = [0; 6];
            for (a, l) in args.iter_mut().zip(letters.bytes()) {
                *a = self.arg(l);
            }
            (nr, args)
        };
        if self.root && self.reaches_parent(nr, &args) {
            return;
        }
        let rare = [
            SYS_exit,
            SYS_exit_group,
            SYS_execve,
            SYS_execveat,
            SYS_rt_sigreturn,
            SYS_pause,
        ];
        if rare.contains(&nr) && !self.rng.chance(8) {
            return;
        }
        // A child on another stack would run Rust code with no stack of its own.
        if nr == SYS_vfork || (nr == SYS_clone && args[1] != 0 && args[0] & CLONE_VM as u64 != 0) {
            return;
        }
        let [a, b, c, d, e, f] = args;
        unsafe { syscall(nr, a, b, c, d, e, f) };
    }

    /// Calls by which a worker with all rights would end or starve the first program, which
    /// would show nothing.
    fn reaches_parent(&self, nr: c_long, args: &[u64; 6]) -> bool {
        let other = |pid: u64| pid as i32 == self.parent || matches!(pid as i32, -1 | 1);
        let by_first = [
            SYS_kill,
            SYS_tkill,
            SYS_rt_sigqueueinfo,
            SYS_prlimit64,
            SYS_pidfd_open,
            SYS_tgkill,
            SYS_rt_tgsigqueueinfo,
            SYS_process_vm_writev,
            SYS_sched_setaffinity,
        ];
        let by_second = [SYS_tgkill, SYS_rt_tgsigqueueinfo];
        // A group's priority may be the parent's; real-time threads starve it.
        let never = [
            SYS_setpriority,
            SYS_ioprio_set,
            SYS_sched_setscheduler,
            SYS_sched_setparam,
            SYS_sched_setattr,
            SYS_reboot,
        ];
        never.contains(&nr)
            || (by_first.contains(&nr) && other(args[0]))
            || (by_second.contains(&nr) && other(args[1]))
    }
}
