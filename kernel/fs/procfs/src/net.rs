//! /proc/PID/net: the tables that network tools read. There are no network devices, so all but
//! that of unix sockets are empty.

use crate::Entry;
use crate::who::{self, Who};
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use vfs::file::Caller;
use vfs::inode::FileType;
use vfs::pseudo::Node;

/// Kind bits of inode numbers.
const KIND: u64 = 0x6_0000;

/// Tables with their heading; there is nothing in them.
const ROWS: &[(&str, &[u8])] = &[
    ("arp", b"IP address       HW type     Flags       HW address            Mask     Device\n"),
    (
        "dev",
        b"Inter-|   Receive                                                |  Transmit\n \
          face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n",
    ),
    ("if_inet6", b""),
    (
        "route",
        b"Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n",
    ),
    (
        "tcp",
        b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n",
    ),
    ("unix", b""),
    (
        "udp",
        b"   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n",
    ),
];

/// The directory.
pub(crate) struct NetDir {
    pub who: Who,
    pub ino: u64,
}

impl Node for NetDir {
    fn file_type(&self) -> FileType {
        FileType::Dir
    }
    fn mode(&self) -> u32 {
        0o555
    }
    fn ino(&self) -> u64 {
        self.ino
    }
    fn exists(&self) -> bool {
        self.who.exists()
    }
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Node>> {
        let index = ROWS
            .iter()
            .position(|r| r.0.as_bytes() == name)
            .ok_or(Errno::ENOENT)?;
        Ok(Arc::new(Table {
            ino: who::ino(self.who.id, KIND + index as u64),
            index,
        }))
    }
    fn list(&self) -> Result<Vec<Entry>> {
        Ok(ROWS
            .iter()
            .enumerate()
            .map(|(i, r)| {
                let ino = who::ino(self.who.id, KIND + i as u64);
                (r.0.as_bytes().to_vec(), FileType::Regular, ino)
            })
            .collect())
    }
}

struct Table {
    ino: u64,
    index: usize,
}

impl Node for Table {
    fn file_type(&self) -> FileType {
        FileType::Regular
    }
    fn mode(&self) -> u32 {
        0o444
    }
    fn ino(&self) -> u64 {
        self.ino
    }
    fn read(&self, _cx: &dyn Caller) -> Result<Vec<u8>> {
        let row = ROWS.get(self.index).ok_or(Errno::ENOENT)?;
        if row.0 == "unix" {
            return unix();
        }
        Ok(row.1.to_vec())
    }
}

fn unix() -> Result<Vec<u8>> {
    let slot = task::current().kernel.slots.net.get().cloned();
    match slot.and_then(|s| s.downcast::<net::NetNs>().ok()) {
        Some(ns) => ns.unix.table(),
        None => Err(Errno::ENOENT),
    }
}
