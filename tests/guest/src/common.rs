//! What every test uses: results as text, raw calls, children, small files.

use std::ffi::{CStr, CString};
use std::fmt;

/// A test: its name within the family and its body.
pub type Test = (&'static str, fn());

/// The list of a family: `tests![open_flags, read_write]`.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub const TESTS: &[$crate::common::Test] = &[$((stringify!($name), $name as fn())),*];
    };
}

/// Prints one line, unbuffered, so that lines of parent and child keep their order.
macro_rules! say {
    ($($arg:tt)*) => { $crate::common::emit(&format!($($arg)*)) };
}

/// Calls a libc function and keeps its errno: `sys!(close(fd))`.
macro_rules! sys {
    ($f:ident ( $($a:expr),* $(,)? )) => {
        $crate::common::R::of(unsafe { libc::$f($($a),*) } as i64)
    };
}

/// A raw system call: `raw!(libc::SYS_openat2, fd, path, how, size)`.
macro_rules! raw {
    ($n:expr $(, $a:expr)* $(,)?) => {
        $crate::common::R::of(unsafe { libc::syscall($n as libc::c_long $(, $a as usize)*) } as i64)
    };
}

/// Result of a call: its value or the errno.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct R(pub i64);

impl R {
    /// From a libc return value; reads errno if it is -1.
    pub fn of(v: i64) -> R {
        if v == -1 { R(-(errno() as i64)) } else { R(v) }
    }
    /// The value, where the caller knows it to be good. Ends the test otherwise.
    #[track_caller]
    pub fn v(self) -> i64 {
        if self.failed() {
            let at = std::panic::Location::caller();
            say!("UNEXPECTED {self} at {}:{}", at.file(), at.line());
            std::process::exit(99);
        }
        self.0
    }
    /// As [`R::v`], for descriptors.
    #[track_caller]
    pub fn fd(self) -> i32 {
        self.v() as i32
    }
    /// `ok` or the name of the error: for values that differ between runs.
    pub fn ok(self) -> String {
        if self.failed() {
            self.to_string()
        } else {
            "ok".into()
        }
    }
    /// Whether the call failed.
    pub fn failed(self) -> bool {
        (-4095..0).contains(&self.0)
    }
    /// The errno or 0.
    pub fn err(self) -> i32 {
        if self.failed() { -self.0 as i32 } else { 0 }
    }
}

impl fmt::Display for R {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.failed() {
            f.write_str(errno_name(-self.0 as i32))
        } else {
            write!(f, "{}", self.0)
        }
    }
}

pub fn errno() -> i32 {
    unsafe { *libc::__errno_location() }
}

macro_rules! names {
    ($fn:ident, $other:literal: $($n:ident)*) => {
        pub fn $fn(v: i32) -> &'static str {
            if v == 0 {
                return "0";
            }
            $(if v == libc::$n { return stringify!($n); })*
            $other
        }
    };
}

names!(errno_name, "E???": EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM
    EACCES EFAULT ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY
    EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY
    ELOOP ENOMSG EIDRM ENODATA EOVERFLOW EILSEQ EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE
    ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL
    ENETDOWN ENETUNREACH ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ETIMEDOUT ECONNREFUSED
    EALREADY EINPROGRESS ESTALE EDQUOT ECANCELED EOWNERDEAD ENOTRECOVERABLE EBADFD ELIBBAD ETIME ENOSTR);

names!(signal_name, "SIG???": SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1
    SIGSEGV SIGUSR2 SIGPIPE SIGALRM SIGTERM SIGSTKFLT SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU
    SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF SIGWINCH SIGIO SIGPWR SIGSYS);

/// Writes one line to standard output.
pub fn emit(s: &str) {
    let mut line = String::with_capacity(s.len() + 1);
    line.push_str(s);
    line.push('\n');
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        let n = unsafe { libc::write(1, rest.as_ptr().cast(), rest.len()) };
        if n < 0 && errno() == libc::EINTR {
            continue;
        }
        if n <= 0 {
            unsafe { libc::_exit(98) };
        }
        rest = &rest[n as usize..];
    }
}

/// Hard limit of core files in tests; the soft one is 0.
pub const CORE_MAX: u64 = 64 << 20;

/// Same starting state whoever started us.
pub fn prepare() {
    unsafe {
        // All of them, those too that libc keeps to itself.
        let default = [0u64; 4];
        for sig in 1..=64 {
            libc::syscall(
                libc::SYS_rt_sigaction,
                sig,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                8,
            );
        }
        let mut none: libc::sigset_t = zero();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        libc::umask(0o022);
        let mut core: libc::rlimit = zero();
        libc::getrlimit(libc::RLIMIT_CORE, &mut core);
        core.rlim_cur = 0;
        core.rlim_max = core.rlim_max.min(CORE_MAX);
        libc::setrlimit(libc::RLIMIT_CORE, &core);
        for fd in 3..64 {
            libc::close(fd);
        }
    }
}

