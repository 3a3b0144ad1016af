//! The dentry cache: [`DentryCache`].
//!
//! A hash table from (parent dentry, name) to dentry, in shards with a lock
//! each. The cache holds one reference to each dentry in it. A dentry that
//! nobody else refers to may be evicted; which one is decided by a clock hand
//! over the shard's slots and a bit that every lookup sets.

use crate::path::{Dentry, Name};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use hashbrown::HashTable;
use sync::{SpinLock, level};

const SHARDS: usize = 64;
/// Slots that one insertion looks at for something to evict.
const SWEEP: usize = 8;
/// Rounds over all shards that one call of `shrink` makes.
const SHRINK_ROUNDS: usize = 16;
/// Bounds of the number of unused dentries.
const MIN_DENTRIES: usize = 8 << 10;
const MAX_DENTRIES: usize = 1 << 20;

struct Slot {
    hash: u64,
    parent: usize,
    name: Name,
    dentry: Arc<Dentry>,
}

#[derive(Default)]
struct Shard {
    table: HashTable<u32>,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    hand: usize,
}

/// See the module's page.
pub(crate) struct DentryCache {
    shards: Box<[SpinLock<Shard, { level::DENTRY }>]>,
    count: AtomicUsize,
    limit: usize,
}

/// Hash of a name in a directory.
pub(crate) fn hash(parent: &Dentry, name: &[u8]) -> u64 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    fn mix(h: u64, v: u64) -> u64 {
        let p = u128::from(h ^ v) * u128::from(K | 1);
        (p as u64) ^ (p >> 64) as u64
    }
    let mut h = mix(parent.addr() as u64, 0x517c_c1b7_2722_0a95);
    let words = name.chunks_exact(8);
    let rest = words.remainder();
    for w in words {
        let mut b = [0u8; 8];
        b.copy_from_slice(w);
        h = mix(h, u64::from_le_bytes(b));
    }
    let mut last = [0u8; 8];
    last[..rest.len()].copy_from_slice(rest);
    h = mix(h, u64::from_le_bytes(last));
    mix(h, name.len() as u64 ^ K)
}

impl Shard {
    fn find(&self, hash: u64, parent: usize, name: &[u8]) -> Option<u32> {
        self.table
            .find(hash, |&i| {
                matches!(self.slots.get(i as usize), Some(Some(s))
                    if s.hash == hash && s.parent == parent && s.name.as_bytes() == name)
            })
            .copied()
    }
    fn insert(&mut self, slot: Slot) {
        let hash = slot.hash;
        let i = match self.free.pop() {
            Some(i) => {
                self.slots[i as usize] = Some(slot);
                i
            }
            None => {
                self.slots.push(Some(slot));
                (self.slots.len() - 1) as u32
            }
        };
        let slots = &self.slots;
        self.table.insert_unique(hash, i, |&j| {
            slots[j as usize].as_ref().map_or(0, |s| s.hash)
        });
    }
    fn remove(&mut self, i: u32) -> Option<Slot> {
        let slot = self.slots.get_mut(i as usize)?.take()?;
        if let Ok(e) = self.table.find_entry(slot.hash, |&j| j == i) {
            e.remove();
        }
        self.free.push(i);
        Some(slot)
    }
    /// Looks at up to `steps` slots and moves up to `max` unused ones to `out`.
    fn sweep(&mut self, steps: usize, max: usize, out: &mut Vec<Slot>) {
        let mut taken = 0;
        for _ in 0..steps.min(self.slots.len()) {
            self.hand = (self.hand + 1) % self.slots.len();
            let Some(Some(s)) = self.slots.get(self.hand) else {
                continue;
            };
            // The cache's reference is the only one, and new ones are made under this lock only.
            if !s.dentry.take_referenced() && Arc::strong_count(&s.dentry) == 1 {
                out.extend(self.remove(self.hand as u32));
                taken += 1;
                if taken == max {
                    break;
                }
            }
        }
    }
}

