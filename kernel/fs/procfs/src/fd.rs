//! /proc/PID/fd and /proc/PID/fdinfo.

use crate::Entry;
use crate::pid::visible_name;
use crate::who::{self, Who};
use abi::{Errno, Result};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use vfs::file::{Caller, OpenFlags};
use vfs::inode::{FileType, MagicLink};
use vfs::pseudo::Node;
use vfs::text::Text;
use vfs::{FdTable, File};

/// Kind bits of inode numbers of descriptors: links, then infos.
const LINK_KIND: u64 = 0x80_0000;
const INFO_KIND: u64 = 0xc0_0000;

/// /proc/PID/fd, or fdinfo if `info`.
pub(crate) struct FdDir {
    pub who: Who,
    pub ino: u64,
    pub info: bool,
}

fn table(who: &Who) -> Result<Arc<FdTable>> {
    who.live_task()?.files().ok_or(Errno::ENOENT)
}

impl FdDir {
    fn ino_of(&self, fd: i32) -> u64 {
        let kind = if self.info { INFO_KIND } else { LINK_KIND };
        who::ino(self.who.id, kind | (fd as u64 & 0x3f_ffff))
    }
    fn kind(&self) -> FileType {
        if self.info {
            FileType::Regular
        } else {
            FileType::Symlink
        }
    }
}

impl Node for FdDir {
    fn file_type(&self) -> FileType {
        FileType::Dir
    }
    fn mode(&self) -> u32 {
        if self.info { 0o555 } else { 0o500 }
    }
    fn ino(&self) -> u64 {
        self.ino
    }
    fn owner(&self) -> (u32, u32) {
        self.who.owner()
    }
    /// proc(5): a process may always look into its own descriptors.
    fn open_to_current(&self) -> bool {
        !self.info && self.who.is_current()
    }
    fn exists(&self) -> bool {
        self.who.exists()
    }
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Node>> {
        self.who.current_may_look()?;
        let fd = crate::number(name).ok_or(Errno::ENOENT)?;
        let file = table(&self.who)?.get(fd).map_err(|_| Errno::ENOENT)?;
        Ok(Arc::new(Descriptor {
            who: self.who.clone(),
            fd,
            ino: self.ino_of(fd),
            kind: self.kind(),
            file: Arc::as_ptr(&file).addr(),
            access: file.flags(),
        }))
    }
    fn list(&self) -> Result<Vec<Entry>> {
        self.who.current_may_look()?;
        let table = table(&self.who)?;
        let mut list = Vec::new();
        let mut next = 0;
        while let Some(fd) = table.next_open(next) {
            list.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            list.push((format!("{fd}").into_bytes(), self.kind(), self.ino_of(fd)));
            next = fd + 1;
        }
        Ok(list)
    }
}

/// One descriptor, as a link or as information.
struct Descriptor {
    who: Who,
    fd: i32,
    ino: u64,
    kind: FileType,
    /// Address of the description when it was looked up: the number may be used again.
    file: usize,
    access: OpenFlags,
}

impl Descriptor {
    fn get(&self) -> Result<Arc<File>> {
        self.who.current_may_look()?;
        table(&self.who)?.get(self.fd).map_err(|_| Errno::ENOENT)
    }
}

impl Node for Descriptor {
    fn file_type(&self) -> FileType {
        self.kind
    }
    fn mode(&self) -> u32 {
        if self.kind == FileType::Regular {
            return 0o444;
        }
        // The owner's bits tell how the file is open.
        let path_only = self.access.contains(OpenFlags::PATH);
        let mut m = 0o100;
        if self.access.readable() || path_only {
            m |= 0o400;
        }
        if self.access.writable() || path_only {
            m |= 0o200;
        }
        m
    }
    fn ino(&self) -> u64 {
        self.ino
    }
    fn owner(&self) -> (u32, u32) {
        self.who.owner()
    }
    fn exists(&self) -> bool {
        table(&self.who)
            .and_then(|t| t.get(self.fd))
            .is_ok_and(|f| Arc::as_ptr(&f).addr() == self.file)
    }
    fn read_link(&self) -> Result<Vec<u8>> {
        let f = self.get()?;
        Ok(match &f.path {
            Some(p) => visible_name(p),
            None => f
                .ops
                .anon_name()
                .unwrap_or_else(|| b"anon_inode:[file]".to_vec()),
        })
    }
    fn magic_link(&self) -> Option<Result<MagicLink>> {
        (self.kind == FileType::Symlink).then(|| self.get().map(|f| f as MagicLink))
    }
    fn read(&self, _cx: &dyn Caller) -> Result<Vec<u8>> {
        let t = table(&self.who)?;
        let f = self.get()?;
        let mut flags = f.flags();
        if t.cloexec(self.fd).unwrap_or(false) {
            flags |= OpenFlags::CLOEXEC;
        }
        let pos = if f.seekable() { *f.pos.lock() } else { 0 };
        let mnt = f.path.as_ref().map_or(0, |p| p.mnt.id());
        let mut text = Text::default();
        let _ = write!(
            text,
            "pos:\t{pos}\nflags:\t0{:o}\nmnt_id:\t{mnt}\nino:\t{}\n",
            flags.bits(),
            f.inode.ino()
        );
        let _ = f.ops.fdinfo(&f, &mut text);
        text.finish()
    }
}
