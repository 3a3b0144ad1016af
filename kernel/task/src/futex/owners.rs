//! Who owns the PI words that somebody waits for, and what follows from it:
//! boosts, circles, heirs.
//!
//! A word gets a [`PiState`] when the first task waits for its ownership, and
//! loses it with the last one. While it has one, the state says who owns the word;
//! the word itself follows.
//!
//! # Lock order
//! One lock for all of them, [`level::PI`], inside a bucket's and outside those of
//! signals, run queues and page tables. So the graph of who waits for whom stands
//! still while it is walked, and no walk takes a lock a second time. It is a
//! forest: every task waits for one word at most, every word has one owner, and
//! [`PiTable::block`] refuses the edge that would close a circle; a hand-over gives
//! the word to a task that waits for nothing any more.
//!
//! # Wake-ups
//! A waiter is in a state's list, or its flag `woken` is set; both change under
//! the lock. Who gives up (a signal, a timeout) takes the lock and looks at the
//! flag: either it is still in the list and leaves it, or it owns the word. So no
//! ownership is given to somebody who has gone. [`Waiter::finish`] stores the flag,
//! then looks at the task's announced state; the waiter announces it, then looks
//! at the flag: one of the two sees the other.
//!
//! # Boosts
//! A task runs with the highest of its own priority and those of the waiters of
//! its words; a boosted waiter counts with its boost ([`PiTable::boost`]).

use super::{Key, Waiter};
use crate::task::flag;
use crate::{Task, level, sched};
use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use sync::SpinLock;

/// Longest chain of owners that wait for owners; a longer one counts as a circle.
const DEPTH_MAX: usize = 1024;

/// The ownership of a word for which tasks wait.
pub(super) struct PiState {
    pub(super) owner: Arc<Task>,
    /// The highest priority first, equal ones in order of arrival.
    waiters: Vec<(i32, Arc<Waiter>)>,
    /// The former owner died: the new one has still to write the word, in its own
    /// address space. Until then the word says anything.
    pub(super) inherited: bool,
}

impl PiState {
    /// Who gets the word next.
    pub(super) fn next(&self) -> Option<&Arc<Waiter>> {
        self.waiters.first().map(|w| &w.1)
    }
    fn insert(&mut self, waiter: Arc<Waiter>) {
        let p = sched::effective_priority(&waiter.task);
        let at = self.waiters.partition_point(|w| w.0 >= p);
        self.waiters.insert(at, (p, waiter));
    }
    /// Moves a waiter to where its priority belongs, behind its equals if that has changed.
    fn reposition(&mut self, task: &Task) {
        let p = sched::effective_priority(task);
        let at = self.waiters.iter().position(|w| is(&w.1.task, task));
        if let Some(at) = at
            && self.waiters.get(at).is_some_and(|w| w.0 != p)
        {
            let (_, w) = self.waiters.remove(at);
            self.insert(w);
        }
    }
}

/// Under the lock of [`Owners`].
#[derive(Default)]
pub(super) struct PiTable {
    states: BTreeMap<Key, PiState>,
    /// The word that a task (by its address) waits for.
    blocked: BTreeMap<usize, Key>,
    /// The words with waiters that a task owns.
    owned: BTreeMap<usize, Vec<Key>>,
}

/// All contended PI words of a machine.
#[derive(Default)]
pub(super) struct Owners {
    table: SpinLock<PiTable, { level::PI }>,
    /// Number of states, for those who only want to know that there is none.
    count: AtomicUsize,
}

impl Owners {
    /// Does something with the table.
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut PiTable) -> T) -> T {
        let mut t = self.table.lock();
        let r = f(&mut t);
        self.count.store(t.states.len(), Ordering::SeqCst);
        r
    }
    /// Whether somebody waits for the ownership of this word.
    pub(super) fn contended(&self, key: Key) -> bool {
        self.count.load(Ordering::SeqCst) != 0 && self.table.lock().states.contains_key(&key)
    }
}

fn is(a: &Task, b: &Task) -> bool {
    core::ptr::eq(a, b)
}

fn id(t: &Task) -> usize {
    core::ptr::from_ref(t).addr()
}

impl PiTable {
    pub(super) fn state(&self, key: Key) -> Option<&PiState> {
        self.states.get(&key)
    }

