//! Loops in graphs: a node whose body is repeated while a condition holds that kernels set.

use std::ffi::c_void;

use cudarc::driver::sys::{
    self, CUdeviceptr, CUfunction, CUgraph, CUgraphExec, CUgraphNode, CUresult, CUstream,
};
use onward_emulator::Fault;

use super::{N_BYTES, Turn, bytes_of, device_memory, fill, stream, turn};

fn graph() -> CUgraph {
    let mut graph = std::ptr::null_mut();
    cu!(cuGraphCreate(&mut graph, 0));
    graph
}

/// A condition that has this value at each launch.
fn condition(graph: CUgraph, at_launch: u32) -> u64 {
    let (mut handle, context) = (0, std::ptr::null_mut());
    let flags = sys::CU_GRAPH_COND_ASSIGN_DEFAULT;
    cu!(cuGraphConditionalHandleCreate(
        &mut handle,
        graph,
        context,
        at_launch,
        flags
    ));
    handle
}

fn nodes(graph: CUgraph) -> Vec<CUgraphNode> {
    let mut n = 0;
    cu!(cuGraphGetNodes(graph, std::ptr::null_mut(), &mut n));
    let mut nodes = vec![std::ptr::null_mut(); n];
    cu!(cuGraphGetNodes(graph, nodes.as_mut_ptr(), &mut n));
    nodes
}

/// Adds a loop behind `before`; its body.
fn add_loop(graph: CUgraph, condition: u64, before: &[CUgraphNode]) -> CUgraph {
    let mut params = sys::CUgraphNodeParams {
        type_: sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_CONDITIONAL,
        reserved0: [0; 3],
        __bindgen_anon_1: sys::CUgraphNodeParams_st__bindgen_ty_1 { reserved1: [0; 29] },
        reserved2: 0,
    };
    params.__bindgen_anon_1.conditional = sys::CUDA_CONDITIONAL_NODE_PARAMS {
        handle: condition,
        type_: sys::CUgraphConditionalNodeType::CU_GRAPH_COND_TYPE_WHILE,
        size: 1,
        phGraph_out: std::ptr::null_mut(),
        ctx: std::ptr::null_mut(),
    };
    let mut node = std::ptr::null_mut();
    cu!(cuGraphAddNode_v2(
        &mut node,
        graph,
        before.as_ptr(),
        std::ptr::null(),
        before.len(),
        &mut params
    ));
    // SAFETY: the call wrote it, and the array lives as long as the graph.
    unsafe { *params.__bindgen_anon_1.conditional.phGraph_out }
}

/// Captures `work` into an empty graph.
fn capture(graph: CUgraph, work: impl FnOnce(CUstream)) {
    let stream = stream();
    let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    cu!(cuStreamBeginCaptureToGraph(
        stream,
        graph,
        std::ptr::null(),
        std::ptr::null(),
        0,
        mode
    ));
    work(stream);
    let mut captured = std::ptr::null_mut();
    cu!(cuStreamEndCapture(stream, &mut captured));
    assert_eq!(captured, graph);
}

fn instantiate(graph: CUgraph) -> CUgraphExec {
    let mut exec = std::ptr::null_mut();
    cu!(cuGraphInstantiateWithFlags(&mut exec, graph, 0));
    exec
}

/// As kernels/device/decode_loop/params.h has it.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopParams {
    condition: u64,
    state: u64,
    n_halted: u64,
    n_steps: u64,
    slots: u64,
    row_slots: u64,
    n_rows: u32,
    unused: u32,
}

/// A kernel of the decoder's loop, which clears its condition where there are no rows. Nothing can
/// be loaded during a capture.
fn clearing() -> CUfunction {
    let text = b"// PTX\n.visible .entry decode_loop_enter(\0";
    let (mut module, mut function) = (std::ptr::null_mut(), std::ptr::null_mut());
    cu!(cuModuleLoadData(&mut module, text.as_ptr().cast()));
    let name = c"decode_loop_enter";
    cu!(cuModuleGetFunction(&mut function, module, name.as_ptr()));
    function
}

fn clear(function: CUfunction, memory: CUdeviceptr, stream: CUstream, condition: u64) {
    let mut params = LoopParams {
        condition,
        state: memory,
        n_halted: memory + 16,
        n_steps: memory + 20,
        slots: memory,
        row_slots: memory,
        n_rows: 0,
        unused: 0,
    };
    let mut arguments = [(&raw mut params).cast::<c_void>()];
    let (arguments, nothing) = (arguments.as_mut_ptr(), std::ptr::null_mut());
    cu!(cuLaunchKernel(
        function, 1, 1, 1, 32, 1, 1, 0, stream, arguments, nothing
    ));
}

fn run(exec: CUgraphExec) -> CUresult {
    let stream = stream();
    cu!(cuGraphLaunch(exec, stream));
    raw!(cuStreamSynchronize(stream))
}

