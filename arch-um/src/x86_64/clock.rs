//! The clock that guest programs read in the vDSO: a straight line from the
//! time stamp counter to the machine's clocks, in the vvar page.
//!
//! The line is drawn anew from time to time so that it follows the machine's
//! clock, which follows the host's. A new line starts where the old one is at that
//! moment, and runs a little faster or slower to meet the clock a second later;
//! so guest time never goes back. The distance stays far below the time of a
//! system call, so a program that uses both sees time in order as well.
//!
//! Written under a sequence count: odd while the words change.

use crate::lock::HostLock;
use core::arch::x86_64::_rdtsc;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, fence};
use hal::dev::Clock;

/// Word of the page: sequence count (u32).
pub(crate) const SEQ: usize = 0;
/// Word of the page: 1 if the rest is valid (u32).
pub(crate) const VALID: usize = 4;
/// Word of the page: counter at the start of the line.
pub(crate) const BASE_TSC: usize = 8;
/// Word of the page: nanoseconds per tick, times 2^32.
pub(crate) const MULT: usize = 16;
/// Words of the page: seconds and nanoseconds of the monotonic clock at the start.
pub(crate) const MONO: usize = 24;
/// Words of the page: the same of the wall clock.
pub(crate) const REAL: usize = 40;

/// A rate from less time than this is not good enough.
const RATE_MIN_NS: u64 = 2_000_000;
/// A rate is taken over one to two such stretches.
const ANCHOR_NS: u64 = 2_000_000_000;
/// The line meets the clock after this time.
const MEET_NS: i64 = 1_000_000_000;
/// Further behind the clock than this, the line jumps.
const JUMP_NS: i64 = 20_000;
/// The wall clock's distance is kept unless it changes by more than this.
const WALL_NOISE_NS: i64 = 2_000;
/// Longest time between two looks.
const INTERVAL_NS: u64 = 100_000_000;
const FIRST_INTERVAL_NS: u64 = 5_000_000;

#[derive(Clone, Copy)]
struct Sample {
    tsc: u64,
    ns: u64,
}

struct Line {
    /// Samples that rates are taken from, the older first.
    anchors: Option<[Sample; 2]>,
    start: Sample,
    mult: u64,
    wall_ns: i64,
    drawn: bool,
    interval_ns: u64,
}

static LINE: HostLock<Line> = HostLock::new(Line {
    anchors: None,
    start: Sample { tsc: 0, ns: 0 },
    mult: 0,
    wall_ns: 0,
    drawn: false,
    interval_ns: FIRST_INTERVAL_NS,
});
static PAGE: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());
/// 1: the counter can be used. 2: it cannot. 0: not looked yet.
static USABLE: AtomicU32 = AtomicU32::new(0);

/// The time stamp counter.
pub(crate) fn counter() -> u64 {
    tsc()
}

fn tsc() -> u64 {
    // SAFETY: every x86-64 CPU has the instruction.
    unsafe { _rdtsc() }
}

