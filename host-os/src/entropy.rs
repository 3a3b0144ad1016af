//! Random numbers from the host.

use hal::dev::Entropy;

/// getrandom(2).
#[derive(Debug, Default)]
pub struct HostEntropy;

impl Entropy for HostEntropy {
    fn fill(&self, buf: &mut [u8]) {
        // getrandom(2) fails only for bad memory and on hosts before Linux 3.17.
        if host_sys::event::random(buf).is_err() {
            panic!("the host gives no random numbers");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_all_of_a_long_buffer() {
        let mut b = vec![0u8; 5000];
        HostEntropy.fill(&mut b);
        assert!(b.chunks(50).all(|c| c.iter().any(|&x| x != 0)));
    }
}