fn rounds(turn: &Turn) -> u64 {
    turn.emulator.take_calls().rounds
}

#[test]
fn a_loop_goes_around_until_a_kernel_clears_its_condition() {
    let turn = turn();
    let (kernel, memory) = (clearing(), device_memory());
    for (at_launch, n_rounds) in [(1, 1), (0, 0)] {
        let graph = graph();
        let handle = condition(graph, at_launch);
        let body = add_loop(graph, handle, &[]);
        capture(body, |stream| {
            fill(memory, 0, stream);
            clear(kernel, memory, stream, handle);
        });
        let exec = instantiate(graph);
        rounds(&turn);
        // Each launch gives the condition its value again.
        for _ in 0..2 {
            assert_eq!(run(exec), CUresult::CUDA_SUCCESS);
            assert_eq!(rounds(&turn), n_rounds);
        }
    }
}

/// What the loop does not depend on comes behind it, so that a dependency that is missing shows.
#[test]
fn a_loop_waits_for_what_it_depends_on() {
    let turn = turn();
    let (kernel, memory) = (clearing(), device_memory());
    for (depends, n_rounds) in [(true, 0), (false, 1)] {
        let graph = graph();
        let handle = condition(graph, 1);
        capture(graph, |stream| clear(kernel, memory, stream, handle));
        let before = nodes(graph);
        assert_eq!(before.len(), 1);
        let body = add_loop(graph, handle, if depends { &before } else { &[] });
        capture(body, |stream| clear(kernel, memory, stream, handle));
        let exec = instantiate(graph);
        rounds(&turn);
        assert_eq!(run(exec), CUresult::CUDA_SUCCESS);
        assert_eq!(rounds(&turn), n_rounds);
    }
}

/// Each look at the stream has the loop go around once more; one that does not end is a fault.
#[test]
fn a_loop_that_nothing_ends_is_a_fault() {
    let turn = turn();
    let (graph, memory) = (graph(), device_memory());
    let handle = condition(graph, 1);
    let body = add_loop(graph, handle, &[]);
    capture(body, |stream| fill(memory, 3, stream));
    let (exec, stream) = (instantiate(graph), stream());
    rounds(&turn);
    cu!(cuGraphLaunch(exec, stream));
    for look in 1..5 {
        let not_ready = CUresult::CUDA_ERROR_NOT_READY;
        assert_eq!(raw!(cuStreamQuery(stream)), not_ready);
        assert_eq!(rounds(&turn), 1, "look {look}");
    }
    let failed = CUresult::CUDA_ERROR_LAUNCH_FAILED;
    assert_eq!(raw!(cuStreamSynchronize(stream)), failed);
    let report = turn.emulator.take_report().unwrap();
    assert!(report.contains("a loop of a graph went around"), "{report}");
    assert_eq!(bytes_of(memory), [3; N_BYTES]);
}

#[test]
fn a_loop_goes_by_a_condition_of_its_graph_and_does_what_a_loop_may_do() {
    let turn = turn();
    let (kernel, memory) = (clearing(), device_memory());
    let invalid = CUresult::CUDA_ERROR_INVALID_VALUE;
    let mut exec = std::ptr::null_mut();

    let (own, other) = (graph(), graph());
    let foreign = condition(other, 1);
    add_loop(own, foreign, &[]);
    assert_eq!(
        raw!(cuGraphInstantiateWithFlags(&mut exec, own, 0)),
        invalid
    );

    let own = graph();
    let body = add_loop(own, condition(own, 1), &[]);
    unsafe extern "C" fn nothing(_: *mut c_void) {}
    capture(body, |stream| {
        cu!(cuLaunchHostFunc(
            stream,
            Some(nothing),
            std::ptr::null_mut()
        ));
    });
    assert_eq!(
        raw!(cuGraphInstantiateWithFlags(&mut exec, own, 0)),
        invalid
    );

    // A graph that is gone takes its conditions along.
    let gone = graph();
    let handle = condition(gone, 1);
    cu!(cuGraphDestroy(gone));
    let stream = stream();
    clear(kernel, memory, stream, handle);
    let failed = CUresult::CUDA_ERROR_LAUNCH_FAILED;
    assert_eq!(raw!(cuStreamSynchronize(stream)), failed);
    let report = turn.emulator.take_report().unwrap();
    assert!(
        report.contains("a condition was set that no graph has"),
        "{report}"
    );

    turn.emulator.fail_next(Fault::Condition);
    let (mut handle, context) = (0, std::ptr::null_mut());
    let made = raw!(cuGraphConditionalHandleCreate(
        &mut handle,
        other,
        context,
        0,
        0
    ));
    assert_eq!(made, CUresult::CUDA_ERROR_NOT_SUPPORTED);
}
