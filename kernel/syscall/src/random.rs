//! Random numbers: getrandom(2).

use crate::args::BytesOut;
use crate::cx::mm;
use crate::flags::RandomFlags;
use abi::io::MAX_RW_COUNT;
use abi::{Errno, Result};
use task::Ctx;

/// Fills a buffer with random bytes: `getrandom(2)`. The host's source is always ready.
pub fn sys_getrandom(cx: &Ctx, buf: BytesOut, len: u64, flags: RandomFlags) -> Result<usize> {
    type F = RandomFlags;
    if flags.beyond(F::ALL) || flags.has(F::GRND_RANDOM) && flags.has(F::GRND_INSECURE) {
        return Err(Errno::EINVAL);
    }
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(MAX_RW_COUNT);
    crate::cx::check_range(buf.0, len as u64)?;
    let mm = mm(cx);
    let mut chunk = [0u8; 256];
    let mut done = 0;
    while done < len {
        let n = (len - done).min(chunk.len());
        cx.kernel().platform.entropy().fill(&mut chunk[..n]);
        if let Err(e) = mm.write(buf.0 + done as u64, &chunk[..n]) {
            return if done > 0 { Ok(done) } else { Err(e) };
        }
        done += n;
        if done % (64 << 10) == 0 {
            hal::cpu::current_waiter().yield_if_needed();
            if hal::cpu::current_waiter().interrupted() {
                break;
            }
        }
    }
    Ok(done)
}
