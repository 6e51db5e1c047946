//! The stand-in for the CUDA driver, asked as cudarc asks the real one: work is done when
//! something waits for it and not before, what a capture forbids is forbidden, and what can fail
//! on a real machine can be made to fail.
//!
//! One device serves the whole process and remembers a failed launch, so the tests take turns.

use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::{self, CUdeviceptr, CUevent, CUgraph, CUgraphExec, CUresult, CUstream};
use onward_emulator::{Build, Copies, Emulator, Fault, Order, Properties};

/// Calls a driver function, which must succeed.
macro_rules! cu {
    ($function:ident $arguments:tt) => {
        assert_eq!(raw!($function $arguments), CUresult::CUDA_SUCCESS, stringify!($function))
    };
}

/// Calls a driver function; what it returned.
macro_rules! raw {
    ($function:ident $arguments:tt) => {
        // SAFETY: handles and addresses are the emulated device's, and sizes are those of the
        // arrays; where a test passes others, it is the emulator that must refuse them.
        unsafe { sys::$function $arguments }
    };
}

mod loops;

/// The device, for one test at a time.
struct Turn {
    emulator: Emulator,
    _lock: MutexGuard<'static, ()>,
}

fn turn() -> Turn {
    static LOCK: Mutex<()> = Mutex::new(());
    let lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let emulator = Emulator::install(Build::Optimised).unwrap();
    emulator.take_report();
    emulator.set_properties(Properties::default());
    emulator.set_schedule(Order::Forward, Copies::Lazy);
    cu!(cuInit(0));
    let mut context = std::ptr::null_mut();
    cu!(cuDevicePrimaryCtxRetain(&mut context, 0));
    cu!(cuCtxSetCurrent(context));
    Turn {
        emulator,
        _lock: lock,
    }
}

const N_BYTES: usize = 64;

fn stream() -> CUstream {
    let mut stream = std::ptr::null_mut();
    let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
    cu!(cuStreamCreate(&mut stream, flags));
    stream
}

fn device_memory() -> CUdeviceptr {
    let mut address = 0;
    cu!(cuMemAlloc_v2(&mut address, N_BYTES));
    address
}

/// Memory of the host that the driver allocated.
fn pinned() -> &'static mut [u8] {
    let mut start = std::ptr::null_mut();
    cu!(cuMemHostAlloc(&mut start, N_BYTES, 0));
    // SAFETY: the driver allocated this many bytes and keeps them: tests do not free them.
    unsafe { std::slice::from_raw_parts_mut(start.cast::<u8>(), N_BYTES) }
}

fn fill(address: CUdeviceptr, value: u8, stream: CUstream) {
    cu!(cuMemsetD8Async(address, value, N_BYTES, stream));
}

fn bytes_of(address: CUdeviceptr) -> Vec<u8> {
    let mut bytes = vec![0; N_BYTES];
    cu!(cuMemcpyDtoH_v2(bytes.as_mut_ptr().cast(), address, N_BYTES));
    bytes
}

#[test]
fn a_copy_to_pinned_memory_is_there_after_the_stream_was_waited_for() {
    let _turn = turn();
    let (stream, source, target) = (stream(), device_memory(), pinned());
    target.fill(1);
    fill(source, 7, stream);
    cu!(cuMemcpyDtoHAsync_v2(
        target.as_mut_ptr().cast(),
        source,
        N_BYTES,
        stream
    ));
    assert_eq!(target[0], 1, "nothing has waited for the copy");
    cu!(cuStreamSynchronize(stream));
    assert_eq!(target[0], 7);
}

#[test]
fn a_copy_to_pageable_memory_waits_by_itself() {
    let _turn = turn();
    let (stream, source) = (stream(), device_memory());
    let mut target = [1u8; N_BYTES];
    fill(source, 7, stream);
    cu!(cuMemcpyDtoHAsync_v2(
        target.as_mut_ptr().cast(),
        source,
        N_BYTES,
        stream
    ));
    assert_eq!(target, [7; N_BYTES]);
}

#[test]
fn pageable_memory_is_read_at_the_call_and_pinned_memory_later() {
    let _turn = turn();
    let (stream, pinned) = (stream(), pinned());
    let mut pageable = [3u8; N_BYTES];
    pinned.fill(3);
    let targets = [device_memory(), device_memory()];
    for (target, source) in targets.into_iter().zip([&pageable[..], &*pinned]) {
        cu!(cuMemcpyHtoDAsync_v2(
            target,
            source.as_ptr().cast(),
            N_BYTES,
            stream
        ));
    }
    pageable.fill(9);
    pinned.fill(9);
    cu!(cuStreamSynchronize(stream));
    assert_eq!(bytes_of(targets[0])[0], 3);
    assert_eq!(bytes_of(targets[1])[0], 9);
}

