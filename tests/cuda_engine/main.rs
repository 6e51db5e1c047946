//! The engine on the emulated device, or on a GPU (ONWARD_TEST_GPU=1): recorded steps, which the
//! device repeats by itself, and the host out of the loop.

mod bits;
mod calls;
mod loops;

use std::ops::ControlFlow;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use onward_engine::{Engine, EngineOptions, Event, Request};
use onward_kernels::cuda::Cuda;
use onward_tests::device::TestDevice;
use onward_tests::{golden, load};

/// A token as it was drawn: id, log-probability, the most probable ones.
type Drawn = (u32, u32, Vec<(u32, u32)>);

/// Whoever waits for the emulated device has it do everybody's work.
static DEVICE: RwLock<()> = RwLock::new(());

/// The right to use the device beside other tests, while it is held.
fn beside_others() -> RwLockReadGuard<'static, ()> {
    DEVICE.read().unwrap_or_else(PoisonError::into_inner)
}

/// The right to use the device alone, for a test that sees how far it has come.
fn alone() -> RwLockWriteGuard<'static, ()> {
    DEVICE.write().unwrap_or_else(PoisonError::into_inner)
}

/// The device as a backend.
fn cuda() -> Cuda {
    TestDevice::install().open()
}

/// One of the tiny checkpoints of `tests/golden/families`.
fn engine(family: &str, cuda: Cuda, chunk: usize, n_sequences: usize) -> Engine {
    engine_of(family, cuda, 512, chunk, n_sequences)
}

/// As [`engine`], with room for `n_ctx` tokens of a sequence.
fn engine_of(family: &str, cuda: Cuda, n_ctx: usize, chunk: usize, n_sequences: usize) -> Engine {
    let options = EngineOptions {
        n_ctx: Some(n_ctx),
        n_sequences,
        chunk,
        ..EngineOptions::default()
    };
    load(&golden("families").join(family), cuda, &options)
}

/// The tokens of requests served together, with nothing computed beforehand.
fn serve(engine: &mut Engine, requests: &[Request]) -> Vec<Vec<Drawn>> {
    engine.forget();
    let mut drawn = vec![Vec::new(); requests.len()];
    engine
        .generate_batch(requests, &mut |request, event| {
            if let Event::Token(token) = event {
                let top = token.top.iter().map(|t| (t.id, t.logprob.to_bits()));
                drawn[request].push((token.id, token.logprob.to_bits(), top.collect()));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    drawn
}
