//! [`Mutex`] and [`RwLock`]: sleeping locks.

use crate::base::atomic::{AtomicU32, Ordering};
use crate::{WaitQueue, alone};
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

const WRITER: u32 = 1 << 31;

/// Many readers or one writer; waiting gives up the vCPU. Not interruptible.
/// Must not be taken with a spin lock held.
pub struct RwLock<T: ?Sized> {
    state: AtomicU32,
    queue: WaitQueue,
    data: UnsafeCell<T>,
}

// SAFETY: references are handed out by the rules of readers and writers.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

impl<T> RwLock<T> {
    constructor! {
    /// A free lock around `data`.
    pub fn new(data: T) -> Self {
        RwLock {
            state: AtomicU32::new(0),
            queue: WaitQueue::new(),
            data: UnsafeCell::new(data),
        }
    }
    }
    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Shared access.
    pub fn read(&self) -> ReadGuard<'_, T> {
        if !self.try_read_raw() {
            self.queue
                .wait_uninterruptible(|| self.try_read_raw().then_some(()));
        }
        ReadGuard { lock: self }
    }
    /// Exclusive access.
    pub fn write(&self) -> WriteGuard<'_, T> {
        if !self.try_write_raw() {
            self.queue
                .wait_uninterruptible(|| self.try_write_raw().then_some(()));
        }
        WriteGuard { lock: self }
    }
    /// Shared access if it is to be had at once.
    pub fn try_read(&self) -> Option<ReadGuard<'_, T>> {
        self.try_read_raw().then(|| ReadGuard { lock: self })
    }
    /// Exclusive access if it is to be had at once.
    pub fn try_write(&self) -> Option<WriteGuard<'_, T>> {
        self.try_write_raw().then(|| WriteGuard { lock: self })
    }
    fn try_read_raw(&self) -> bool {
        let s = self.state.load(Ordering::Relaxed);
        s & WRITER == 0 && (alone::replace(&self.state, s, s + 1) || self.try_read_contended())
    }
    fn try_read_contended(&self) -> bool {
        self.state
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |s| {
                (s & WRITER == 0).then_some(s + 1)
            })
            .is_ok()
    }
    fn try_write_raw(&self) -> bool {
        alone::replace(&self.state, 0, WRITER)
    }
    /// The value, without locking, from the only owner.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// Shared access to the value of a [`RwLock`].
pub struct ReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
}

impl<T: ?Sized> Deref for ReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: a reader is counted in the state, so no writer exists.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        // Wake-up proof: waiters are queued before they test the state; the
        // queue's wake orders this store before its look at the list.
        if alone::decrement(&self.lock.state) == 1 {
            self.lock.queue.wake_all();
        }
    }
}

/// Exclusive access to the value of a [`RwLock`].
pub struct WriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
}

impl<T: ?Sized> Deref for WriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the writer bit is ours.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the writer bit is ours.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T: ?Sized> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.state.store(0, Ordering::Release);
        self.lock.queue.wake_all();
    }
}

/// One owner at a time; waiting gives up the vCPU. Not interruptible. Must not
/// be taken with a spin lock held.
pub struct Mutex<T: ?Sized>(RwLock<T>);

/// Access to the value of a [`Mutex`].
pub type MutexGuard<'a, T> = WriteGuard<'a, T>;

impl<T> Mutex<T> {
    constructor! {
    /// A free lock around `data`.
    pub fn new(data: T) -> Self {
        Mutex(RwLock::new(data))
    }
    }
    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.write()
    }
    /// The lock if it is free.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_write()
    }
    /// The value, without locking, from the only owner.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}
