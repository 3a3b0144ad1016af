//! Descriptor tables.

use crate::file::File;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Deref;
use core::sync::atomic::{AtomicU32, Ordering};
use sync::{SpinLock, level};

/// Largest number of descriptors, whatever RLIMIT_NOFILE says (`fs.nr_open`).
pub const NR_OPEN: usize = 1 << 20;

#[derive(Default)]
struct Table {
    files: Vec<Option<Arc<File>>>,
    /// Bit per descriptor: in use.
    used: Vec<u64>,
    /// Bit per descriptor: close on exec.
    cloexec: Vec<u64>,
    /// No free number below this one.
    first_free: usize,
}

impl Table {
    fn get(&self, fd: i32) -> Option<&Arc<File>> {
        self.files.get(usize::try_from(fd).ok()?)?.as_ref()
    }
    /// Words of the bit maps up to the last open file.
    fn words(&self) -> usize {
        self.used.iter().rposition(|w| *w != 0).map_or(0, |i| i + 1)
    }
    /// Capacity for so many words. [`Errno::ENOMEM`].
    fn reserve(&mut self, words: usize) -> Result {
        let more = words.saturating_sub(self.used.len());
        let r = (self.used.try_reserve(more))
            .and_then(|()| self.cloexec.try_reserve(more))
            .and_then(|()| self.files.try_reserve(more * 64));
        r.map_err(|_| Errno::ENOMEM)
    }
    /// Makes room for descriptor `n`. [`Errno::ENOMEM`].
    fn grow(&mut self, n: usize) -> Result {
        if n >= self.files.len() {
            let len = (n + 1).next_multiple_of(64);
            self.reserve(len / 64)?;
            self.files.resize(len, None);
            self.used.resize(len / 64, 0);
            self.cloexec.resize(len / 64, 0);
        }
        Ok(())
    }
    fn lowest_free(&self, min: usize) -> usize {
        let start = min.max(self.first_free);
        let mut word = start / 64;
        let mut mask = !0u64 << (start % 64);
        loop {
            let Some(used) = self.used.get(word) else {
                return start.max(word * 64);
            };
            let free = !used & mask;
            if free != 0 {
                return word * 64 + free.trailing_zeros() as usize;
            }
            word += 1;
            mask = !0;
        }
    }
    fn put(&mut self, n: usize, file: Arc<File>, cloexec: bool) -> Option<Arc<File>> {
        self.used[n / 64] |= 1 << (n % 64);
        self.set_cloexec(n, cloexec);
        self.files[n].replace(file)
    }
    fn set_cloexec(&mut self, n: usize, on: bool) {
        if on {
            self.cloexec[n / 64] |= 1 << (n % 64);
        } else {
            self.cloexec[n / 64] &= !(1 << (n % 64));
        }
    }
    fn take(&mut self, n: usize) -> Option<Arc<File>> {
        let f = self.files.get_mut(n)?.take()?;
        self.used[n / 64] &= !(1 << (n % 64));
        self.set_cloexec(n, false);
        self.first_free = self.first_free.min(n);
        Some(f)
    }
}

/// Open files of a process by number; shared with CLONE_FILES.
///
/// The lock is held only to look at the table; a file taken out is dropped by the caller.
#[derive(Default)]
pub struct FdTable {
    table: SpinLock<Table, { level::INODE }>,
    /// See [`FdUser`].
    users: AtomicU32,
}

/// A task's own reference to the table it uses.
pub struct FdUser(Arc<FdTable>);

impl FdUser {
    /// One more task uses `table`.
    pub fn new(table: Arc<FdTable>) -> FdUser {
        table.users.fetch_add(1, Ordering::Relaxed);
        FdUser(table)
    }
}

impl Drop for FdUser {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, Ordering::Release);
    }
}

impl Deref for FdUser {
    type Target = Arc<FdTable>;
    fn deref(&self) -> &Arc<FdTable> {
        &self.0
    }
}

