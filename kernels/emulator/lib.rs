//! The emulated device: the CUDA kernels of `onward-kernels`, compiled for the host and run
//! there, behind a stand-in for the CUDA driver.
//!
//! The library that the build makes exports the driver's functions. [`Emulator::install`] loads
//! it under the driver's name before anything else asks for the driver, so that the program's
//! real CUDA path runs on it: modules, streams, copies, launches, graphs.
//!
//! - `machine/` runs a block: a fiber for each thread, and the points where threads wait.
//! - `shadow/` has twins of `device/{kernel,ptx,memory}.cuh` that come before the originals, and
//!   CUDA's functions for a host compiler.
//! - `driver/` stands for the driver. Work is done when something waits for it, not before.
//!
//! What a real device does in an order of its own choosing has more than one order here
//! ([`Order`], [`Copies`]): a kernel that is right in all of them has its barriers and waits.

mod counters;
mod environment;
mod launch;
mod library;

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

pub use counters::{Access, LaunchCounters, N_WIDTHS, SiteCounters, Totals, Traffic};
pub use environment::VARIABLE;
use environment::Wishes;
pub use launch::{Launch, Memory};
use library::{Functions, is_loaded};

/// How the emulated device is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Build {
    /// As fast as it gets.
    Optimised,
    /// Counts what launches do, and faults at accesses outside of allocations and at races in
    /// shared memory.
    Counted,
    /// With the address and undefined-behaviour sanitizers. Only for a process that was started
    /// by [`sanitised`].
    Sanitised,
}

impl Build {
    fn path(self) -> PathBuf {
        PathBuf::from(match self {
            Self::Optimised => env!("EMULATOR_OPTIMISED"),
            Self::Counted => env!("EMULATOR_COUNTED"),
            Self::Sanitised => env!("EMULATOR_SANITISED"),
        })
    }

    fn faults_path(self) -> PathBuf {
        PathBuf::from(match self {
            Self::Optimised => env!("EMULATOR_FAULTS_OPTIMISED"),
            Self::Counted => env!("EMULATOR_FAULTS_COUNTED"),
            Self::Sanitised => env!("EMULATOR_FAULTS_SANITISED"),
        })
    }
}

/// Makes a command's process fit for [`Build::Sanitised`]; false where the compiler has no
/// sanitizers.
pub fn sanitised(command: &mut Command) -> bool {
    let Some(library) = library::sanitizer() else {
        return false;
    };
    command.env("LD_PRELOAD", library);
    command.env("ASAN_OPTIONS", "detect_leaks=0");
    command.env("UBSAN_OPTIONS", "print_stacktrace=1");
    true
}

/// Which thread of a block, which block of a grid and which stream goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// The first.
    Forward,
    /// The last.
    Reverse,
    /// Threads at random, the same ones in every run.
    Random,
}

/// When an asynchronous copy into shared memory lands; a real one lands at any time between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Copies {
    /// As soon as it is issued.
    Eager,
    /// When it is waited for.
    Lazy,
}

/// Every way to run a kernel.
pub const SCHEDULES: [(Order, Copies); 6] = [
    (Order::Forward, Copies::Lazy),
    (Order::Forward, Copies::Eager),
    (Order::Reverse, Copies::Lazy),
    (Order::Reverse, Copies::Eager),
    (Order::Random, Copies::Lazy),
    (Order::Random, Copies::Eager),
];

/// Why the emulated device cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmulatorError {
    /// The library does not load.
    #[error("the emulated device {} does not load: {source}", path.display())]
    Load {
        /// The library.
        path: PathBuf,
        /// What the system says.
        source: libloading::Error,
    },
    /// The environment asks for something that there is not.
    #[error("{VARIABLE} says {word}, which is no fault or property of the emulated device")]
    Unknown {
        /// What it says.
        word: String,
    },
    /// This process runs on another driver already.
    #[error("the process has loaded another CUDA driver than {}", path.display())]
    OtherDriver {
        /// The library that was to be loaded.
        path: PathBuf,
    },
}

/// An emulated device: the one that this process runs on, or one with kernels of its own.
#[derive(Clone, Debug)]
pub struct Emulator {
    path: PathBuf,
    functions: Functions,
}

/// What can be made to fail, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// An allocation of device memory, for want of it.
    Allocation,
    /// An allocation of pinned memory of the host, for want of it.
    PinnedAllocation,
    /// A launch, when it is asked for; every call after it fails too.
    Launch,
    /// A launch, alone or in a graph, when its turn comes; every call after it fails too.
    Trap,
    /// A launch or a graph, which never ends: who asks hears that it is not ready, and who waits
    /// waits for ever.
    Hang,
    /// The end of a capture.
    Capture,
    /// The end of a capture, for want of memory.
    CaptureMemory,
    /// Making a graph ready to run, for want of memory.
    Instantiation,
    /// Making a condition for nodes of a graph, as of a driver without.
    Condition,
}

/// Calls of the driver by what they cost a program.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Launches of kernels, those that were captured too.
    pub launches: u64,
    /// Launches of graphs.
    pub graph_launches: u64,
    /// Rounds of loops in graphs, which the device goes by itself.
    pub rounds: u64,
    /// Waits until the device has done something.
    pub waits: u64,
    /// Allocations of the device's memory and of pinned memory.
    pub allocations: u64,
}

