//! The queue of device events: one bit per event, so that any thread can add
//! one without memory, and none is lost or counted twice.

use core::sync::atomic::{AtomicU64, Ordering};
use hal::dev::{Devices, Event};
use std::sync::OnceLock;

const SIGNAL_BASE: u32 = 8;

fn bit(e: Event) -> u64 {
    1 << match e {
        Event::ConsoleInput => 0,
        Event::ConsoleOutput => 1,
        Event::ConsoleResize => 2,
        Event::ConsoleHangup => 3,
        Event::Stream(i) => 4 + i.min(2),
        Event::HostSignal(n) => SIGNAL_BASE + n.clamp(1, 55) as u32,
    }
}

fn event(bit: u32) -> Event {
    match bit {
        0 => Event::ConsoleInput,
        1 => Event::ConsoleOutput,
        2 => Event::ConsoleResize,
        3 => Event::ConsoleHangup,
        n if n < SIGNAL_BASE => Event::Stream(n - 4),
        n => Event::HostSignal((n - SIGNAL_BASE) as i32),
    }
}

/// Pending device events of the machine.
#[derive(Default)]
pub struct DeviceQueue {
    pending: AtomicU64,
    raise: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl DeviceQueue {
    /// Sets how the kernel is told (the device interrupt of vCPU 0). Once;
    /// events before are reported at once.
    pub fn connect(&self, raise: Box<dyn Fn() + Send + Sync>) {
        let _ = self.raise.set(raise);
        if self.pending.load(Ordering::Acquire) != 0 {
            self.interrupt();
        }
    }
    /// Adds an event. Returns false if the same was pending already.
    pub fn push(&self, e: Event) -> bool {
        let b = bit(e);
        let old = self.pending.fetch_or(b, Ordering::AcqRel);
        // Wake-up proof: whoever made the word non-zero interrupts after that;
        // the kernel takes the whole word after the interrupt.
        if old == 0 {
            self.interrupt();
        }
        old & b == 0
    }
    fn interrupt(&self) {
        if let Some(f) = self.raise.get() {
            f();
        }
    }
}

impl Devices for DeviceQueue {
    fn take_events(&self, out: &mut Vec<Event>) {
        let mut bits = self.pending.swap(0, Ordering::AcqRel);
        while bits != 0 {
            out.push(event(bits.trailing_zeros()));
            bits &= bits - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn every_event_survives_the_round_trip() {
        let all = [
            Event::ConsoleInput,
            Event::ConsoleOutput,
            Event::ConsoleResize,
            Event::ConsoleHangup,
            Event::Stream(0),
            Event::Stream(2),
            Event::HostSignal(1),
            Event::HostSignal(15),
        ];
        for e in all {
            assert_eq!(event(bit(e).trailing_zeros()), e);
        }
    }

    #[test]
    fn interrupts_once_until_taken() {
        let q = DeviceQueue::default();
        let n = Arc::new(AtomicUsize::new(0));
        let m = n.clone();
        q.push(Event::ConsoleInput);
        q.connect(Box::new(move || {
            m.fetch_add(1, Ordering::SeqCst);
        }));
        assert_eq!(n.load(Ordering::SeqCst), 1);
        assert!(!q.push(Event::ConsoleInput));
        q.push(Event::Stream(1));
        assert_eq!(n.load(Ordering::SeqCst), 1);
        let mut v = Vec::new();
        q.take_events(&mut v);
        assert_eq!(v, [Event::ConsoleInput, Event::Stream(1)]);
        q.push(Event::HostSignal(15));
        assert_eq!(n.load(Ordering::SeqCst), 2);
    }
}