impl FdTable {
    /// Whether more than one task uses it. Only such a task can make it so.
    #[inline]
    pub fn is_shared(&self) -> bool {
        self.users.load(Ordering::Acquire) > 1
    }
    /// Empty.
    pub fn new() -> Arc<FdTable> {
        Arc::new(FdTable::default())
    }
    /// A copy (fork). [`Errno::ENOMEM`].
    pub fn duplicate(&self) -> Result<Arc<FdTable>> {
        let mut copy = Table::default();
        loop {
            let words = self.table.lock().words();
            copy.reserve(words)?;
            let t = self.table.lock();
            // What lies behind the last open one is not copied.
            let words = t.words();
            if copy.used.capacity() < words {
                continue;
            }
            copy.files.extend(t.files.iter().take(words * 64).cloned());
            copy.used.extend_from_slice(&t.used[..words]);
            copy.cloexec.extend_from_slice(&t.cloexec[..words]);
            copy.first_free = t.first_free.min(words * 64);
            break;
        }
        Ok(Arc::new(FdTable {
            table: SpinLock::new(copy),
            users: AtomicU32::new(0),
        }))
    }
    /// The file behind `fd`. [`Errno::EBADF`]. O_PATH files too.
    #[inline]
    pub fn get(&self, fd: i32) -> Result<Arc<File>> {
        self.table.lock().get(fd).cloned().ok_or(Errno::EBADF)
    }
    /// As [`FdTable::get`] but [`Errno::EBADF`] for O_PATH files.
    #[inline]
    pub fn get_io(&self, fd: i32) -> Result<Arc<File>> {
        self.with_io(fd, Arc::clone)
    }
    /// What `f` makes of the file behind `fd`, with the table locked. Errors as [`FdTable::get_io`].
    #[inline]
    pub fn with_io<T>(&self, fd: i32, f: impl FnOnce(&Arc<File>) -> T) -> Result<T> {
        let t = self.table.lock();
        let file = t.get(fd).ok_or(Errno::EBADF)?;
        if file.flags().contains(crate::OpenFlags::PATH) {
            return Err(Errno::EBADF);
        }
        Ok(f(file))
    }
    /// Whether a number below `limit` is free. [`Errno::EMFILE`]. For calls that do more than to install a file.
    pub fn check_room(&self, limit: u64) -> Result {
        let limit = usize::try_from(limit).unwrap_or(NR_OPEN).min(NR_OPEN);
        if self.table.lock().lowest_free(0) >= limit {
            return Err(Errno::EMFILE);
        }
        Ok(())
    }
    /// Installs at the lowest free number ≥ `min` and < `limit` (RLIMIT_NOFILE). [`Errno::EMFILE`].
    pub fn install(&self, file: Arc<File>, min: i32, limit: u64, cloexec: bool) -> Result<i32> {
        let min = usize::try_from(min).map_err(|_| Errno::EINVAL)?;
        let limit = usize::try_from(limit).unwrap_or(NR_OPEN).min(NR_OPEN);
        let mut t = self.table.lock();
        let n = t.lowest_free(min);
        if n >= limit {
            drop(t);
            drop(file);
            return Err(Errno::EMFILE);
        }
        if let Err(e) = t.grow(n) {
            drop(t);
            drop(file);
            return Err(e);
        }
        if min <= t.first_free {
            t.first_free = n + 1;
        }
        let old = t.put(n, file, cloexec);
        drop(t);
        debug_assert!(old.is_none());
        Ok(n as i32)
    }
    /// dup2: installs at exactly `fd`; returns what was there (the caller closes it with [`close_file`]). [`Errno::EBADF`].
    pub fn install_at(
        &self,
        file: Arc<File>,
        fd: i32,
        limit: u64,
        cloexec: bool,
    ) -> Result<Option<Arc<File>>> {
        let n = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        if n as u64 >= limit || n >= NR_OPEN {
            return Err(Errno::EBADF);
        }
        let mut t = self.table.lock();
        if let Err(e) = t.grow(n) {
            drop(t);
            drop(file);
            return Err(e);
        }
        Ok(t.put(n, file, cloexec))
    }
    /// Takes it out. [`Errno::EBADF`]. The caller then calls [`close_file`].
    pub fn remove(&self, fd: i32) -> Result<Arc<File>> {
        let n = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        let f = self.table.lock().take(n);
        f.ok_or(Errno::EBADF)
    }
    /// close-on-exec flag.
    pub fn cloexec(&self, fd: i32) -> Result<bool> {
        let t = self.table.lock();
        t.get(fd).ok_or(Errno::EBADF)?;
        let n = fd as usize;
        Ok(t.cloexec[n / 64] >> (n % 64) & 1 != 0)
    }
    /// Sets it.
    pub fn set_cloexec(&self, fd: i32, on: bool) -> Result {
        let mut t = self.table.lock();
        t.get(fd).ok_or(Errno::EBADF)?;
        t.set_cloexec(fd as usize, on);
        Ok(())
    }
    /// Closes one after another; takes no memory, of which there may be none.
    fn close_where(&self, owner: usize, which: impl Fn(&Table, usize) -> u64) {
        let mut word = 0;
        loop {
            let mut t = self.table.lock();
            let bits = loop {
                if word >= t.used.len() {
                    return;
                }
                let bits = which(&t, word);
                if bits != 0 {
                    break bits;
                }
                word += 1;
            };
            let gone = t.take(word * 64 + bits.trailing_zeros() as usize);
            drop(t);
            if let Some(f) = gone {
                close_file(f, owner);
            }
        }
    }
    /// Closes all with close-on-exec (exec), for a table of `owner`.
    pub fn close_cloexec(&self, owner: usize) {
        self.close_where(owner, |t, w| t.used[w] & t.cloexec[w]);
    }
    /// Closes everything (exit).
    pub fn close_all(&self, owner: usize) {
        self.close_where(owner, |t, w| t.used[w]);
    }
    /// How many are open.
    pub fn len(&self) -> usize {
        let t = self.table.lock();
        t.used.iter().map(|w| w.count_ones() as usize).sum()
    }
    /// The lowest open number from `min` on.
    pub fn next_open(&self, min: i32) -> Option<i32> {
        let min = usize::try_from(min).ok()?;
        let t = self.table.lock();
        let mut word = min / 64;
        let mut mask = !0u64 << (min % 64);
        while let Some(used) = t.used.get(word) {
            let open = used & mask;
            if open != 0 {
                return Some((word * 64) as i32 + open.trailing_zeros() as i32);
            }
            word += 1;
            mask = !0;
        }
        None
    }
    /// One more than the highest open number.
    pub fn end(&self) -> usize {
        let t = self.table.lock();
        let last = t.used.iter().rposition(|w| *w != 0);
        last.map_or(0, |w| (w + 1) * 64 - t.used[w].leading_zeros() as usize)
    }
    /// Whether nothing is open.
    pub fn is_empty(&self) -> bool {
        self.table.lock().used.iter().all(|w| *w == 0)
    }
}

impl Drop for FdTable {
    /// The last user is gone: closes what is open.
    fn drop(&mut self) {
        let owner = core::ptr::from_ref(self).addr();
        self.close_all(owner);
    }
}

/// What close(2) does with a file taken out of a table: drops the POSIX locks of `owner` (the table's process), flushes.
pub fn close_file(file: Arc<File>, owner: usize) {
    if !file.flags().contains(crate::OpenFlags::PATH) {
        crate::locks::release_posix(&file, owner);
        file.ops.flush(&file);
    }
}