pub fn zero<T>() -> T {
    unsafe { std::mem::zeroed() }
}

pub fn cs(s: &str) -> CString {
    CString::new(s).unwrap()
}

pub fn is_root() -> bool {
    unsafe { libc::geteuid() == 0 }
}

/// Nice value of the process: the tests may run niced.
pub fn niceness() -> i32 {
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

/// Prints the line that stands for the root-only part of a test.
pub fn skip_root() {
    say!("skipped: needs root");
}

// ---------------------------------------------------------------- children

/// How a child ended or stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct St(pub i32);

impl fmt::Display for St {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.0;
        if libc::WIFEXITED(s) {
            write!(f, "exit {}", libc::WEXITSTATUS(s))
        } else if libc::WIFSIGNALED(s) {
            write!(f, "killed {}", sig(libc::WTERMSIG(s)))
        } else if libc::WIFSTOPPED(s) {
            write!(f, "stopped {}", sig(libc::WSTOPSIG(s)))
        } else if libc::WIFCONTINUED(s) {
            f.write_str("continued")
        } else {
            f.write_str("strange")
        }
    }
}

/// Name of a signal, real-time ones as `SIGRTn` counted from 32.
pub fn sig(n: i32) -> String {
    if n >= 32 {
        format!("SIGRT{}", n - 32)
    } else {
        signal_name(n).to_string()
    }
}

/// Forks; the child runs `f` and exits with its result.
pub fn fork(f: impl FnOnce() -> i32) -> i32 {
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_or(101);
        unsafe { libc::_exit(code) }
    }
    R::of(pid as i64).v() as i32
}

/// Sleeps until a signal ends the process.
pub fn forever() -> ! {
    loop {
        unsafe { libc::pause() };
    }
}

/// Waits for `pid` to end.
#[track_caller]
pub fn wait(pid: i32) -> St {
    wait_opt(pid, 0)
}

#[track_caller]
pub fn wait_opt(pid: i32, options: i32) -> St {
    let mut st = 0;
    loop {
        let r = sys!(waitpid(pid, &mut st, options));
        if r.err() == libc::EINTR {
            continue;
        }
        r.v();
        return St(st);
    }
}

/// Runs `f` in a child and says how it ended.
pub fn run(f: impl FnOnce() -> i32) -> St {
    wait(fork(f))
}

/// A one-way starting gun between processes or threads.
#[derive(Clone, Copy)]
pub struct Gate(pub i32, pub i32);

impl Gate {
    pub fn new() -> Gate {
        let mut p = [0; 2];
        sys!(pipe(p.as_mut_ptr())).v();
        Gate(p[0], p[1])
    }
    /// Lets one waiter through.
    pub fn open(&self) {
        sys!(write(self.1, b"x".as_ptr().cast(), 1)).v();
    }
    /// Waits for an [`Gate::open`].
    pub fn pass(&self) {
        let mut b = 0u8;
        while sys!(read(self.0, (&raw mut b).cast(), 1)).err() == libc::EINTR {}
    }
}

/// Waits until the task sleeps in the kernel (state S in its stat file).
pub fn until_asleep(pid: i32) {
    until_state(pid, "SD")
}

pub fn until_state(pid: i32, states: &str) {
    for _ in 0..5000 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if let Some((_, rest)) = stat.rsplit_once(") ") {
            if rest.chars().next().is_some_and(|c| states.contains(c)) {
                return;
            }
        }
        ms(1);
    }
    say!("never got to state {states}");
}

pub fn gettid() -> i32 {
    unsafe { libc::syscall(libc::SYS_gettid) as i32 }
}

// ---------------------------------------------------------------- time

pub fn now_ms() -> u64 {
    let mut t: libc::timespec = zero();
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    t.tv_sec as u64 * 1000 + t.tv_nsec as u64 / 1_000_000
}

pub fn ms(n: u64) {
    std::thread::sleep(std::time::Duration::from_millis(n));
}

pub fn ts(n: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: (n / 1000) as i64,
        tv_nsec: (n % 1000 * 1_000_000) as i64,
    }
}

