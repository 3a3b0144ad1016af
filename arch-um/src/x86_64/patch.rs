//! Rewritten call sites of the engine `kml`.

use super::kml::REACH;
use hal::USER_END;

/// Whether `ip` is in a trampoline.
pub(crate) fn is_trampoline(ip: u64) -> bool {
    (USER_END..USER_END + REACH).contains(&ip)
}
