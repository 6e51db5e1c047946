//! Launches that are recorded once and repeated by a single call: a CUDA graph. A part of it may
//! be repeated on the device, for as long as a kernel says so.

use std::sync::Arc;

use cudarc::driver::sys::{self, CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaStream, DriverError, result};

use super::array::failed;
use super::device::Device;
use super::driver;
use crate::error::Result;

/// Calls of other threads do not disturb a recording.
const MODE: CUstreamCaptureMode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
/// What a recording is for, in errors.
const WHAT: &str = "record a step";

/// The handle by which a kernel says whether a loop of a graph goes on.
pub(crate) type Condition = sys::CUgraphConditionalHandle;

/// A recorded sequence of launches.
pub struct Graph {
    exec: sys::CUgraphExec,
    /// What it was made from; conditions live as long as this does.
    _source: Source,
    stream: Arc<CudaStream>,
}

// SAFETY: the driver wants no two threads to use a graph at once; whoever holds it uses it alone,
// since every method takes it exclusively.
unsafe impl Send for Graph {}

impl Graph {
    /// Records what `work` puts on the device's stream; none of it is done.
    ///
    /// # Errors
    /// Those of `work`, and what the driver says. The stream is as it was before.
    pub fn record(device: &Device, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let capture = Capture::begin(device, None)?;
        work()?;
        let source = Source(capture.end()?);
        Self::instantiate(device, source)
    }

    /// Records what `enter` puts on the stream, which is done once, and behind it what `round`
    /// puts there, which is repeated while the condition that both are given is not zero. It is
    /// zero until a kernel of theirs sets it. A round is kernels, copies and fills alone.
    ///
    /// # Errors
    /// As [`record`](Self::record), and where the driver has no such loops.
    pub(crate) fn record_loop(
        device: &Device,
        enter: impl FnOnce(Condition) -> Result<()>,
        round: impl FnOnce(Condition) -> Result<()>,
    ) -> Result<Self> {
        driver::check_loops()?;
        device.bind()?;
        let source = Source::new().map_err(|error| failed(WHAT, error))?;
        let condition = (source.condition(device)).map_err(|error| failed(WHAT, error))?;
        // SAFETY: the source lives, and the body as long as it does.
        unsafe {
            fill(device, source.0, || enter(condition))?;
            let body = (source.add_loop(device, condition)).map_err(|error| failed(WHAT, error))?;
            fill(device, body, || round(condition))?;
        }
        Self::instantiate(device, source)
    }

    fn instantiate(device: &Device, source: Source) -> Result<Self> {
        // SAFETY: the graph is whole, and lives as long as what is made from it.
        let exec = unsafe { result::graph::instantiate(source.0, CUgraphInstantiate_flags(0)) }
            .map_err(|error| failed(WHAT, error))?;
        let graph = Self {
            exec,
            _source: source,
            stream: device.stream().clone(),
        };
        // SAFETY: graph and stream live.
        unsafe { result::graph::upload(exec, graph.stream.cu_stream()) }
            .map_err(|error| failed("send a recorded step to the GPU", error))?;
        Ok(graph)
    }

    /// Puts the recorded launches on the stream.
    ///
    /// # Errors
    /// What the driver says.
    pub fn launch(&mut self) -> Result<()> {
        let bound = self.stream.context().bind_to_thread();
        // SAFETY: graph and stream live.
        bound
            .and_then(|()| unsafe { result::graph::launch(self.exec, self.stream.cu_stream()) })
            .map_err(|error| failed("launch a recorded step", error))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: made by `instantiate`, and destroyed once. An error is the device's last word,
        // which whoever uses it next will hear.
        let _ = unsafe { result::graph::exec_destroy(self.exec) };
    }
}

/// A graph that is not ready to run, destroyed when it is dropped.
struct Source(sys::CUgraph);

impl Source {
    fn new() -> std::result::Result<Self, DriverError> {
        let mut graph = std::ptr::null_mut();
        // SAFETY: writes a handle to a place that lives.
        unsafe { sys::cuGraphCreate(&mut graph, 0) }.result()?;
        Ok(Self(graph))
    }

    /// A condition of the graph, zero at each launch.
    fn condition(&self, device: &Device) -> std::result::Result<Condition, DriverError> {
        let (mut handle, context) = (0, device.stream().context().cu_ctx());
        let flags = sys::CU_GRAPH_COND_ASSIGN_DEFAULT;
        // SAFETY: writes a handle to a place that lives; graph and context live.
        unsafe { sys::cuGraphConditionalHandleCreate(&mut handle, self.0, context, 0, flags) }
            .result()?;
        Ok(handle)
    }

