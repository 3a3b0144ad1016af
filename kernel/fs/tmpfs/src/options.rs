//! Mount options, tmpfs(5).

use crate::PAGE;
use abi::{Errno, Result};

/// What `mount -o` may say.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes; `None` = half of memory, 0 = no limit.
    pub size: Option<u64>,
    /// Inodes; `None` = one for every two pages of memory, 0 = no limit.
    pub nr_inodes: Option<u64>,
    /// Permission bits of the root.
    pub mode: u32,
    /// Owner of the root.
    pub uid: u32,
    /// Group of the root.
    pub gid: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            size: None,
            nr_inodes: None,
            mode: 0o1777,
            uid: 0,
            gid: 0,
        }
    }
}

impl Options {
    /// Reads `name=value,…`. [`Errno::EINVAL`].
    pub fn parse(&mut self, data: &[u8]) -> Result {
        for word in data.split(|&c| c == b',').filter(|w| !w.is_empty()) {
            let mut parts = word.splitn(2, |&c| c == b'=');
            let name = parts.next().unwrap_or(&[]);
            let value = parts
                .next()
                .map(|v| core::str::from_utf8(v).map_err(|_| Errno::EINVAL))
                .transpose()?;
            let text = || value.ok_or(Errno::EINVAL);
            match name {
                b"size" => self.size = Some(bytes(text()?)?),
                b"nr_blocks" => {
                    self.size = Some(number(text()?)?.checked_mul(PAGE).ok_or(Errno::EINVAL)?);
                }
                b"nr_inodes" => self.nr_inodes = Some(number(text()?)?),
                b"mode" => {
                    self.mode =
                        u32::from_str_radix(text()?, 8).map_err(|_| Errno::EINVAL)? & 0o7777;
                }
                b"uid" => self.uid = text()?.parse().map_err(|_| Errno::EINVAL)?,
                b"gid" => self.gid = text()?.parse().map_err(|_| Errno::EINVAL)?,
                // About pages and inode numbers that there is only one kind of here.
                b"huge" | b"mpol" => {
                    text()?;
                }
                b"inode32" | b"inode64" | b"noswap" => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(())
    }
    /// Limit in pages.
    pub(crate) fn pages(&self) -> u64 {
        match self.size {
            Some(b) => b.div_ceil(PAGE),
            None => (memory_pages() / 2).max(1024),
        }
    }
    /// Limit in inodes.
    pub(crate) fn inodes(&self) -> u64 {
        self.nr_inodes
            .unwrap_or_else(|| (memory_pages() / 2).max(4096))
    }
}

fn memory_pages() -> u64 {
    mm::frame::stats().total
}

/// A number with an optional suffix k, m, g.
fn number(s: &str) -> Result<u64> {
    let (digits, shift) = match s.as_bytes().last() {
        Some(b'k' | b'K') => (&s[..s.len() - 1], 10),
        Some(b'm' | b'M') => (&s[..s.len() - 1], 20),
        Some(b'g' | b'G') => (&s[..s.len() - 1], 30),
        _ => (s, 0),
    };
    let n: u64 = digits.parse().map_err(|_| Errno::EINVAL)?;
    n.checked_mul(1 << shift).ok_or(Errno::EINVAL)
}

/// A number of bytes, or a share of memory: `50%`.
fn bytes(s: &str) -> Result<u64> {
    match s.strip_suffix('%') {
        Some(p) => {
            let p: u64 = p.parse().map_err(|_| Errno::EINVAL)?;
            let total = u128::from(memory_pages()) * u128::from(PAGE);
            u64::try_from(total * u128::from(p) / 100).map_err(|_| Errno::EINVAL)
        }
        None => number(s),
    }
}