/// Runs `f` and says whether it took between `min` and a generous bound.
pub fn took<T>(min: u64, f: impl FnOnce() -> T) -> (T, &'static str) {
    let t0 = now_ms();
    let v = f();
    let d = now_ms() - t0;
    (
        v,
        if d + 1 < min {
            "too early"
        } else if d > min + 4000 {
            "too late"
        } else {
            "in time"
        },
    )
}

// ---------------------------------------------------------------- files

pub const RDWR: i32 = libc::O_RDWR | libc::O_CREAT;

pub fn open(path: &str, flags: i32) -> R {
    open_mode(path, flags, 0o644)
}

pub fn open_mode(path: &str, flags: i32, mode: u32) -> R {
    let p = cs(path);
    sys!(open(p.as_ptr(), flags, mode))
}

pub fn close(fd: i32) -> R {
    sys!(close(fd))
}

/// Makes a file with this content.
pub fn put(path: &str, content: &[u8]) {
    let fd = open(path, RDWR | libc::O_TRUNC).fd();
    sys!(write(fd, content.as_ptr().cast(), content.len())).v();
    close(fd);
}

/// The content of a file, printable.
pub fn get(path: &str) -> String {
    match std::fs::read(path) {
        Ok(v) => show(&v),
        Err(e) => errno_name(e.raw_os_error().unwrap_or(0)).to_string(),
    }
}

pub fn write(fd: i32, data: &[u8]) -> R {
    sys!(write(fd, data.as_ptr().cast(), data.len()))
}

/// Reads up to `n` bytes and shows them or the error.
pub fn read(fd: i32, n: usize) -> String {
    let mut b = vec![0u8; n];
    let r = sys!(read(fd, b.as_mut_ptr().cast(), n));
    if r.failed() {
        r.to_string()
    } else {
        show(&b[..r.0 as usize])
    }
}

/// Bytes as text; long runs of one byte are folded.
pub fn show(b: &[u8]) -> String {
    let mut s = String::from("\"");
    let mut i = 0;
    while i < b.len() {
        let n = b[i..].iter().take_while(|&&c| c == b[i]).count();
        let c: String = std::ascii::escape_default(b[i]).map(char::from).collect();
        if n > 8 {
            s.push_str(&format!("[{c}*{n}]"));
            i += n;
        } else {
            s.push_str(&c);
            i += 1;
        }
    }
    s.push('"');
    s
}

pub fn stat(path: &str) -> Option<libc::stat> {
    let mut st = zero();
    let p = cs(path);
    (!sys!(lstat(p.as_ptr(), &mut st)).failed()).then_some(st)
}

pub fn fstat(fd: i32) -> libc::stat {
    let mut st = zero();
    sys!(fstat(fd, &mut st)).v();
    st
}

/// Kind, mode, links and size: the part of a stat that does not depend on where it is.
pub fn describe(path: &str) -> String {
    let Some(st) = stat(path) else {
        return errno_name(errno()).into();
    };
    let size = if st.st_mode & libc::S_IFMT == libc::S_IFREG {
        st.st_size.to_string()
    } else {
        "-".into()
    };
    let links = if st.st_mode & libc::S_IFMT == libc::S_IFDIR {
        "-".into()
    } else {
        st.st_nlink.to_string()
    };
    format!(
        "{} {:04o} links {links} size {size}",
        kind(st.st_mode),
        st.st_mode & 0o7777
    )
}

pub fn kind(mode: u32) -> &'static str {
    match mode & libc::S_IFMT {
        libc::S_IFREG => "file",
        libc::S_IFDIR => "dir",
        libc::S_IFLNK => "link",
        libc::S_IFIFO => "fifo",
        libc::S_IFSOCK => "sock",
        libc::S_IFCHR => "char",
        libc::S_IFBLK => "block",
        _ => "none",
    }
}

/// The names in a directory, sorted.
pub fn ls(path: &str) -> String {
    match std::fs::read_dir(path) {
        Ok(d) => {
            let mut v: Vec<String> = d
                .filter_map(|e| e.ok())
                .map(|e| e.file_name().to_string_lossy().into_owned())
                .collect();
            v.sort();
            format!("[{}]", v.join(" "))
        }
        Err(e) => errno_name(e.raw_os_error().unwrap_or(0)).to_string(),
    }
}

pub fn mkdir(p: &str) -> R {
    let p = cs(p);
    sys!(mkdir(p.as_ptr(), 0o755))
}

pub fn rmdir(p: &str) -> R {
    let p = cs(p);
    sys!(rmdir(p.as_ptr()))
}

pub fn unlink(p: &str) -> R {
    let p = cs(p);
    sys!(unlink(p.as_ptr()))
}

