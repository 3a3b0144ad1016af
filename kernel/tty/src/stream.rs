//! Host streams that are no terminals: pipes, files and devices that the
//! machine was started with as descriptors 0, 1 and 2.

use crate::root::Terminals;
use crate::tty::{READABLE, WRITABLE};
use abi::stat::makedev;
use abi::{Errno, Result};
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, Ordering};
use hal::dev::{StreamKind, Streams};
use mm::io::{Sink, Source};
use sync::WaitQueue;
use vfs::anon::AnonFs;
use vfs::file::{Caller, Traits};
use vfs::{
    Attr, Cred, File, FileOps, FileType, Inode, InodeRef, OpenFlags, PollEvents, PollTable,
    SetAttr, SuperBlock,
};

/// Bytes moved at a time.
const CHUNK: usize = 64 << 10;
/// Memory devices of the host that have the same meaning inside: minor number, name.
const DEVICES: &[(u32, &[u8])] = &[
    (3, b"/dev/null"),
    (5, b"/dev/zero"),
    (7, b"/dev/full"),
    (8, b"/dev/random"),
    (9, b"/dev/urandom"),
];

/// Readiness of one stream.
pub(crate) struct Stream {
    pub index: u32,
    host: &'static dyn Streams,
    /// Counts events.
    seq: AtomicU32,
    wait: Arc<WaitQueue>,
}

impl Stream {
    pub fn new(index: u32, host: &'static dyn Streams) -> Arc<Stream> {
        Arc::new(Stream {
            index,
            host,
            seq: AtomicU32::new(0),
            wait: Arc::new(WaitQueue::new()),
        })
    }
    /// The host says that the stream is ready.
    pub fn event(&self) {
        // Wake-up proof: the count changes before the queue is woken.
        self.seq.fetch_add(1, Ordering::AcqRel);
        let hup = PollEvents::HUP.bits() | PollEvents::ERR.bits();
        self.wait.wake_key(READABLE | WRITABLE | hup);
    }
    /// Waits for an event after `seq` was read and the host had said no.
    fn wait_event(&self, seq: u32, read: bool) -> Result {
        self.host.watch(self.index, read, !read);
        self.wait
            .wait(|| (self.seq.load(Ordering::Acquire) != seq).then_some(()))
    }
}

/// Inode of a stream; its attributes are the host's.
pub struct StreamInode {
    fs: Arc<AnonFs>,
    kind: FileType,
    stream: Arc<Stream>,
    access: OpenFlags,
    this: Weak<StreamInode>,
}

