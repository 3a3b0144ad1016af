//! Landlock: what of the host a process and its children reach from now on; landlock(7).

use crate::raw::{Result, call3, call6};

/// Rights on files, `LANDLOCK_ACCESS_FS_*`.
pub mod access {
    #![expect(missing_docs)]
    pub const WRITE_FILE: u64 = 1 << 1;
    pub const READ_FILE: u64 = 1 << 2;
    pub const READ_DIR: u64 = 1 << 3;
    pub const REMOVE_DIR: u64 = 1 << 4;
    pub const REMOVE_FILE: u64 = 1 << 5;
    pub const MAKE_DIR: u64 = 1 << 7;
    pub const MAKE_REG: u64 = 1 << 8;
    pub const MAKE_SOCK: u64 = 1 << 9;
    pub const MAKE_FIFO: u64 = 1 << 10;
    pub const MAKE_SYM: u64 = 1 << 12;
    pub const REFER: u64 = 1 << 13;
    pub const TRUNCATE: u64 = 1 << 14;
}

/// What a rule set is about. All that is handled is refused unless a rule allows it.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct Handled {
    /// Rights on files.
    pub fs: u64,
    /// Rights on TCP ports.
    pub net: u64,
    /// What stays within the processes of the set: abstract sockets, signals.
    pub scoped: u64,
}

impl Handled {
    /// All that version `abi` of the interface knows.
    pub fn all(abi: u32) -> Handled {
        let fs_bits = match abi {
            0 => 0,
            1 => 13,
            2 => 14,
            3 | 4 => 15,
            _ => 16,
        };
        Handled {
            fs: (1 << fs_bits) - 1,
            net: if abi >= 4 { 3 } else { 0 },
            scoped: if abi >= 6 { 3 } else { 0 },
        }
    }
    /// Bytes of it that version `abi` knows.
    fn size(abi: u32) -> usize {
        match abi {
            0..=3 => 8,
            4 | 5 => 16,
            _ => 24,
        }
    }
}

/// Version of the interface on this host. `ENOSYS`, `EOPNOTSUPP`: there is none.
pub fn abi() -> Result<u32> {
    const VERSION: usize = 1;
    // SAFETY: asks only.
    Ok(unsafe { call3(libc::SYS_landlock_create_ruleset, 0, 0, VERSION)? } as u32)
}

/// A new rule set: its descriptor.
pub fn create(handled: &Handled, abi: u32) -> Result<i32> {
    // SAFETY: reads that many bytes of the structure.
    let fd = unsafe {
        call3(
            libc::SYS_landlock_create_ruleset,
            core::ptr::from_ref(handled) as usize,
            Handled::size(abi),
            0,
        )?
    };
    Ok(fd as i32)
}

/// Allows `rights` on the file or directory that `object` refers to, and below it.
pub fn allow(set: i32, object: i32, rights: u64) -> Result {
    #[repr(C, packed)]
    struct PathBeneath {
        rights: u64,
        object: i32,
    }
    const PATH_BENEATH: usize = 1;
    let rule = PathBeneath { rights, object };
    let args = [
        set as usize,
        PATH_BENEATH,
        &raw const rule as usize,
        0,
        0,
        0,
    ];
    // SAFETY: reads the structure.
    unsafe { call6(libc::SYS_landlock_add_rule, args)? };
    Ok(())
}

/// Puts the calling thread and its future children under the set.
pub fn restrict_self(set: i32) -> Result {
    // SAFETY: no memory involved.
    unsafe { call3(libc::SYS_landlock_restrict_self, set as usize, 0, 0)? };
    Ok(())
}