/// Writes on one stream, copies on another: only an event makes the order certain.
fn copied_across_streams(with_event: bool, order: Order) -> u8 {
    let turn = turn();
    turn.emulator.set_schedule(order, Copies::Lazy);
    let (source, target) = (device_memory(), device_memory());
    let (writer, reader) = (stream(), stream());
    fill(source, 5, writer);
    if with_event {
        let mut event: CUevent = std::ptr::null_mut();
        cu!(cuEventCreate(&mut event, 0));
        cu!(cuEventRecord(event, writer));
        cu!(cuStreamWaitEvent(reader, event, 0));
    }
    cu!(cuMemcpyDtoDAsync_v2(target, source, N_BYTES, reader));
    cu!(cuCtxSynchronize());
    bytes_of(target)[0]
}

#[test]
fn streams_are_in_order_where_an_event_says_so() {
    assert_eq!(copied_across_streams(true, Order::Forward), 5);
    assert_eq!(copied_across_streams(true, Order::Reverse), 5);
    // Without it one order hides the fault and another shows it: fresh memory holds 0xff.
    assert_eq!(copied_across_streams(false, Order::Forward), 5);
    assert_eq!(copied_across_streams(false, Order::Reverse), 0xff);
}

#[test]
fn a_query_makes_progress_and_says_not_ready_until_the_end() {
    let _turn = turn();
    let (stream, memory) = (stream(), device_memory());
    fill(memory, 1, stream);
    fill(memory, 2, stream);
    let not_ready = CUresult::CUDA_ERROR_NOT_READY;
    assert_eq!(raw!(cuStreamQuery(stream)), not_ready);
    assert_eq!(raw!(cuStreamQuery(stream)), not_ready);
    cu!(cuStreamQuery(stream));
    assert_eq!(bytes_of(memory)[0], 2);
}

#[test]
fn memory_runs_out_and_comes_back_when_it_is_freed_in_stream_order() {
    let turn = turn();
    turn.emulator.set_properties(Properties {
        memory: 0,
        ..Properties::default()
    });
    let (mut free, mut total) = (0, 0);
    cu!(cuMemGetInfo_v2(&mut free, &mut total));
    assert_eq!(free, 0);
    let mut address = 0;
    let out_of_memory = CUresult::CUDA_ERROR_OUT_OF_MEMORY;
    assert_eq!(raw!(cuMemAlloc_v2(&mut address, 1)), out_of_memory);

    turn.emulator.set_properties(Properties {
        memory: total + N_BYTES,
        ..Properties::default()
    });
    let stream = stream();
    cu!(cuMemAllocAsync(&mut address, N_BYTES, stream));
    cu!(cuMemFreeAsync(address, stream));
    cu!(cuMemAllocAsync(&mut address, N_BYTES, stream));
    cu!(cuMemFreeAsync(address, stream));
    let invalid = CUresult::CUDA_ERROR_INVALID_VALUE;
    cu!(cuStreamSynchronize(stream));
    assert_eq!(raw!(cuMemFreeAsync(address, stream)), invalid);
    let past_end = raw!(cuMemsetD8Async(device_memory(), 0, N_BYTES + 1, stream));
    assert_eq!(past_end, invalid);
}

fn begin_capture(stream: CUstream) {
    let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    cu!(cuStreamBeginCapture_v2(stream, mode));
}

/// A graph that copies `source` to `target`.
fn copying_graph(stream: CUstream, target: CUdeviceptr, source: &[u8]) -> CUgraph {
    begin_capture(stream);
    cu!(cuMemcpyHtoDAsync_v2(
        target,
        source.as_ptr().cast::<c_void>(),
        N_BYTES,
        stream
    ));
    let mut graph: CUgraph = std::ptr::null_mut();
    cu!(cuStreamEndCapture(stream, &mut graph));
    graph
}

