//! Credentials, credentials(7), and permission checks, path_resolution(7).

use alloc::vec::Vec;

bitflags::bitflags! {
    /// What is asked of a file.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Access: u32 {
        /// Execute, or search a directory.
        const EXEC = 1;
        /// Write.
        const WRITE = 2;
        /// Read.
        const READ = 4;
    }
}

/// Capabilities, capabilities(7), as a 64-bit set; bit n is capability n.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CapSet(pub u64);

/// Numbers of the capabilities that the kernel asks for.
#[expect(missing_docs)]
pub mod cap {
    pub const CHOWN: u32 = 0;
    pub const DAC_OVERRIDE: u32 = 1;
    pub const DAC_READ_SEARCH: u32 = 2;
    pub const FOWNER: u32 = 3;
    pub const FSETID: u32 = 4;
    pub const KILL: u32 = 5;
    pub const SETGID: u32 = 6;
    pub const SETUID: u32 = 7;
    pub const SETPCAP: u32 = 8;
    pub const NET_BIND_SERVICE: u32 = 10;
    pub const IPC_LOCK: u32 = 14;
    pub const SYS_CHROOT: u32 = 18;
    pub const SYS_PTRACE: u32 = 19;
    pub const SYS_ADMIN: u32 = 21;
    pub const SYS_BOOT: u32 = 22;
    pub const SYS_NICE: u32 = 23;
    pub const SYS_RESOURCE: u32 = 24;
    pub const SYS_TIME: u32 = 25;
    pub const SYS_TTY_CONFIG: u32 = 26;
    pub const MKNOD: u32 = 27;
    pub const LAST: u32 = 40;
}

impl CapSet {
    /// All capabilities.
    pub const FULL: CapSet = CapSet((1 << (cap::LAST + 1)) - 1);
    /// Whether capability `n` is in the set.
    pub fn has(self, n: u32) -> bool {
        self.0 >> n & 1 != 0
    }
}

/// Credentials of a task. Immutable; changes replace the `Arc`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs)]
pub struct Cred {
    pub uid: u32,
    pub euid: u32,
    pub suid: u32,
    pub fsuid: u32,
    pub gid: u32,
    pub egid: u32,
    pub sgid: u32,
    pub fsgid: u32,
    pub groups: Vec<u32>,
    pub effective: CapSet,
    pub permitted: CapSet,
    pub inheritable: CapSet,
    pub bounding: CapSet,
    pub ambient: CapSet,
    pub securebits: u32,
    pub no_new_privs: bool,
}

impl Cred {
    /// root with everything.
    pub fn root() -> Cred {
        Cred {
            uid: 0,
            euid: 0,
            suid: 0,
            fsuid: 0,
            gid: 0,
            egid: 0,
            sgid: 0,
            fsgid: 0,
            groups: Vec::new(),
            effective: CapSet::FULL,
            permitted: CapSet::FULL,
            inheritable: CapSet(0),
            bounding: CapSet::FULL,
            ambient: CapSet(0),
            securebits: 0,
            no_new_privs: false,
        }
    }
    /// Whether the effective set has capability `n`.
    pub fn capable(&self, n: u32) -> bool {
        self.effective.has(n)
    }
    /// Whether `gid` is the file-system group or a supplementary group.
    pub fn in_group(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.contains(&gid)
    }
}

/// What a permission check needs to know of an inode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Perm {
    /// Type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Perm {
    /// Whether it is a directory.
    pub fn is_dir(self) -> bool {
        self.mode >> 12 & 0xf == 4
    }
}

impl Cred {
    /// Checks `want` against owner, group and others, then capabilities: [`abi::Errno::EACCES`].
    pub fn check(&self, p: Perm, want: Access) -> abi::Result {
        let shift = if self.fsuid == p.uid {
            6
        } else if self.in_group(p.gid) {
            3
        } else {
            0
        };
        let have = p.mode >> shift & 7;
        if want.bits() & !have == 0 {
            return Ok(());
        }
        if p.is_dir() {
            if !want.contains(Access::WRITE) && self.capable(cap::DAC_READ_SEARCH) {
                return Ok(());
            }
            if self.capable(cap::DAC_OVERRIDE) {
                return Ok(());
            }
        } else {
            if want == Access::READ && self.capable(cap::DAC_READ_SEARCH) {
                return Ok(());
            }
            // Execution needs at least one execute bit, whoever asks.
            if (!want.contains(Access::EXEC) || p.mode & 0o111 != 0)
                && self.capable(cap::DAC_OVERRIDE)
            {
                return Ok(());
            }
        }
        Err(abi::Errno::EACCES)
    }
    /// Whether this is the owner or may act as one (CAP_FOWNER).
    pub fn owns(&self, p: Perm) -> bool {
        self.fsuid == p.uid || self.capable(cap::FOWNER)
    }
    /// The credentials that access(2) checks with: real ids, and the capabilities that go with them.
    pub fn with_real_ids(&self) -> Cred {
        const NO_SETUID_FIXUP: u32 = 4;
        let mut c = self.clone();
        c.fsuid = c.uid;
        c.fsgid = c.gid;
        if c.securebits & NO_SETUID_FIXUP == 0 {
            c.effective = if c.uid == 0 { c.permitted } else { CapSet(0) };
        }
        c
    }
}

/// Owner, group and mode of a new inode in a directory with `dir`'s attributes:
/// a set-group-ID directory passes on its group, and the bit to directories.
/// `mode` holds permission bits.
pub fn new_owner(dir: Perm, cred: &Cred, mode: u32, is_dir: bool) -> (u32, u32, u32) {
    let mut mode = mode & 0o7777;
    let mut gid = cred.fsgid;
    if dir.mode & 0o2000 != 0 {
        gid = dir.gid;
        if is_dir {
            mode |= 0o2000;
        } else if mode & 0o2010 == 0o2010 && !cred.in_group(gid) && !cred.capable(cap::FSETID) {
            mode &= !0o2000;
        }
    }
    (cred.fsuid, gid, mode)
}