/// Looks once whether the host itself trusts the counter.
pub(crate) fn detect() {
    let source = std::fs::read("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let usable = super::cpuid::has_invariant_tsc() && source.is_ok_and(|s| s == b"tsc\n");
    USABLE.store(if usable { 1 } else { 2 }, Relaxed);
}

/// From now on the clock's words are kept in this page of the memory file.
pub(crate) fn set_page(page: *mut u8) {
    PAGE.store(page, Release);
}

/// As [`update`], if it is time. Cheap.
pub(crate) fn look_after(next: &AtomicU64, clock: &dyn Clock) {
    let now = tsc();
    if now < next.load(Relaxed) || USABLE.load(Relaxed) != 1 {
        return;
    }
    // Not again before the new interval is known.
    next.store(u64::MAX, Relaxed);
    let ticks = update(clock);
    next.store(now.saturating_add(ticks), Relaxed);
}

/// Draws the line anew. Returns after how many ticks it should be done again.
pub(crate) fn update(clock: &dyn Clock) -> u64 {
    const LATER: u64 = 10_000_000;
    if USABLE.load(Relaxed) != 1 {
        return u64::MAX / 2;
    }
    let mut line = LINE.lock();
    let now = sample(clock);
    let wall = wall_distance(clock);
    let Some(anchors) = line.anchors else {
        line.anchors = Some([now, now]);
        return LATER;
    };
    let [old, newer] = anchors;
    let (ticks, ns) = (now.tsc.wrapping_sub(old.tsc), now.ns.saturating_sub(old.ns));
    if ns < RATE_MIN_NS || ticks == 0 || ticks > 1 << 62 {
        return LATER;
    }
    if now.ns.saturating_sub(newer.ns) > ANCHOR_NS {
        line.anchors = Some([newer, now]);
    }
    let rate = ((u128::from(ns) << 32) / u128::from(ticks)) as u64;
    line.draw(now, rate, wall);
    let page = PAGE.load(Acquire);
    if !page.is_null() {
        line.publish(page);
    }
    let ticks = (u128::from(line.interval_ns) << 32) / u128::from(rate.max(1));
    line.interval_ns = (line.interval_ns * 2).min(INTERVAL_NS);
    ticks as u64
}

/// Counter and clock at one moment: the tightest of three tries.
fn sample(clock: &dyn Clock) -> Sample {
    let mut best = (u64::MAX, Sample { tsc: 0, ns: 0 });
    for _ in 0..3 {
        let before = tsc();
        let ns = clock.monotonic_ns();
        let took = tsc().wrapping_sub(before);
        if took < best.0 {
            let tsc = before.wrapping_add(took / 2);
            best = (took, Sample { tsc, ns });
        }
    }
    best.1
}

/// Wall clock minus monotonic clock: the tightest of three tries.
fn wall_distance(clock: &dyn Clock) -> i64 {
    let mut best = (u64::MAX, 0);
    for _ in 0..3 {
        let before = clock.monotonic_ns();
        let wall = clock.realtime_ns();
        let took = clock.monotonic_ns().saturating_sub(before);
        if took < best.0 {
            best = (took, wall.wrapping_sub(before + took / 2) as i64);
        }
    }
    best.1
}

impl Line {
    fn at(&self, tsc: u64) -> u64 {
        let ticks = tsc.saturating_sub(self.start.tsc);
        let ns = (u128::from(ticks) * u128::from(self.mult)) >> 32;
        self.start.ns.saturating_add(ns as u64)
    }

    fn draw(&mut self, now: Sample, rate: u64, wall: i64) {
        if (self.wall_ns - wall).abs() > WALL_NOISE_NS || !self.drawn {
            self.wall_ns = wall;
        }
        let here = self.at(now.tsc);
        let behind = now.ns.wrapping_sub(here) as i64;
        if !self.drawn || behind > JUMP_NS {
            (self.start, self.mult) = (now, rate);
        } else {
            let behind = behind.max(-MEET_NS / 2);
            let change = i128::from(rate) * i128::from(behind) / i128::from(MEET_NS);
            self.start = Sample {
                tsc: now.tsc,
                ns: here,
            };
            self.mult = (i128::from(rate) + change) as u64;
        }
        self.drawn = true;
    }

    fn publish(&self, page: *mut u8) {
        const SECOND: u64 = 1_000_000_000;
        // SAFETY: a frame of the memory file, which stays mapped; offsets are
        // within a page and aligned. Guests only read it.
        let (word, short) = unsafe {
            (
                |at: usize| AtomicU64::from_ptr(page.add(at).cast()),
                |at: usize| AtomicU32::from_ptr(page.add(at).cast()),
            )
        };
        let seq = short(SEQ).load(Relaxed);
        short(SEQ).store(seq.wrapping_add(1), Relaxed);
        fence(Release);
        let real = self.start.ns.wrapping_add_signed(self.wall_ns);
        word(BASE_TSC).store(self.start.tsc, Relaxed);
        word(MULT).store(self.mult, Relaxed);
        word(MONO).store(self.start.ns / SECOND, Relaxed);
        word(MONO + 8).store(self.start.ns % SECOND, Relaxed);
        word(REAL).store(real / SECOND, Relaxed);
        word(REAL + 8).store(real % SECOND, Relaxed);
        short(VALID).store(1, Relaxed);
        short(SEQ).store(seq.wrapping_add(2), Release);
    }
}

/// Rate of the counter in kHz, 0 if not known.
pub(crate) fn khz() -> u64 {
    let mult = LINE.lock().mult;
    (1_000_000u64 << 32).checked_div(mult).unwrap_or(0)
}