impl Inode for StreamInode {
    fn super_block(&self) -> Arc<dyn SuperBlock> {
        self.fs.clone()
    }
    fn attr(&self) -> Result<Attr> {
        let s = self.stream.host.stat(self.stream.index)?;
        Ok(Attr {
            dev: self.fs.dev(),
            ino: s.ino,
            mode: s.mode,
            nlink: s.nlink,
            uid: s.uid,
            gid: s.gid,
            rdev: s.rdev,
            size: s.size,
            blksize: 4096,
            blocks: s.blocks,
            atime: s.atime_ns,
            mtime: s.mtime_ns,
            ctime: s.ctime_ns,
            btime: 0,
        })
    }
    fn file_type(&self) -> FileType {
        self.kind
    }
    fn ino(&self) -> u64 {
        self.stream
            .host
            .stat(self.stream.index)
            .map_or(0, |s| s.ino)
    }
    /// A file that the machine was given for writing may be truncated; else nothing of the host's changes.
    fn set_attr(&self, set: &SetAttr) -> Result {
        match set.size {
            Some(size) => self.stream.host.truncate(self.stream.index, size),
            None => Err(Errno::EPERM),
        }
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    /// Opened again through /proc/PID/fd: a description with a position of its own.
    fn open(
        &self,
        _this: &InodeRef,
        flags: OpenFlags,
        _cx: &dyn Caller,
    ) -> Result<Arc<dyn FileOps>> {
        let (r, w, _) = self.stream.host.access(self.stream.index);
        if flags.readable() && !r || flags.writable() && !w {
            return Err(Errno::EACCES);
        }
        let inode = self.this.upgrade().ok_or(Errno::ENXIO)?;
        Ok(Arc::new(StreamFile {
            inode,
            inherited: false,
        }))
    }
}

/// An open stream.
pub struct StreamFile {
    inode: Arc<StreamInode>,
    /// As the machine was started with it: it shares the host's file position.
    inherited: bool,
}

impl StreamFile {
    fn stream(&self) -> &Stream {
        &self.inode.stream
    }
    fn is_file(&self) -> bool {
        self.inode.kind == FileType::Regular || self.inode.kind == FileType::Block
    }
    /// Where the host shall read or write: `None` = at its own position, which
    /// it shares with other processes of the host; read(2) and write(2) mean
    /// that one, and hold the file position's lock here.
    fn offset(&self, f: &File, pos: u64) -> Option<u64> {
        if !self.is_file() {
            return None;
        }
        if !self.inherited {
            return Some(pos);
        }
        f.pos.try_lock().map(|_| pos)
    }
}

impl FileOps for StreamFile {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn traits(&self) -> Traits {
        match self.is_file() {
            true => Traits::FILE,
            false => Traits::STREAM,
        }
    }
    fn seek(&self, _f: &File, offset: i64, whence: u32) -> Option<Result<u64>> {
        let s = self.stream();
        self.is_file().then(|| s.host.seek(s.index, offset, whence))
    }
    fn read(&self, f: &File, _cx: &dyn Caller, pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        let s = self.stream();
        let mut buf = vec![0; dst.remaining().min(CHUNK)];
        if buf.is_empty() {
            return Ok(0);
        }
        let offset = self.offset(f, pos);
        loop {
            let seq = s.seq.load(Ordering::Acquire);
            match s.host.read(s.index, &mut buf, offset) {
                Ok(0) => return Ok(0),
                Ok(n) => return dst.put(buf.get(..n).unwrap_or_default()),
                Err(Errno::EAGAIN) if !f.nonblock() => s.wait_event(seq, true)?,
                Err(e) => return Err(e),
            }
        }
    }
    fn write(&self, f: &File, _cx: &dyn Caller, pos: u64, src: &mut dyn Source) -> Result<usize> {
        let s = self.stream();
        let mut offset = self.offset(f, pos);
        let mut buf = vec![0; src.remaining().min(CHUNK)];
        let mut done = 0;
        while src.remaining() > 0 {
            let got = match src.take(&mut buf) {
                Ok(n) if n > 0 => n,
                Ok(_) => break,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            };
            let mut sent = 0;
            while sent < got {
                let seq = s.seq.load(Ordering::Acquire);
                let rest = buf.get(sent..got).unwrap_or_default();
                let failed = match s.host.write(s.index, rest, offset) {
                    Ok(n) => {
                        let n = n.min(rest.len());
                        sent += n;
                        done += n;
                        offset = offset.map(|o| o.saturating_add(n as u64));
                        continue;
                    }
                    Err(Errno::EAGAIN) if !f.nonblock() => match s.wait_event(seq, false) {
                        Ok(()) => continue,
                        Err(e) => e,
                    },
                    Err(e) => e,
                };
                src.untake(got - sent);
                return if done > 0 { Ok(done) } else { Err(failed) };
            }
        }
        Ok(done)
    }
    fn poll(&self, f: &File, table: Option<&mut PollTable<'_>>) -> PollEvents {
        let s = self.stream();
        let waiting = table.is_some();
        if let Some(t) = table {
            t.add(s.wait.clone());
        }
        let (r, w, hup) = s.host.ready(s.index);
        let flags = f.flags();
        let mut ev = PollEvents::empty();
        if r && flags.readable() {
            ev |= PollEvents::IN | PollEvents::RDNORM;
        }
        if w && flags.writable() {
            ev |= PollEvents::OUT | PollEvents::WRNORM;
        }
        if hup {
            ev |= if flags.readable() {
                PollEvents::HUP
            } else {
                PollEvents::ERR
            };
        }
        if waiting || ev.is_empty() {
            s.host
                .watch(s.index, flags.readable() && !r, flags.writable() && !w);
        }
        ev
    }
    fn fsync(&self, _f: &File, _data_only: bool) -> Result {
        if self.is_file() {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    }
    fn anon_name(&self) -> Option<Vec<u8>> {
        let ino = self.inode.ino();
        Some(match self.inode.kind {
            FileType::Fifo => format!("pipe:[{ino}]").into_bytes(),
            FileType::Socket => format!("socket:[{ino}]").into_bytes(),
            FileType::Char => {
                let rdev = self.inode.attr().map_or(0, |a| a.rdev);
                match DEVICES.iter().find(|(minor, _)| makedev(1, *minor) == rdev) {
                    Some((_, name)) => name.to_vec(),
                    None => format!("host:[{}]", self.stream().index).into_bytes(),
                }
            }
            _ => format!("host:[{}]", self.stream().index).into_bytes(),
        })
    }
}

impl Terminals {
    /// Descriptors 0, 1 and 2 of the first program, where the host's are no
    /// terminals (for those open /dev/console) and not closed. Streams that are
    /// the same file of the host share one description, as they do there.
    pub fn stream_files(&self, cred: &Arc<Cred>) -> [Option<Arc<File>>; 3] {
        let mut files: [Option<Arc<File>>; 3] = [None, None, None];
        let mut seen: Vec<(u64, u64, Arc<File>)> = Vec::new();
        let host = self.kernel.platform.streams();
        for (slot, stream) in files.iter_mut().zip(&self.streams) {
            let i = stream.index;
            let kind = match host.kind(i) {
                StreamKind::Terminal | StreamKind::None => continue,
                StreamKind::Pipe => FileType::Fifo,
                StreamKind::Socket => FileType::Socket,
                StreamKind::File => FileType::Regular,
                StreamKind::CharDev => FileType::Char,
            };
            let Ok(stat) = host.stat(i) else { continue };
            let (r, w, append) = host.access(i);
            let same = seen
                .iter()
                .find(|(d, n, _)| (*d, *n) == (stat.dev, stat.ino) && kind == FileType::Regular);
            if let Some((_, _, f)) = same
                && (f.flags().readable() || !r)
                && (f.flags().writable() || !w)
            {
                *slot = Some(f.clone());
                continue;
            }
            let mut access = match (r, w) {
                (true, true) => OpenFlags::RDWR,
                (false, true) => OpenFlags::WRONLY,
                _ => OpenFlags::from_bits_retain(0),
            };
            if append {
                access |= OpenFlags::APPEND;
            }
            let inode = Arc::new_cyclic(|this| StreamInode {
                fs: self.stream_fs.clone(),
                kind,
                stream: stream.clone(),
                access,
                this: this.clone(),
            });
            let ops = Arc::new(StreamFile {
                inode: inode.clone(),
                inherited: true,
            });
            let file = File::new(ops, inode.clone(), None, inode.access, cred.clone());
            seen.push((stat.dev, stat.ino, file.clone()));
            *slot = Some(file);
        }
        files
    }
}
