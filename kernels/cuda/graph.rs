//! Launches that are recorded once and repeated by a single call: a CUDA graph.

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaGraph, result};

use super::array::failed;
use super::device::Device;
use crate::error::Result;

/// A recorded sequence of launches.
pub struct Graph(CudaGraph);

// SAFETY: the driver wants no two threads to use a graph at once; whoever holds it uses it alone,
// since every method takes it exclusively.
unsafe impl Send for Graph {}

impl Graph {
    /// Records what `work` puts on the device's stream; none of it is done.
    ///
    /// # Errors
    /// Those of `work`, and what the driver says. The stream is as it was before.
    pub fn record(device: &Device, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let capture = Capture::begin(device)?;
        work()?;
        capture.end()
    }

    /// Puts the recorded launches on the stream.
    ///
    /// # Errors
    /// What the driver says.
    pub fn launch(&mut self) -> Result<()> {
        (self.0.launch()).map_err(|error| failed("launch a recorded step", error))
    }
}

/// A capture under way; dropping it ends and discards it, so that no error and no panic leaves
/// the stream capturing.
struct Capture<'a> {
    device: &'a Device,
    is_ended: bool,
}

impl<'a> Capture<'a> {
    fn begin(device: &'a Device) -> Result<Self> {
        // Calls of other threads do not disturb it.
        (device.stream())
            .begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
            .map_err(|error| failed("begin to record a step", error))?;
        Ok(Self {
            device,
            is_ended: false,
        })
    }

    fn end(mut self) -> Result<Graph> {
        self.is_ended = true;
        let graph = (self.device.stream())
            .end_capture(CUgraphInstantiate_flags(0))
            .map_err(|error| failed("record a step", error))?;
        let empty = || super::CudaError::Call {
            what: "record a step".to_owned(),
            detail: "nothing was recorded".to_owned(),
        };
        let graph = graph.ok_or_else(empty)?;
        (graph.upload()).map_err(|error| failed("send a recorded step to the GPU", error))?;
        Ok(Graph(graph))
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        if self.is_ended {
            return;
        }
        // SAFETY: the stream lives, and this thread began the capture. What it recorded, if the
        // driver still gives it out, is ours to destroy.
        unsafe {
            if let Ok(graph) = result::stream::end_capture(self.device.stream().cu_stream())
                && !graph.is_null()
            {
                let _ = result::graph::destroy(graph);
            }
        }
    }
}
