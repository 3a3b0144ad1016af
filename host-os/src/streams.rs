//! The streams that the command was started with: stdin, stdout, stderr.
//!
//! Nothing here waits, and no flag of an inherited open file is changed: other
//! processes share it. Sockets have a flag per call; pipes have `RWF_NOWAIT` on
//! newer hosts, else poll(2) says whether a small transfer fits.

use crate::console::{HostConsole, terminal_device};
use crate::dir::errno;
use crate::event::DeviceQueue;
use abi::Errno;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use hal::dev::{Console, Event, HostStat, StreamKind, Streams};
use host_sys::Errno as E;
use host_sys::{event, fd, file};

/// What a pipe that poll(2) calls writable takes without waiting.
const PIPE_BUF: usize = 4096;

struct Stream {
    kind: StreamKind,
    readable: bool,
    writable: bool,
    append: bool,
    /// In the epoll set.
    registered: AtomicBool,
    /// Events asked for since the last report.
    armed: AtomicU32,
    /// `RWF_NOWAIT` does not work here.
    no_nowait: AtomicBool,
}

/// Streams 0, 1, 2 of this process.
pub struct HostStreams {
    streams: [Stream; 3],
    console: Option<&'static HostConsole>,
    epoll: i32,
    queue: &'static DeviceQueue,
}

fn examine(i: i32, closed: bool, console: Option<&HostConsole>) -> Stream {
    let flags = file::fcntl(i, libc::F_GETFL, 0).map_or(0, |f| f as i32);
    let kind = match file::fstat(i) {
        _ if closed => StreamKind::None,
        Err(_) => StreamKind::None,
        Ok(st) => match st.st_mode & libc::S_IFMT {
            libc::S_IFIFO => StreamKind::Pipe,
            libc::S_IFSOCK => StreamKind::Socket,
            libc::S_IFCHR => {
                let device = terminal_device(i);
                if device.is_some() && device == console.map(HostConsole::device) {
                    StreamKind::Terminal
                } else {
                    StreamKind::CharDev
                }
            }
            // eventfd and the like have no type bits; they behave as pipes do.
            0 => StreamKind::Pipe,
            _ => StreamKind::File,
        },
    };
    let access = flags & libc::O_ACCMODE;
    let open = kind != StreamKind::None && flags & libc::O_PATH == 0;
    Stream {
        kind,
        readable: open && access != libc::O_WRONLY,
        writable: open && access != libc::O_RDONLY,
        append: flags & libc::O_APPEND != 0,
        registered: AtomicBool::new(false),
        armed: AtomicU32::new(0),
        no_nowait: AtomicBool::new(false),
    }
}

impl HostStreams {
    /// Looks at the descriptors. `closed`: those that were closed at the start
    /// (Rust's runtime opens /dev/null in their place).
    pub(crate) fn open(
        closed: [bool; 3],
        console: Option<&'static HostConsole>,
        epoll: i32,
        queue: &'static DeviceQueue,
    ) -> HostStreams {
        HostStreams {
            streams: [0, 1, 2].map(|i| examine(i as i32, closed[i], console)),
            console,
            epoll,
            queue,
        }
    }

    fn get(&self, i: u32) -> Result<&Stream, Errno> {
        match self.streams.get(i as usize) {
            Some(s) if s.kind != StreamKind::None => Ok(s),
            _ => Err(Errno::EBADF),
        }
    }

    /// The host reports that stream `i` is ready.
    pub(crate) fn on_ready(&self, i: u32) {
        if let Some(s) = self.streams.get(i as usize) {
            s.armed.store(0, Ordering::Release);
            self.queue.push(Event::Stream(i));
        }
    }

    /// Reads or writes a pipe or character device without waiting.
    fn nowait(
        &self,
        s: &Stream,
        fd: i32,
        ready: i16,
        try_first: impl FnOnce() -> host_sys::Result<usize>,
        then: impl FnOnce() -> host_sys::Result<usize>,
    ) -> host_sys::Result<usize> {
        if s.kind == StreamKind::Pipe && !s.no_nowait.load(Ordering::Relaxed) {
            match try_first() {
                Err(E::EOPNOTSUPP | E::ENOSYS | E::EINVAL | E::ESPIPE) => {
                    s.no_nowait.store(true, Ordering::Relaxed);
                }
                r => return r,
            }
        }
        if event::poll_now(fd, ready) == 0 {
            return Err(E::EAGAIN);
        }
        then()
    }
}

/// A console's answer as a stream's: nothing now is EAGAIN.
fn console_result(r: Result<usize, Errno>, len: usize) -> Result<usize, Errno> {
    match r {
        Ok(0) if len > 0 => Err(Errno::EAGAIN),
        r => r,
    }
}

/// Repeats an interrupted call: nothing here waits, so that is over soon.
fn complete(mut f: impl FnMut() -> host_sys::Result<usize>) -> Result<usize, Errno> {
    loop {
        match f() {
            Err(E::EINTR) => {}
            r => return r.map_err(errno),
        }
    }
}

impl Streams for HostStreams {
    fn kind(&self, i: u32) -> StreamKind {
        self.get(i).map_or(StreamKind::None, |s| s.kind)
    }