/// What the device says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Properties {
    /// Compute capability, `(major, minor)`.
    pub capability: (u8, u8),
    /// The newest CUDA that the driver supports, `(major, minor)`.
    pub driver: (u8, u8),
    /// Memory in bytes.
    pub memory: usize,
    /// Whether the device works again once every context on it is gone in which a kernel failed.
    pub resets: bool,
}

impl Default for Properties {
    fn default() -> Self {
        Self {
            capability: (8, 0),
            driver: (13, 0),
            memory: 8 << 30,
            resets: true,
        }
    }
}

impl Emulator {
    /// Puts the emulated device in the driver's place, for the rest of the process. Must come
    /// before anything else asks for a driver; asking again for the same build is no error.
    ///
    /// # Errors
    ///
    /// A library that does not load, another driver or build that was loaded before it, or an
    /// environment ([`VARIABLE`]) that asks for what there is not.
    pub fn install(build: Build) -> Result<Self, EmulatorError> {
        static INSTALLED: Mutex<Option<(Build, Emulator)>> = Mutex::new(None);
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        let path = build.path();
        match &*installed {
            Some((held, emulator)) if *held == build => return Ok(emulator.clone()),
            Some(_) => return Err(EmulatorError::OtherDriver { path }),
            None => {}
        }
        if is_loaded("libcuda.so") || is_loaded("libcuda.so.1") {
            return Err(EmulatorError::OtherDriver { path });
        }
        let wishes = Wishes::of_process()?;
        let emulator = Self::load(path)?;
        emulator.set_properties(wishes.properties);
        for (fault, n_spared) in wishes.faults {
            emulator.fail_after(fault, n_spared);
        }
        *installed = Some((build, emulator.clone()));
        Ok(emulator)
    }

    /// A device beside the process's own, with the kernels of `faults/`, which go wrong on
    /// purpose.
    ///
    /// # Errors
    ///
    /// A library that does not load.
    pub fn faults(build: Build) -> Result<Self, EmulatorError> {
        Self::load(build.faults_path())
    }

    fn load(path: PathBuf) -> Result<Self, EmulatorError> {
        match Functions::load(&path) {
            Ok(functions) => Ok(Self { path, functions }),
            Err(source) => Err(EmulatorError::Load { path, source }),
        }
    }

    /// How work runs that this thread asks for from now on. Threads that never called this
    /// follow the last call of any thread.
    pub fn set_schedule(&self, order: Order, copies: Copies) {
        // SAFETY: takes the numbers of the C++ enumerations, which have the same order.
        unsafe { (self.functions.set_schedule)(order as i32, copies as i32) };
    }

    /// What went wrong in the last launch that failed, with kernel, block and thread; the device
    /// is usable again afterwards. None where nothing did.
    pub fn take_report(&self) -> Option<String> {
        let mut text = vec![0; 64 << 10];
        // SAFETY: writes at most as many bytes as the vector holds.
        let length = unsafe { (self.functions.take_report)(text.as_mut_ptr(), text.len()) };
        text.truncate(length);
        let report = String::from_utf8_lossy(&text);
        (length > 0).then(|| library::resolve(&self.path, &report))
    }

    /// What the launches of this thread did since the last call, in their order; nothing but in
    /// [`Build::Counted`].
    pub fn take_counters(&self) -> Vec<LaunchCounters> {
        std::iter::from_fn(|| counters::take(self.functions.take_counters)).collect()
    }

    /// The size in bytes of the second-level cache that launches are counted with.
    pub fn set_cache(&self, n_bytes: usize) {
        // SAFETY: takes a plain number.
        unsafe { (self.functions.set_cache)(n_bytes) };
    }

    /// File and line of an instruction.
    pub fn locate(&self, site: &SiteCounters) -> String {
        library::locate(&self.path, site.offset)
    }

    /// Changes what the device says of itself.
    pub fn set_properties(&self, properties: Properties) {
        let (major, minor) = properties.capability;
        let version = i32::from(properties.driver.0) * 1000 + i32::from(properties.driver.1) * 10;
        // SAFETY: takes plain numbers.
        unsafe {
            (self.functions.set_device)(
                major.into(),
                minor.into(),
                version,
                properties.memory,
                properties.resets,
            );
        }
    }

    /// This thread's calls of the driver since it last asked.
    pub fn take_calls(&self) -> Calls {
        let mut calls = Calls::default();
        // SAFETY: writes the struct, which driver/driver.h has the same of.
        unsafe { (self.functions.take_calls)(&raw mut calls) };
        calls
    }

    /// Makes something fail at its next occasion, once.
    pub fn fail_next(&self, fault: Fault) {
        self.fail_after(fault, 0);
    }

    /// Makes something fail, once, after `n_spared` occasions on which it does not.
    pub fn fail_after(&self, fault: Fault, n_spared: u64) {
        // SAFETY: the number is one of driver/driver.h's.
        unsafe { (self.functions.fail_after)(fault as i32, n_spared) };
    }

    /// Calls off what was yet to fail; whether there was something.
    pub fn spare(&self) -> bool {
        // SAFETY: takes nothing.
        unsafe { (self.functions.spare)() }
    }
}
