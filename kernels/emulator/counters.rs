//! What a launch did, counted without a clock.
//!
//! The accesses of a warp's lanes are put together into requests as a load-store unit does. Of
//! each request are counted the 32-byte sectors of global memory that it touches and its passes
//! over the 32 banks of shared memory, next to the least number that would do.

use std::fmt;
use std::ops::AddAssign;

/// Numbers of a launch, or of one instruction in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Traffic {
    /// Requests, each of a warp.
    pub requests: u64,
    /// Distinct bytes of each request, summed up.
    pub bytes: u64,
    /// Sectors of 32 bytes that each request touched, summed up.
    pub sectors: u64,
    /// Sectors that would hold the same bytes.
    pub least_sectors: u64,
    /// Passes over the banks of shared memory.
    pub wavefronts: u64,
    /// Passes that would do without bank conflicts.
    pub least_wavefronts: u64,
}

impl Traffic {
    /// The share of the moved sectors' bytes that was asked for, from 0 to 1.
    pub fn coalescing(&self) -> f64 {
        ratio(self.least_sectors, self.sectors)
    }

    /// The share of the passes over the banks that would do without conflicts, from 0 to 1.
    pub fn bank_efficiency(&self) -> f64 {
        ratio(self.least_wavefronts, self.wavefronts)
    }
}

fn ratio(least: u64, found: u64) -> f64 {
    if found == 0 {
        return 1.0;
    }
    least as f64 / found as f64
}

/// Widths of a lane's access that are counted apart: 1, 2, 4, 8 and 16 bytes.
pub const N_WIDTHS: usize = 5;

/// Numbers of a whole launch. Instructions are those of a warp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Totals {
    /// Loads from global memory by width, those of asynchronous copies not among them.
    pub global_loads: [u64; N_WIDTHS],
    /// Stores to global memory by width.
    pub global_stores: [u64; N_WIDTHS],
    /// Loads from shared memory by width, ldmatrix not among them.
    pub shared_loads: [u64; N_WIDTHS],
    /// Stores to shared memory by width.
    pub shared_stores: [u64; N_WIDTHS],
    /// Atomic operations.
    pub atomics: u64,
    /// Asynchronous copies.
    pub async_copies: u64,
    /// Matrix multiplications (mma).
    pub mma: u64,
    /// Matrix loads (ldmatrix).
    pub ldmatrix: u64,
    /// Shuffles, votes and reductions.
    pub exchanges: u64,
    /// A warp's arrivals at a barrier.
    pub barriers: u64,
    /// Bytes read from memory because the second-level cache did not hold them.
    pub memory_read: u64,
    /// Bytes that the second-level cache wrote back to memory.
    pub memory_written: u64,
    /// Reads of global memory, asynchronous copies among them.
    pub read: Traffic,
    /// Writes to global memory, atomic operations among them.
    pub written: Traffic,
    /// Accesses to shared memory.
    pub shared: Traffic,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.bytes += other.bytes;
        self.sectors += other.sectors;
        self.least_sectors += other.least_sectors;
        self.wavefronts += other.wavefronts;
        self.least_wavefronts += other.least_wavefronts;
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        for width in 0..N_WIDTHS {
            self.global_loads[width] += other.global_loads[width];
            self.global_stores[width] += other.global_stores[width];
            self.shared_loads[width] += other.shared_loads[width];
            self.shared_stores[width] += other.shared_stores[width];
        }
        self.atomics += other.atomics;
        self.async_copies += other.async_copies;
        self.mma += other.mma;
        self.ldmatrix += other.ldmatrix;
        self.exchanges += other.exchanges;
        self.barriers += other.barriers;
        self.memory_read += other.memory_read;
        self.memory_written += other.memory_written;
        self.read += other.read;
        self.written += other.written;
        self.shared += other.shared;
    }
}

/// What an instruction does with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// A load.
    Load,
    /// A store.
    Store,
    /// An atomic operation.
    Atomic,
    /// The reading side of an asynchronous copy.
    CopyLoad,
    /// The writing side of an asynchronous copy.
    CopyStore,
    /// An ldmatrix.
    MatrixLoad,
}

impl Access {
    const ALL: [Self; 6] = [
        Self::Load,
        Self::Store,
        Self::Atomic,
        Self::CopyLoad,
        Self::CopyStore,
        Self::MatrixLoad,
    ];
}