#[test]
fn a_graph_reads_at_each_replay_what_its_addresses_hold_then() {
    let _turn = turn();
    let (stream, target) = (stream(), device_memory());
    let [first, second] = [pinned(), pinned()];
    first.fill(1);
    second.fill(50);
    let graph = copying_graph(stream, target, first);
    assert_eq!(bytes_of(target)[0], 0xff, "a capture runs nothing");
    let mut exec: CUgraphExec = std::ptr::null_mut();
    cu!(cuGraphInstantiateWithFlags(&mut exec, graph, 0));
    for value in [1, 2] {
        first.fill(value);
        cu!(cuGraphLaunch(exec, stream));
        cu!(cuStreamSynchronize(stream));
        assert_eq!(bytes_of(target)[0], value);
    }
    let other = copying_graph(stream, target, second);
    let mut info = sys::CUgraphExecUpdateResultInfo {
        result: sys::CUgraphExecUpdateResult::CU_GRAPH_EXEC_UPDATE_ERROR,
        errorNode: std::ptr::null_mut(),
        errorFromNode: std::ptr::null_mut(),
    };
    cu!(cuGraphExecUpdate_v2(exec, other, &mut info));
    cu!(cuGraphLaunch(exec, stream));
    cu!(cuStreamSynchronize(stream));
    assert_eq!(bytes_of(target)[0], 50);

    begin_capture(stream);
    fill(target, 0, stream);
    let mut fills: CUgraph = std::ptr::null_mut();
    cu!(cuStreamEndCapture(stream, &mut fills));
    let update = raw!(cuGraphExecUpdate_v2(exec, fills, &mut info));
    assert_eq!(update, CUresult::CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE);
}

#[test]
fn waiting_and_allocating_end_a_capture_and_the_stream_serves_on() {
    let _turn = turn();
    let (stream, memory) = (stream(), device_memory());
    let unsupported = CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    let mut address = 0;
    let forbidden: [&dyn Fn(&mut CUdeviceptr) -> CUresult; 4] = [
        &|_| raw!(cuStreamSynchronize(stream)),
        &|address| raw!(cuMemAlloc_v2(address, N_BYTES)),
        &|address| raw!(cuMemAllocAsync(address, N_BYTES, stream)),
        &|_| raw!(cuMemFreeAsync(memory, stream)),
    ];
    for call in forbidden {
        begin_capture(stream);
        fill(memory, 1, stream);
        assert_eq!(call(&mut address), unsupported);
        let mut graph: CUgraph = std::ptr::null_mut();
        let ended = raw!(cuStreamEndCapture(stream, &mut graph));
        assert_eq!(ended, CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
        assert!(graph.is_null());
    }
    fill(memory, 4, stream);
    cu!(cuStreamSynchronize(stream));
    assert_eq!(bytes_of(memory)[0], 4);
}

#[test]
fn faults_strike_once_and_a_failed_launch_until_it_is_reported() {
    let turn = turn();
    let stream = stream();
    let mut address = 0;
    turn.emulator.fail_next(Fault::Allocation);
    let allocate = |address| raw!(cuMemAlloc_v2(address, N_BYTES));
    assert_eq!(allocate(&mut address), CUresult::CUDA_ERROR_OUT_OF_MEMORY);
    assert_eq!(allocate(&mut address), CUresult::CUDA_SUCCESS);

    turn.emulator.fail_next(Fault::Capture);
    begin_capture(stream);
    let mut graph: CUgraph = std::ptr::null_mut();
    let ended = raw!(cuStreamEndCapture(stream, &mut graph));
    assert_eq!(ended, CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);

    let text = b"// PTX\n.visible .entry rms_norm(\0";
    let mut module = std::ptr::null_mut();
    cu!(cuModuleLoadData(&mut module, text.as_ptr().cast()));
    let mut function = std::ptr::null_mut();
    cu!(cuModuleGetFunction(
        &mut function,
        module,
        c"rms_norm".as_ptr()
    ));
    // The emulated device has it, but the image has not.
    let missing = raw!(cuModuleGetFunction(
        &mut function,
        module,
        c"gated".as_ptr()
    ));
    assert_eq!(missing, CUresult::CUDA_ERROR_NOT_FOUND);

    turn.emulator.fail_next(Fault::Launch);
    let mut arguments = [std::ptr::null_mut()];
    let failed = CUresult::CUDA_ERROR_LAUNCH_FAILED;
    let launched = raw!(cuLaunchKernel(
        function,
        1,
        1,
        1,
        32,
        1,
        1,
        0,
        stream,
        arguments.as_mut_ptr(),
        std::ptr::null_mut()
    ));
    assert_eq!(launched, failed);
    assert_eq!(raw!(cuStreamSynchronize(stream)), failed);
    assert_eq!(allocate(&mut address), failed);
    let report = turn.emulator.take_report().unwrap();
    assert!(report.contains("rms_norm"), "{report}");
    assert_eq!(allocate(&mut address), CUresult::CUDA_SUCCESS);
}

#[test]
fn the_device_says_of_itself_what_it_is_told_to() {
    let turn = turn();
    turn.emulator.set_properties(Properties {
        capability: (9, 0),
        driver: (12, 4),
        ..Properties::default()
    });
    let (mut version, mut major) = (0, 0);
    cu!(cuDriverGetVersion(&mut version));
    let attribute = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR;
    cu!(cuDeviceGetAttribute(&mut major, attribute, 0));
    assert_eq!((version, major), (12040, 9));
}
