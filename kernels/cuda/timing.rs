//! How long work on the device takes, by the device's own clock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::CudaEvent;
use cudarc::driver::sys::CUevent_flags::CU_EVENT_DEFAULT;

use super::array::failed;
use super::device::Device;
use crate::error::Result;

/// A point in the device's work.
#[derive(Debug)]
pub struct Moment(CudaEvent);

impl Device {
    /// The point in the stream's work behind all that was put on it so far.
    ///
    /// # Errors
    /// What the driver says.
    pub fn moment(&self) -> Result<Moment> {
        (self.stream().record_event(Some(CU_EVENT_DEFAULT)))
            .map(Moment)
            .map_err(|error| failed("note the time of its work", error))
    }
}

impl Moment {
    /// Milliseconds from this point to a later one; waits until both are reached.
    ///
    /// # Errors
    /// What the driver says, also of the work before them.
    pub fn milliseconds_until(&self, later: &Self) -> Result<f32> {
        (self.0.elapsed_ms(&later.0)).map_err(|error| failed("tell how long work took", error))
    }
}

/// Beginnings and ends of steps, or of several in a loop, and how many; none while nobody listens.
type Steps = Option<Vec<(Moment, Moment, usize)>>;

/// Where steps of decoding begin and end, noted while somebody listens.
#[derive(Clone, Debug, Default)]
pub struct StepClock(Arc<Mutex<Steps>>);

/// What the device did while it decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepTimes {
    /// Steps.
    pub n_steps: usize,
    /// Milliseconds from the beginning of the first to the end of the last.
    pub total: f32,
    /// Milliseconds of them between the end of a step and the beginning of the next; of a loop's,
    /// between the end of one run and the beginning of the next.
    pub between: f32,
}

impl StepClock {
    /// Notes the steps from now on.
    pub fn begin(&self) {
        *self.steps() = Some(Vec::new());
    }

    /// The steps since [`begin`](Self::begin), of which no more are noted.
    ///
    /// # Errors
    /// What the driver says.
    pub fn end(&self) -> Result<StepTimes> {
        let steps = self.steps().take().unwrap_or_default();
        let (Some(first), Some(last)) = (steps.first(), steps.last()) else {
            return Ok(StepTimes::default());
        };
        let gaps = steps
            .windows(2)
            .map(|pair| pair[0].1.milliseconds_until(&pair[1].0));
        Ok(StepTimes {
            n_steps: steps.iter().map(|&(_, _, n)| n).sum(),
            total: first.0.milliseconds_until(&last.1)?,
            between: gaps.sum::<Result<f32>>()?,
        })
    }

    /// Notes, while somebody listens, where the `n` steps that are now put on the stream begin, and
    /// where they end when the result is dropped.
    ///
    /// # Errors
    /// What the driver says.
    pub(crate) fn note<'a>(&self, device: &'a Device, n: usize) -> Result<Option<Noted<'a>>> {
        if self.steps().is_none() {
            return Ok(None);
        }
        Ok(Some(Noted {
            clock: self.clone(),
            device,
            start: Some(device.moment()?),
            n,
        }))
    }

    fn steps(&self) -> MutexGuard<'_, Steps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Steps whose end is yet to come.
pub(crate) struct Noted<'a> {
    clock: StepClock,
    device: &'a Device,
    start: Option<Moment>,
    n: usize,
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        // An error of the device is one of every later call, too.
        if let (Some(start), Ok(end)) = (self.start.take(), self.device.moment())
            && let Some(steps) = &mut *self.clock.steps()
        {
            steps.push((start, end, self.n));
        }
    }
}