/// One instruction of a kernel and its share of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteCounters {
    /// Where it is in the emulated device's library, for [`Emulator::locate`](crate::Emulator::locate).
    pub offset: u64,
    /// What it does.
    pub access: Access,
    /// Whether it does it in shared memory.
    pub shared: bool,
    /// Bytes of a lane.
    pub width: u32,
    /// Its traffic.
    pub traffic: Traffic,
}

/// One launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchCounters {
    /// The kernel's name.
    pub kernel: String,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block in bytes.
    pub shared_bytes: u32,
    /// Of the whole launch.
    pub totals: Totals,
    /// Of each instruction that reached memory.
    pub sites: Vec<SiteCounters>,
}

impl LaunchCounters {
    /// The instruction on global memory that coalesces worst.
    pub fn worst_coalesced(&self) -> Option<&SiteCounters> {
        self.worst(false, Traffic::coalescing)
    }

    /// The instruction on shared memory with the most bank conflicts.
    pub fn worst_in_banks(&self) -> Option<&SiteCounters> {
        self.worst(true, Traffic::bank_efficiency)
    }

    fn worst(&self, shared: bool, measure: fn(&Traffic) -> f64) -> Option<&SiteCounters> {
        let sites = self.sites.iter().filter(|site| site.shared == shared);
        sites.min_by(|a, b| measure(&a.traffic).total_cmp(&measure(&b.traffic)))
    }
}

/// One line: what a reader of a test's output compares.
impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory {}/{} B", self.memory_read, self.memory_written)?;
        write!(
            f,
            ", requested {}/{} B",
            self.read.bytes, self.written.bytes
        )?;
        let coalescing = [self.read, self.written].map(|traffic| 100.0 * traffic.coalescing());
        write!(f, ", coalesced {:.1}/{:.1} %", coalescing[0], coalescing[1])?;
        write!(f, ", banks {:.1} %", 100.0 * self.shared.bank_efficiency())?;
        write!(
            f,
            ", loads {:?}, stores {:?}",
            self.global_loads, self.global_stores
        )?;
        write!(
            f,
            ", shared {:?}/{:?}",
            self.shared_loads, self.shared_stores
        )?;
        write!(
            f,
            ", cp.async {}, ldmatrix {}",
            self.async_copies, self.ldmatrix
        )?;
        write!(f, ", mma {}, exchanges {}", self.mma, self.exchanges)?;
        write!(f, ", barriers {}, atomics {}", self.barriers, self.atomics)
    }
}

/// As `driver/control.cpp` writes a launch.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct LaunchRecord {
    kernel: [u8; 128],
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    n_sites: u32,
    totals: Totals,
}

/// As `machine/counters.h` lays out an instruction.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct SiteRecord {
    offset: u64,
    access: u32,
    shared: u32,
    width: u32,
    padding: u32,
    traffic: Traffic,
}

/// `emulator_take_counters`: fills the launch and its sites, if there is a launch; takes it away
/// if it was given room for sites.
pub(crate) type TakeCounters = unsafe extern "C" fn(*mut LaunchRecord, *mut SiteRecord) -> i32;

/// The oldest launch that was not taken yet.
pub(crate) fn take(take_counters: TakeCounters) -> Option<LaunchCounters> {
    let mut record = LaunchRecord {
        kernel: [0; 128],
        grid: [0; 3],
        block: [0; 3],
        shared_bytes: 0,
        n_sites: 0,
        totals: Totals::default(),
    };
    // SAFETY: the record is the function's own layout, and no sites are asked for.
    if unsafe { take_counters(&raw mut record, std::ptr::null_mut()) } == 0 {
        return None;
    }
    let mut sites = Vec::<SiteRecord>::with_capacity(record.n_sites as usize + 1);
    // SAFETY: the session is this thread's, so the same launch is still first, and it writes as
    // many sites as it said.
    unsafe {
        take_counters(&raw mut record, sites.as_mut_ptr());
        sites.set_len(record.n_sites as usize);
    }
    let length = record.kernel.iter().position(|&byte| byte == 0);
    let name = &record.kernel[..length.unwrap_or(record.kernel.len())];
    Some(LaunchCounters {
        kernel: String::from_utf8_lossy(name).into_owned(),
        grid: record.grid,
        block: record.block,
        shared_bytes: record.shared_bytes,
        totals: record.totals,
        sites: sites.iter().map(site).collect(),
    })
}

fn site(record: &SiteRecord) -> SiteCounters {
    SiteCounters {
        offset: record.offset,
        access: Access::ALL[record.access as usize],
        shared: record.shared != 0,
        width: record.width,
        traffic: record.traffic,
    }
}
