//! The device that kernels are tested on: the emulated one, or this machine's GPU.
//!
//! `ONWARD_TEST_GPU=1` chooses the GPU; `make gpu` sets it for the test programs that it carries to
//! a machine with one.

use onward_emulator::{Build, Copies, Emulator, Order, Properties, SCHEDULES};
use onward_kernels::cuda::Cuda;

/// Set where the tests are to run on the machine's own GPU.
const GPU: &str = "ONWARD_TEST_GPU";

/// The device of a test.
#[derive(Debug)]
pub struct TestDevice(Option<Emulator>);

impl TestDevice {
    /// The emulated device as it usually is, or the GPU.
    ///
    /// # Panics
    /// If the emulated device does not load.
    pub fn install() -> Self {
        Self::install_build(Build::Optimised)
    }

    /// As [`install`](Self::install), with a build of the emulated device.
    ///
    /// # Panics
    /// If the emulated device does not load.
    pub fn install_build(build: Build) -> Self {
        Self(match std::env::var_os(GPU) {
            Some(_) => None,
            None => Some(Emulator::install(build).unwrap_or_else(|error| panic!("{error}"))),
        })
    }

    /// As [`install`](Self::install); the emulated device says that it has this compute capability,
    /// a GPU keeps its own.
    ///
    /// # Panics
    /// If the emulated device does not load.
    pub fn install_as(capability: (u8, u8)) -> Self {
        let device = Self::install();
        if let Self(Some(emulator)) = &device {
            emulator.set_properties(Properties {
                capability,
                ..Properties::default()
            });
        }
        device
    }

    /// A backend on it.
    ///
    /// # Panics
    /// If it cannot be opened.
    pub fn open(&self) -> Cuda {
        Cuda::open(0).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Whether it is a GPU.
    pub fn is_gpu(&self) -> bool {
        self.0.is_none()
    }

    /// Calls `check` in each of `schedules` on the emulated device, once on a GPU, which has a
    /// schedule of its own. The text says which it is.
    ///
    /// # Panics
    /// If the emulated device found a fault that `check` did not.
    pub fn in_each(&self, schedules: &[(Order, Copies)], mut check: impl FnMut(&str)) {
        let Self(Some(emulator)) = self else {
            check("the GPU");
            return;
        };
        for &(order, copies) in schedules {
            emulator.set_schedule(order, copies);
            check(&format!("emulated ({order:?}, {copies:?})"));
            assert_eq!(emulator.take_report(), None);
        }
    }

    /// As [`in_each`](Self::in_each) of all schedules.
    ///
    /// # Panics
    /// As [`in_each`](Self::in_each).
    pub fn in_all(&self, check: impl FnMut(&str)) {
        self.in_each(&SCHEDULES, check);
    }

    /// Runs what follows in one of the schedules; a GPU keeps its own.
    pub fn set_schedule(&self, index: usize) {
        if let Self(Some(emulator)) = self {
            let (order, copies) = SCHEDULES[index % SCHEDULES.len()];
            emulator.set_schedule(order, copies);
        }
    }

    /// What the emulated device says of the last launch that failed.
    pub fn take_report(&self) -> Option<String> {
        self.0.as_ref().and_then(Emulator::take_report)
    }
}
