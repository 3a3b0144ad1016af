//! procfs: /proc.
//!
//! What ps(1), top(1), free(1), mount(8) and libc read of the machine and its
//! processes, as proc(5) describes it. Texts are made when read.
//!
//! | module | what |
//! |---|---|
//! | `machine` | files about the whole machine |
//! | `sys` | /proc/sys |
//! | `net` | /proc/net |
//! | `who` | which process or thread a node is about; who may look |
//! | `pid` | directories of a process and its threads |
//! | `text` | stat, status, limits and other texts of a process |
//! | `maps` | maps, smaps |
//! | `fd` | fd, fdinfo |
//!
//! Neighbours: `vfs::pseudo` turns nodes into inodes; `task` has the facts.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

mod fd;
mod machine;
mod maps;
mod net;
mod pid;
mod sys;
mod text;
mod who;

use abi::{Errno, Result};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use task::Kernel;
use vfs::file::Caller;
use vfs::inode::FileType;
use vfs::pseudo::{Node, PseudoFs};
use who::Who;

pub use text::TtyInfo;

/// `f_type` of statfs(2).
pub const PROC_SUPER_MAGIC: u64 = 0x9fa0;

/// Inode numbers of the fixed part of the tree lie below this; those of processes above.
const FIRST_PID_INO: u64 = 1 << 24;
const ROOT_INO: u64 = 1;
const SELF_INO: u64 = 2;
const THREAD_SELF_INO: u64 = 3;
const MOUNTS_INO: u64 = 4;
const NET_INO: u64 = 5;
const FIRST_ROW_INO: u64 = 16;
const SYS_INO: u64 = 4096;

/// The file system. `dev`: its `st_dev`.
pub fn new(kernel: &'static Kernel, dev: u64) -> Arc<PseudoFs> {
    let root = Root {
        kernel,
        sys: sys::root(kernel, SYS_INO),
    };
    let born = kernel.boot_realtime_ns as i64;
    PseudoFs::new("proc", PROC_SUPER_MAGIC, dev, born, true, Arc::new(root))
}

/// A directory entry as [`Node::list`] gives it.
type Entry = (Vec<u8>, FileType, u64);

struct Root {
    kernel: &'static Kernel,
    sys: Arc<dyn Node>,
}

impl Node for Root {
    fn file_type(&self) -> FileType {
        FileType::Dir
    }
    fn mode(&self) -> u32 {
        0o555
    }
    fn ino(&self) -> u64 {
        ROOT_INO
    }
    fn nlink(&self) -> u32 {
        4 + self.kernel.pids.counts().1 as u32
    }
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Node>> {
        if let Some(pid) = number(name) {
            let who = Who::process(self.kernel, pid)?;
            return Ok(pid::process_dir(who));
        }
        let link = |ino, target| -> Arc<dyn Node> { Arc::new(Link { ino, target }) };
        Ok(match name {
            b"self" => link(SELF_INO, || format!("{}", task::current().process.pid())),
            b"thread-self" => link(THREAD_SELF_INO, || {
                let t = task::current();
                format!("{}/task/{}", t.process.pid(), t.tid())
            }),
            b"mounts" => link(MOUNTS_INO, || "self/mounts".into()),
            b"net" => link(NET_INO, || "self/net".into()),
            b"sys" => self.sys.clone(),
            _ => {
                let i = machine::ROWS
                    .iter()
                    .position(|r| r.0.as_bytes() == name)
                    .ok_or(Errno::ENOENT)?;
                Arc::new(MachineFile {
                    kernel: self.kernel,
                    index: i,
                })
            }
        })
    }
    fn list(&self) -> Result<Vec<Entry>> {
        let mut v: Vec<Entry> = vec![
            (b"self".to_vec(), FileType::Symlink, SELF_INO),
            (b"thread-self".to_vec(), FileType::Symlink, THREAD_SELF_INO),
            (b"mounts".to_vec(), FileType::Symlink, MOUNTS_INO),
            (b"net".to_vec(), FileType::Symlink, NET_INO),
            (b"sys".to_vec(), FileType::Dir, SYS_INO),
        ];
        for (i, row) in machine::ROWS.iter().enumerate() {
            let ino = FIRST_ROW_INO + i as u64;
            v.push((row.0.as_bytes().to_vec(), FileType::Regular, ino));
        }
        for p in self.kernel.pids.processes() {
            let name = format!("{}", p.pid()).into_bytes();
            v.push((name, FileType::Dir, who::ino(p.pid(), who::DIR)));
        }
        Ok(v)
    }
}

/// A positive decimal number without leading zeros, as names of processes and descriptors are.
fn number(name: &[u8]) -> Option<i32> {
    if name.first() == Some(&b'0') && name.len() > 1 || !name.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(name).ok()?.parse().ok()
}

struct MachineFile {
    kernel: &'static Kernel,
    index: usize,
}

impl MachineFile {
    fn is_sysrq(&self) -> bool {
        machine::ROWS
            .get(self.index)
            .is_some_and(|r| r.0 == machine::SYSRQ)
    }
}

impl Node for MachineFile {
    fn file_type(&self) -> FileType {
        FileType::Regular
    }
    fn mode(&self) -> u32 {
        if self.is_sysrq() { 0o200 } else { 0o444 }
    }
    fn ino(&self) -> u64 {
        FIRST_ROW_INO + self.index as u64
    }
    fn write(&self, _cx: &dyn Caller, _pos: u64, data: &[u8]) -> Result<usize> {
        if !self.is_sysrq() {
            return Err(Errno::EINVAL);
        }
        machine::sysrq(self.kernel, data);
        Ok(data.len())
    }
    fn read(&self, _cx: &dyn Caller) -> Result<Vec<u8>> {
        let row = machine::ROWS.get(self.index).ok_or(Errno::ENOENT)?;
        if row.0 == machine::LOCKS {
            return machine::locks(self.kernel);
        }
        Ok((row.1)(self.kernel))
    }
}

/// A symbolic link whose text depends on who reads it.
struct Link {
    ino: u64,
    target: fn() -> alloc::string::String,
}

impl Node for Link {
    fn file_type(&self) -> FileType {
        FileType::Symlink
    }
    fn mode(&self) -> u32 {
        0o777
    }
    fn ino(&self) -> u64 {
        self.ino
    }
    fn read_link(&self) -> Result<Vec<u8>> {
        Ok((self.target)().into_bytes())
    }
}

const _: () = assert!(SYS_INO > FIRST_ROW_INO + machine::ROWS.len() as u64);

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn names_of_processes() {
        assert_eq!(number(b"1"), Some(1));
        assert_eq!(number(b"0"), Some(0));
        assert_eq!(number(b"01"), None);
        assert_eq!(number(b"99999999999"), None);
        assert_eq!(number(b"1x"), None);
        assert_eq!(number(b""), None);
    }
}