    /// Adds a loop behind all nodes; its body, which is empty and belongs to the graph.
    fn add_loop(
        &self,
        device: &Device,
        condition: Condition,
    ) -> std::result::Result<sys::CUgraph, DriverError> {
        let mut params = sys::CUgraphNodeParams {
            type_: sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_CONDITIONAL,
            reserved0: [0; 3],
            // What a node of this kind does not use is to be zero.
            __bindgen_anon_1: sys::CUgraphNodeParams_st__bindgen_ty_1 { reserved1: [0; 29] },
            reserved2: 0,
        };
        params.__bindgen_anon_1.conditional = sys::CUDA_CONDITIONAL_NODE_PARAMS {
            handle: condition,
            type_: sys::CUgraphConditionalNodeType::CU_GRAPH_COND_TYPE_WHILE,
            size: 1,
            phGraph_out: std::ptr::null_mut(),
            ctx: device.stream().context().cu_ctx(),
        };
        let before = self.nodes()?;
        let mut node = std::ptr::null_mut();
        // SAFETY: the nodes are the graph's, the parameters are whole, and the driver writes a
        // handle and the address of its array of one body, which lives as long as the graph.
        unsafe {
            sys::cuGraphAddNode_v2(
                &mut node,
                self.0,
                before.as_ptr(),
                std::ptr::null(),
                before.len(),
                &mut params,
            )
            .result()?;
            Ok(*params.__bindgen_anon_1.conditional.phGraph_out)
        }
    }

    fn nodes(&self) -> std::result::Result<Vec<sys::CUgraphNode>, DriverError> {
        let mut n = 0;
        // SAFETY: without an array, the driver says how many nodes there are.
        unsafe { sys::cuGraphGetNodes(self.0, std::ptr::null_mut(), &mut n) }.result()?;
        let mut nodes = vec![std::ptr::null_mut(); n];
        // SAFETY: the array has room for as many nodes.
        unsafe { sys::cuGraphGetNodes(self.0, nodes.as_mut_ptr(), &mut n) }.result()?;
        nodes.truncate(n);
        Ok(nodes)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // SAFETY: ours, and destroyed once. What was made from it has its own copy.
        let _ = unsafe { result::graph::destroy(self.0) };
    }
}

/// Records `work` into a graph that is empty.
///
/// # Safety
/// The graph lives.
unsafe fn fill(
    device: &Device,
    graph: sys::CUgraph,
    work: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let capture = Capture::begin(device, Some(graph))?;
    work()?;
    capture.end().map(drop)
}

/// A capture under way; dropping it ends and discards it, so that no error and no panic leaves
/// the stream capturing.
struct Capture<'a> {
    device: &'a Device,
    /// Whether it goes to a graph that is somebody's.
    is_owned: bool,
    is_ended: bool,
}

impl<'a> Capture<'a> {
    /// Begins a capture to an empty graph; to a new one where none is given.
    fn begin(device: &'a Device, into: Option<sys::CUgraph>) -> Result<Self> {
        device.bind()?;
        let stream = device.stream().cu_stream();
        let (none, no_edges) = (std::ptr::null(), std::ptr::null());
        // SAFETY: stream and graph live, and there are no dependencies.
        let begun = unsafe {
            match into {
                None => result::stream::begin_capture(stream, MODE),
                Some(graph) => {
                    sys::cuStreamBeginCaptureToGraph(stream, graph, none, no_edges, 0, MODE)
                        .result()
                }
            }
        };
        begun.map_err(|error| failed("begin to record a step", error))?;
        Ok(Self {
            device,
            is_owned: into.is_some(),
            is_ended: false,
        })
    }

    /// The graph that it went to.
    fn end(mut self) -> Result<sys::CUgraph> {
        self.is_ended = true;
        self.device.bind()?;
        // SAFETY: the stream lives, and this thread began the capture.
        let graph = unsafe { result::stream::end_capture(self.device.stream().cu_stream()) }
            .map_err(|error| failed(WHAT, error))?;
        match graph.is_null() {
            false => Ok(graph),
            true => Err(super::CudaError::Call {
                what: WHAT.to_owned(),
                detail: "nothing was recorded".to_owned(),
            }
            .into()),
        }
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        if self.is_ended {
            return;
        }
        // SAFETY: the stream lives, and this thread began the capture. What it recorded, if the
        // driver still gives it out, is ours to destroy unless it is somebody's.
        unsafe {
            if let Ok(graph) = result::stream::end_capture(self.device.stream().cu_stream())
                && !graph.is_null()
                && !self.is_owned
            {
                let _ = result::graph::destroy(graph);
            }
        }
    }
}
