//! Options of unix sockets beyond the generic ones.

use super::{AF_UNIX, Phase, UnixSocket, addr};
use crate::options::{
    SO_ACCEPTCONN, SO_DOMAIN, SO_ERROR, SO_PEEK_OFF, SO_PEERCRED, SO_PEERGROUPS, SO_PEERNAME,
    SO_PROTOCOL, SO_TYPE, SOL_SOCKET,
};
use abi::io::UCred;
use abi::{Errno, Result};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use zerocopy::IntoBytes;

impl UnixSocket {
    pub(super) fn do_get_option(&self, level: i32, name: i32) -> Result<Vec<u8>> {
        if level != SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        let int = match name {
            SO_TYPE => self.kind as i32,
            SO_PEEK_OFF => self.peek_off.load(Ordering::Relaxed),
            SO_DOMAIN => AF_UNIX,
            SO_PROTOCOL => 0,
            SO_ERROR => self.take_error().map_or(0, |e| e.0 as i32),
            SO_ACCEPTCONN => (self.phase() == Phase::Listening) as i32,
            SO_PEERCRED => {
                let c = self.peer_cred().map_or(
                    UCred {
                        pid: 0,
                        uid: u32::MAX,
                        gid: u32::MAX,
                    },
                    |p| p.cred,
                );
                return Ok(c.as_bytes().to_vec());
            }
            SO_PEERGROUPS => {
                let p = self.peer_cred().ok_or(Errno::ENODATA)?;
                return Ok(p.groups.as_bytes().to_vec());
            }
            SO_PEERNAME => {
                let peer = self.peer().ok_or(Errno::ENOTCONN)?;
                return Ok(addr::encode(peer.name_arc().as_deref()));
            }
            _ => return self.options.get(name),
        };
        Ok(int.to_ne_bytes().to_vec())
    }
}