impl DentryCache {
    pub fn new() -> DentryCache {
        let frames = usize::try_from(mm::frame::stats().total).unwrap_or(0);
        DentryCache {
            shards: (0..SHARDS).map(|_| SpinLock::default()).collect(),
            count: AtomicUsize::new(0),
            limit: (frames / 8).clamp(MIN_DENTRIES, MAX_DENTRIES),
        }
    }
    fn shard(&self, hash: u64) -> &SpinLock<Shard, { level::DENTRY }> {
        // Not by the low bits, which choose a place in the shard's table, nor by the highest
        // seven, by which the table tells entries apart.
        &self.shards[(hash >> 48) as usize % SHARDS]
    }
    /// The dentry of `name` in `parent`, positive or negative.
    pub fn find(&self, hash: u64, parent: &Dentry, name: &[u8]) -> Option<Arc<Dentry>> {
        let shard = self.shard(hash).lock();
        let i = shard.find(hash, parent.addr(), name)?;
        let d = shard.slots.get(i as usize)?.as_ref()?.dentry.clone();
        drop(shard);
        d.set_referenced();
        Some(d)
    }
    /// Enters `dentry`, whose place is set. If there is one with that place already, it stays and is returned, unless it is `replace`d.
    pub fn insert(&self, dentry: &Arc<Dentry>, replace: bool) -> Arc<Dentry> {
        let Some((parent, name)) = dentry.place() else {
            return dentry.clone();
        };
        let hash = hash(&parent, name.as_bytes());
        dentry.set_hash(hash);
        let full = self.count.load(Ordering::Relaxed) >= self.limit;
        let mut dropped: Vec<Slot> = if full {
            Vec::with_capacity(SWEEP + 1)
        } else {
            Vec::new()
        };
        let mut shard = self.shard(hash).lock();
        if let Some(i) = shard.find(hash, parent.addr(), name.as_bytes()) {
            if !replace && let Some(Some(s)) = shard.slots.get(i as usize) {
                return s.dentry.clone();
            }
            dropped.extend(shard.remove(i));
        } else {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        let before = dropped.len();
        if full {
            shard.sweep(SWEEP, SWEEP, &mut dropped);
        }
        self.count
            .fetch_sub(dropped.len() - before, Ordering::Relaxed);
        shard.insert(Slot {
            hash,
            parent: parent.addr(),
            name,
            dentry: dentry.clone(),
        });
        drop(shard);
        drop(dropped);
        dentry.clone()
    }
    /// Takes `dentry` out; later lookups ask the file system.
    pub fn remove(&self, dentry: &Arc<Dentry>) {
        let hash = dentry.hash();
        let mut shard = self.shard(hash).lock();
        let i = shard
            .table
            .find(hash, |&i| {
                matches!(shard.slots.get(i as usize), Some(Some(s)) if Arc::ptr_eq(&s.dentry, dentry))
            })
            .copied();
        let slot = i.and_then(|i| shard.remove(i));
        drop(shard);
        if slot.is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }
    /// Takes out what is cached for `name` in `parent`.
    pub fn forget(&self, parent: &Dentry, name: &[u8]) {
        let hash = hash(parent, name);
        let mut shard = self.shard(hash).lock();
        let i = shard.find(hash, parent.addr(), name);
        let slot = i.and_then(|i| shard.remove(i));
        drop(shard);
        if slot.is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }
    /// Takes out every dentry of a file system (unmounted).
    pub fn remove_instance(&self, instance: u32) {
        self.remove_all(|s| s.dentry.instance() == instance);
    }
    /// Takes out every name in a directory.
    pub fn remove_children(&self, parent: &Dentry) {
        self.remove_all(|s| s.parent == parent.addr());
    }
    fn remove_all(&self, hit: impl Fn(&Slot) -> bool) {
        for shard in &self.shards {
            let mut start = 0;
            loop {
                let mut out = Vec::with_capacity(64);
                {
                    let mut shard = shard.lock();
                    while start < shard.slots.len() && out.len() < 64 {
                        if matches!(&shard.slots[start], Some(s) if hit(s)) {
                            out.extend(shard.remove(start as u32));
                        }
                        start += 1;
                    }
                }
                if out.is_empty() {
                    break;
                }
                self.count.fetch_sub(out.len(), Ordering::Relaxed);
            }
        }
    }
    /// Evicts up to `n` unused dentries. What was used lately goes only if nothing else is left.
    pub fn shrink(&self, n: usize) -> usize {
        let mut freed = 0;
        let mut idle_rounds = 0;
        // A round may only clear bits of recent use, and directories can go
        // after what is in them. Very deep trees take several calls.
        for _ in 0..SHRINK_ROUNDS {
            if freed >= n || idle_rounds == 2 {
                break;
            }
            let before = freed;
            for shard in &self.shards {
                freed += self.shrink_shard(shard, n - freed);
                if freed >= n {
                    break;
                }
            }
            idle_rounds = if freed == before { idle_rounds + 1 } else { 0 };
        }
        freed
    }
    fn shrink_shard(&self, shard: &SpinLock<Shard, { level::DENTRY }>, n: usize) -> usize {
        let mut freed = 0;
        while freed < n {
            let max = (n - freed).min(64);
            let mut out = Vec::with_capacity(max);
            {
                let mut shard = shard.lock();
                let steps = shard.slots.len();
                shard.sweep(steps, max, &mut out);
            }
            let got = out.len();
            self.count.fetch_sub(got, Ordering::Relaxed);
            freed += got;
            drop(out);
            if got < max {
                break;
            }
        }
        freed
    }
}