pub fn rename(a: &str, b: &str) -> R {
    let (a, b) = (cs(a), cs(b));
    sys!(rename(a.as_ptr(), b.as_ptr()))
}

pub fn link(a: &str, b: &str) -> R {
    let (a, b) = (cs(a), cs(b));
    sys!(link(a.as_ptr(), b.as_ptr()))
}

pub fn symlink(a: &str, b: &str) -> R {
    let (a, b) = (cs(a), cs(b));
    sys!(symlink(a.as_ptr(), b.as_ptr()))
}

pub fn chmod(p: &str, mode: u32) -> R {
    let p = cs(p);
    sys!(chmod(p.as_ptr(), mode))
}

pub fn chown(p: &str, uid: u32, gid: u32) -> R {
    let p = cs(p);
    sys!(chown(p.as_ptr(), uid, gid))
}

pub fn pair(kind: i32) -> [i32; 2] {
    let mut p = [0; 2];
    sys!(socketpair(libc::AF_UNIX, kind, 0, p.as_mut_ptr())).v();
    p
}

pub fn pipe2(flags: i32) -> [i32; 2] {
    let mut p = [0; 2];
    sys!(pipe2(p.as_mut_ptr(), flags)).v();
    p
}

pub fn pipe() -> [i32; 2] {
    pipe2(0)
}

// ---------------------------------------------------------------- signals

/// A three-argument handler.
pub type Handler = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);

pub fn handle(signo: i32, f: Handler, flags: i32) {
    let mut sa: libc::sigaction = zero();
    sa.sa_sigaction = f as *const () as usize;
    sa.sa_flags = flags | libc::SA_SIGINFO;
    sys!(sigaction(signo, &sa, std::ptr::null_mut())).v();
}

pub fn set_action(signo: i32, disposition: usize) {
    let mut sa: libc::sigaction = zero();
    sa.sa_sigaction = disposition;
    sys!(sigaction(signo, &sa, std::ptr::null_mut())).v();
}

/// A handler that does nothing: makes calls end in EINTR.
pub extern "C" fn nop(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

pub fn set(signals: &[i32]) -> libc::sigset_t {
    let mut s = zero();
    unsafe {
        libc::sigemptyset(&mut s);
        for &n in signals {
            libc::sigaddset(&mut s, n);
        }
    }
    s
}

pub fn block(signals: &[i32]) {
    sys!(sigprocmask(
        libc::SIG_BLOCK,
        &set(signals),
        std::ptr::null_mut()
    ))
    .v();
}

pub fn unblock(signals: &[i32]) {
    sys!(sigprocmask(
        libc::SIG_UNBLOCK,
        &set(signals),
        std::ptr::null_mut()
    ))
    .v();
}

/// The signals in a set, by name.
pub fn members(s: &libc::sigset_t) -> String {
    let v: Vec<String> = (1..65)
        .filter(|&n| unsafe { libc::sigismember(s, n) } == 1)
        .map(sig)
        .collect();
    format!("{{{}}}", v.join(" "))
}

pub fn pending() -> String {
    let mut s = zero();
    sys!(sigpending(&mut s)).v();
    members(&s)
}

// ---------------------------------------------------------------- helpers that other tests start

/// Path of this program, for exec.
pub fn me() -> CString {
    let mut b = vec![0u8; 4096];
    let n = sys!(readlink(
        c"/proc/self/exe".as_ptr(),
        b.as_mut_ptr().cast(),
        4095
    ))
    .v() as usize;
    CString::new(&b[..n]).unwrap()
}

/// Executes `path` with these arguments and environment.
pub fn exec(path: &CStr, args: &[&str], env: &[&str]) -> R {
    let a: Vec<CString> = args.iter().map(|s| cs(s)).collect();
    let e: Vec<CString> = env.iter().map(|s| cs(s)).collect();
    let mut ap: Vec<*const i8> = a.iter().map(|s| s.as_ptr()).collect();
    let mut ep: Vec<*const i8> = e.iter().map(|s| s.as_ptr()).collect();
    ap.push(std::ptr::null());
    ep.push(std::ptr::null());
    sys!(execve(path.as_ptr(), ap.as_ptr(), ep.as_ptr()))
}

/// Prints its arguments and environment.
pub fn echo_args(args: &[String]) -> i32 {
    say!("args: {args:?}");
    let mut env: Vec<String> = std::env::vars().map(|(k, v)| format!("{k}={v}")).collect();
    env.sort();
    say!("env: {env:?}");
    0
}

pub fn exit_with(args: &[String]) -> i32 {
    args.first().and_then(|s| s.parse().ok()).unwrap_or(0)
}