    /// Lets `waiter` wait for the word that `owner` owns. [`Errno::EDEADLK`] if the owner,
    /// directly or through others, waits for the waiter.
    pub(super) fn block(&mut self, key: Key, owner: Arc<Task>, waiter: Arc<Waiter>) -> Result {
        let mut at = &owner;
        let mut depth = 0;
        loop {
            if is(at, &waiter.task) || depth == DEPTH_MAX {
                return Err(Errno::EDEADLK);
            }
            match self.blocked.get(&id(at)).and_then(|k| self.states.get(k)) {
                Some(s) => at = &s.owner,
                None => break,
            }
            depth += 1;
        }
        self.blocked.insert(id(&waiter.task), key);
        let owned = &mut self.owned;
        let s = self.states.entry(key).or_insert_with(|| {
            owned.entry(id(&owner)).or_default().push(key);
            PiState {
                owner: owner.clone(),
                waiters: Vec::new(),
                inherited: false,
            }
        });
        s.insert(waiter);
        self.boost(owner);
        Ok(())
    }

    /// Takes out a waiter that gives up and has not been given the word.
    pub(super) fn unblock(&mut self, key: Key, waiter: &Arc<Waiter>) {
        self.blocked.remove(&id(&waiter.task));
        let Some(s) = self.states.get_mut(&key) else {
            return;
        };
        s.waiters.retain(|w| !Arc::ptr_eq(&w.1, waiter));
        let owner = s.owner.clone();
        self.tidy(key);
        self.boost(owner);
    }

    /// Gives the word to its next waiter, wakes it and says whether there was one.
    /// `died`: the owner ends, and its heir has to write the word.
    pub(super) fn hand_over(&mut self, key: Key, died: bool) -> bool {
        let Some(s) = self.states.get_mut(&key) else {
            return false;
        };
        if s.waiters.is_empty() {
            s.inherited = false;
            self.tidy(key);
            return false;
        }
        let (_, heir) = s.waiters.remove(0);
        let old = core::mem::replace(&mut s.owner, heir.task.clone());
        s.inherited = died;
        self.disown(&old, key);
        self.owned.entry(id(&heir.task)).or_default().push(key);
        self.blocked.remove(&id(&heir.task));
        self.tidy(key);
        // First the boost that the others give it, so that it runs with it at once.
        self.boost(heir.task.clone());
        if died {
            heir.inherits.store(true, Ordering::Relaxed);
        }
        heir.finish();
        self.boost(old);
        true
    }

    /// The heir has written the word.
    pub(super) fn settle(&mut self, key: Key) {
        if let Some(s) = self.states.get_mut(&key) {
            s.inherited = false;
            self.tidy(key);
        }
    }

    /// The end of a task, or of its program: each of its words goes to the next waiter. `ends`:
    /// nobody may wait for this task from now on.
    pub(super) fn release(&mut self, task: &Task, ends: bool) {
        if ends {
            task.set_flag(flag::FUTEX_DEAD);
        }
        while let Some(key) = self.owned.get(&id(task)).and_then(|k| k.first().copied()) {
            self.hand_over(key, true);
        }
    }

    /// The priority of a task has been changed.
    pub(super) fn priority_changed(&mut self, task: &Task) {
        if let Some(s) = (self.blocked.get(&id(task))).and_then(|k| self.states.get_mut(k)) {
            s.reposition(task);
            let owner = s.owner.clone();
            self.boost(owner);
        }
    }

    /// Computes the boost of `task` anew, and of those whom it waits for in turn, as far as
    /// something changes. Ends: the way leads along the forest, towards its root.
    fn boost(&mut self, mut task: Arc<Task>) {
        loop {
            let keys = self.owned.get(&id(&task)).map_or(&[][..], |k| k);
            let first = |k: &Key| self.states.get(k)?.waiters.first().map(|w| w.0);
            let boost = keys.iter().filter_map(first).max().unwrap_or(0);
            if !sched::set_boost(&task, boost) {
                return;
            }
            let waits_for = self.blocked.get(&id(&task)).copied();
            let Some(s) = waits_for.and_then(|k| self.states.get_mut(&k)) else {
                return;
            };
            s.reposition(&task);
            task = s.owner.clone();
        }
    }

    /// Forgets the state of a word that nobody waits for.
    fn tidy(&mut self, key: Key) {
        if let Some(s) = self.states.get(&key)
            && s.waiters.is_empty()
            && !s.inherited
        {
            let owner = s.owner.clone();
            self.states.remove(&key);
            self.disown(&owner, key);
        }
    }

    fn disown(&mut self, owner: &Task, key: Key) {
        if let Some(keys) = self.owned.get_mut(&id(owner)) {
            keys.retain(|k| *k != key);
            if keys.is_empty() {
                self.owned.remove(&id(owner));
            }
        }
    }
}
