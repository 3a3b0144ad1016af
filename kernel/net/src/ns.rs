//! [`NetNs`] and the table of families.

use crate::socket::{SockKind, Socket};
use crate::unix::{self, UnixNs};
use abi::{Errno, Result};
use alloc::sync::Arc;
use hal::Platform;
use vfs::anon::AnonRoot;
use vfs::file::Caller;

/// What the sockets of a machine have in common.
pub struct NetNs {
    pub(crate) platform: &'static dyn Platform,
    /// Anonymous inodes.
    pub(crate) anon: Arc<AnonRoot>,
    /// The unix family's part.
    pub unix: UnixNs,
}

impl NetNs {
    /// No socket yet.
    pub fn new(platform: &'static dyn Platform, anon: Arc<AnonRoot>) -> Arc<NetNs> {
        Arc::new(NetNs {
            platform,
            anon,
            unix: UnixNs::default(),
        })
    }
    pub(crate) fn now(&self) -> u64 {
        self.platform.clock().monotonic_ns()
    }
}

/// A row of the table of families.
pub struct Family {
    /// `AF_*`.
    pub domain: i32,
    /// Makes a socket of a type and protocol.
    pub create: fn(&Arc<NetNs>, &dyn Caller, SockKind, i32) -> Result<Arc<dyn Socket>>,
    /// Makes a connected pair; `None`: [`Errno::EOPNOTSUPP`].
    pub pair: Option<
        fn(&Arc<NetNs>, &dyn Caller, SockKind, i32) -> Result<(Arc<dyn Socket>, Arc<dyn Socket>)>,
    >,
}

/// The families that exist.
pub const FAMILIES: &[Family] = &[Family {
    domain: unix::AF_UNIX,
    create: unix::create,
    pair: Some(unix::pair),
}];

/// The row of `domain`. [`Errno::EAFNOSUPPORT`].
pub(crate) fn family(domain: i32) -> Result<&'static Family> {
    FAMILIES
        .iter()
        .find(|f| f.domain == domain)
        .ok_or(Errno::EAFNOSUPPORT)
}
