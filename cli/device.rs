//! From the flags to a loaded engine: the one place where a backend is chosen.

use onward_engine::formats::ModelFile;
use onward_engine::{Engine, EngineOptions, Loading};
use onward_kernels::{Cpu, Reference};

use crate::args::{Device, ModelArgs};
use crate::progress::{Progress, Unit};

/// Loads the model that `args` names onto the device that `args` names.
///
/// # Errors
/// A model that cannot be found, read, understood or held.
pub(crate) fn load_engine(args: &ModelArgs) -> anyhow::Result<Engine> {
    load_engine_for(args, args.ctx_size)
}

/// As [`load_engine`], with room for `n_ctx` tokens instead of what the flags say.
pub(crate) fn load_engine_for(args: &ModelArgs, n_ctx: Option<usize>) -> anyhow::Result<Engine> {
    let file = ModelFile::open(&args.file.path()?)?;
    let options = EngineOptions {
        n_ctx,
        n_sequences: 1,
        chunk: args.chunk,
    };
    let mut bar = Progress::new("Loading", Unit::Bytes);
    let mut progress =
        |loading: Loading| bar.set(loading.done_bytes as u64, loading.total_bytes as u64);
    let engine = match args.device {
        Device::Cpu => {
            let n_threads = args.threads.unwrap_or_else(default_threads);
            let n_cores = num_cpus::get();
            if n_threads > n_cores {
                tracing::warn!("{n_threads} threads on {n_cores} cores wait for each other");
            }
            let cpu = Cpu::new(n_threads)?;
            Engine::load(&file, cpu, &options, &mut progress)
        }
        Device::Reference => Engine::load(&file, Reference::new(), &options, &mut progress),
    };
    Ok(engine?)
}

/// Threads to compute with where nothing is said: the physical cores. Two threads that share
/// a core's vector units get in each other's way.
pub(crate) fn default_threads() -> usize {
    num_cpus::get_physical().clamp(1, num_cpus::get().max(1))
}
