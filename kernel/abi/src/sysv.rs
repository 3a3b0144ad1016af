//! System V IPC, sysvipc(7): structures of shmctl(2), semctl(2), msgctl(2).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! structs {
    ($($(#[$m:meta])* $name:ident { $($f:ident: $t:ty,)* })*) => { $(
        $(#[$m])*
        #[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
        #[repr(C)]
        #[expect(missing_docs)]
        pub struct $name { $(pub $f: $t,)* }
    )* };
}

structs! {
    /// `struct ipc64_perm`.
    IpcPerm { key: i32, uid: u32, gid: u32, cuid: u32, cgid: u32, mode: u32, seq: u16, pad0: u16, pad1: u32, unused: [u64; 2], }
    /// `struct shmid64_ds`.
    ShmidDs { perm: IpcPerm, segsz: u64, atime: i64, dtime: i64, ctime: i64, cpid: i32, lpid: i32, nattch: u64, unused: [u64; 2], }
    /// `struct semid64_ds`.
    SemidDs { perm: IpcPerm, otime: i64, unused0: u64, ctime: i64, unused1: u64, nsems: u64, unused2: [u64; 2], }
    /// `struct msqid64_ds`.
    MsqidDs { perm: IpcPerm, stime: i64, rtime: i64, ctime: i64, cbytes: u64, qnum: u64, qbytes: u64, lspid: i32, lrpid: i32, unused: [u64; 2], }
    /// `struct sembuf`.
    SemBuf { num: u16, op: i16, flags: i16, }
    /// `struct shminfo`.
    ShmInfo { max: u64, min: u64, mni: u64, seg: u64, all: u64, unused: [u64; 4], }
    /// `struct shm_info`.
    ShmUsage { used_ids: i32, pad: i32, total: u64, resident: u64, swapped: u64, attempts: u64, successes: u64, }
    /// `struct seminfo`.
    SemInfo { map: i32, mni: i32, mns: i32, mnu: i32, msl: i32, opm: i32, ume: i32, usz: i32, vmx: i32, aem: i32, }
    /// `struct msginfo`.
    MsgInfo { pool: i32, map: i32, max: i32, mnb: i32, mni: i32, ssz: i32, tql: i32, seg: u32, }
}

const _: () = assert!(
    size_of::<IpcPerm>() == 48
        && size_of::<ShmidDs>() == 112
        && size_of::<SemidDs>() == 104
        && size_of::<MsqidDs>() == 120
        && size_of::<SemBuf>() == 6
);

/// `IPC_CREAT`.
pub const IPC_CREAT: i32 = 0o1000;
/// `IPC_EXCL`.
pub const IPC_EXCL: i32 = 0o2000;
/// `IPC_NOWAIT`.
pub const IPC_NOWAIT: i32 = 0o4000;
/// `IPC_RMID`.
pub const IPC_RMID: i32 = 0;
/// `IPC_SET`.
pub const IPC_SET: i32 = 1;
/// `IPC_STAT`.
pub const IPC_STAT: i32 = 2;
/// `IPC_INFO`.
pub const IPC_INFO: i32 = 3;
