//! /proc/net/unix, proc_net(5).

use super::addr::Name;
use super::{Phase, UnixNs, UnixSocket};
use crate::socket::SockKind;
use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering;
use vfs::text::Text;

/// `__SO_ACCEPTCON`: it listens.
const LISTENS: u32 = 1 << 16;
/// References to a socket that nobody is connected to.
const REFERENCES: usize = 2;

/// States: without and with a file, each without and with a peer.
const UNCONNECTED: u8 = 1;
const CONNECTING: u8 = 2;
const CONNECTED: u8 = 3;
const DISCONNECTING: u8 = 4;

impl UnixNs {
    /// The text of the file. [`Errno::ENOMEM`].
    pub fn table(&self) -> Result<Vec<u8>> {
        let all = self.open_sockets()?;
        // How many are connected to each: not to be found out from the socket itself.
        let mut peers: BTreeMap<u64, usize> = BTreeMap::new();
        for s in &all {
            if let Some(p) = s.peer() {
                *peers.entry(p.number).or_default() += 1;
            }
        }
        let mut out = Text::default();
        let _ = out.write_str("Num       RefCount Protocol Flags    Type St Inode Path\n");
        for s in &all {
            let connected = peers.get(&s.number).copied().unwrap_or(0);
            let _ = s.row(connected, &mut out);
        }
        out.finish()
    }
    fn open_sockets(&self) -> Result<Vec<Arc<UnixSocket>>> {
        let mut all: Vec<Arc<UnixSocket>> = Vec::new();
        let mut from = 0;
        loop {
            // Room is made without the lock.
            all.try_reserve(64).map_err(|_| Errno::ENOMEM)?;
            let open = self.all.lock();
            let mut more = open.range(from..).peekable();
            while all.len() < all.capacity()
                && let Some((n, s)) = more.next()
            {
                all.extend(Weak::upgrade(s));
                from = n + 1;
            }
            if more.peek().is_none() {
                return Ok(all);
            }
        }
    }
}

impl UnixSocket {
    fn row(&self, peers: usize, out: &mut Text) -> core::fmt::Result {
        let (phase, has_peer, name) = {
            let s = self.state.lock();
            let name = s.binding.as_ref().map(|b| b.name.clone());
            (s.phase, s.peer.is_some(), name)
        };
        let connected = match self.kind {
            SockKind::Dgram => has_peer || peers > 0,
            _ => phase == Phase::Connected,
        };
        let ino = self.ino.load(Ordering::Relaxed);
        let state = match (ino, connected) {
            (0, false) => DISCONNECTING,
            (0, true) => CONNECTING,
            (_, false) => UNCONNECTED,
            (_, true) => CONNECTED,
        };
        let flags = if phase == Phase::Listening {
            LISTENS
        } else {
            0
        };
        write!(
            out,
            "{:016x}: {:08X} {:08X} {flags:08X} {:04X} {state:02X} {ino:5}",
            self.number,
            REFERENCES + peers,
            0,
            self.kind.to_raw(),
        )?;
        match name.as_deref() {
            None => {}
            Some(Name::Path(p)) => {
                out.write_str(" ")?;
                out.bytes(p)?;
            }
            Some(Name::Abstract(a)) => {
                out.write_str(" @")?;
                for b in a {
                    out.bytes(&[if *b == 0 { b'@' } else { *b }])?;
                }
            }
        }
        out.write_str("\n")
    }
}