    fn stat(&self, i: u32) -> Result<HostStat, Errno> {
        self.get(i)?;
        let st = file::fstat(i as i32).map_err(errno)?;
        Ok(crate::dir::host_stat(&st))
    }

    fn access(&self, i: u32) -> (bool, bool, bool) {
        self.get(i).map_or((false, false, false), |s| {
            (s.readable, s.writable, s.append)
        })
    }

    fn read(&self, i: u32, buf: &mut [u8], offset: Option<u64>) -> Result<usize, Errno> {
        let s = self.get(i)?;
        if !s.readable {
            return Err(Errno::EBADF);
        }
        let fd = i as i32;
        match (s.kind, offset) {
            (StreamKind::Terminal, _) => {
                let c = self.console.ok_or(Errno::EIO)?;
                let len = buf.len();
                console_result(c.read(buf), len)
            }
            (StreamKind::File, Some(at)) => {
                i64::try_from(at).map_err(|_| Errno::EINVAL)?;
                complete(|| fd::pread(fd, buf, at))
            }
            (StreamKind::File, None) => complete(|| fd::read(fd, buf)),
            (StreamKind::Socket, _) => complete(|| event::recv_nowait(fd, buf)),
            _ => {
                let buf = core::cell::RefCell::new(buf);
                complete(|| {
                    self.nowait(
                        s,
                        fd,
                        libc::POLLIN,
                        || event::read_nowait(fd, &mut buf.borrow_mut()),
                        || fd::read(fd, &mut buf.borrow_mut()),
                    )
                })
            }
        }
    }

    fn write(&self, i: u32, buf: &[u8], offset: Option<u64>) -> Result<usize, Errno> {
        let s = self.get(i)?;
        if !s.writable {
            return Err(Errno::EBADF);
        }
        let fd = i as i32;
        match (s.kind, offset) {
            (StreamKind::Terminal, _) => {
                let c = self.console.ok_or(Errno::EIO)?;
                console_result(c.write(buf), buf.len())
            }
            (StreamKind::File, Some(at)) => {
                i64::try_from(at).map_err(|_| Errno::EINVAL)?;
                complete(|| fd::pwrite(fd, buf, at))
            }
            (StreamKind::File, None) => complete(|| fd::write(fd, buf)),
            (StreamKind::Socket, _) => complete(|| event::send_nowait(fd, buf)),
            _ => {
                let some = &buf[..buf.len().min(PIPE_BUF)];
                complete(|| {
                    self.nowait(
                        s,
                        fd,
                        libc::POLLOUT,
                        || event::write_nowait(fd, buf),
                        || fd::write(fd, some),
                    )
                })
            }
        }
    }

    fn ready(&self, i: u32) -> (bool, bool, bool) {
        let Ok(s) = self.get(i) else {
            return (false, false, true);
        };
        let r = event::poll_now(i as i32, libc::POLLIN | libc::POLLOUT);
        let gone = r & (libc::POLLHUP | libc::POLLERR) != 0;
        (
            s.readable && (gone || r & libc::POLLIN != 0),
            s.writable && (gone || r & libc::POLLOUT != 0),
            gone,
        )
    }

    fn watch(&self, i: u32, read: bool, write: bool) {
        let Ok(s) = self.get(i) else { return };
        let mut bits = 0;
        if read && s.readable {
            bits |= (libc::EPOLLIN | libc::EPOLLRDHUP) as u32;
        }
        if write && s.writable {
            bits |= libc::EPOLLOUT as u32;
        }
        if bits == 0 {
            return;
        }
        // Wake-up proof: one-shot epoll checks the state when it is armed, so
        // what became ready before is reported too. A report clears `armed`
        // and then makes an event, after which waiters look and ask again.
        let events = s.armed.fetch_or(bits, Ordering::AcqRel) | bits | libc::EPOLLONESHOT as u32;
        let ctl = |op| event::epoll_ctl(self.epoll, op, i as i32, events, u64::from(i));
        let r = if s.registered.swap(true, Ordering::AcqRel) {
            match ctl(libc::EPOLL_CTL_MOD) {
                // Another vCPU is just about to add it.
                Err(E::ENOENT) => ctl(libc::EPOLL_CTL_ADD),
                r => r,
            }
        } else {
            ctl(libc::EPOLL_CTL_ADD)
        };
        match r {
            Ok(()) => {}
            Err(E::EEXIST) => {
                let _ = ctl(libc::EPOLL_CTL_MOD);
            }
            // Files that cannot be polled are always ready.
            Err(_) => self.on_ready(i),
        }
    }

    fn seek(&self, i: u32, offset: i64, whence: u32) -> Result<u64, Errno> {
        match self.get(i)?.kind {
            StreamKind::File => file::lseek(i as i32, offset, whence).map_err(errno),
            _ => Err(Errno::ESPIPE),
        }
    }

    fn truncate(&self, i: u32, size: u64) -> Result<(), Errno> {
        match self.get(i)?.kind {
            StreamKind::File => fd::ftruncate(i as i32, size).map_err(errno),
            _ => Err(Errno::EINVAL),
        }
    }
}
