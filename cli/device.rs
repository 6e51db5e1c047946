//! From the flags to a loaded engine: the one place where a backend is chosen.

use anyhow::bail;
use onward_engine::formats::ModelFile;
use onward_engine::{Engine, EngineOptions, Loading};
use onward_kernels::{Backend, Cpu, Reference};

use crate::args::{Device, ModelArgs};
use crate::progress::{Progress, Unit};

/// Loads the model that `args` names onto the device that `args` names.
///
/// # Errors
/// A model that cannot be found, read, understood or held, or a device that is not there.
pub(crate) fn load_engine(args: &ModelArgs) -> anyhow::Result<Engine> {
    load_engine_for(args, args.ctx_size)
}

/// As [`load_engine`], with room for `n_ctx` tokens instead of what the flags say.
pub(crate) fn load_engine_for(args: &ModelArgs, n_ctx: Option<usize>) -> anyhow::Result<Engine> {
    load_engine_with(args, |_| {
        Ok(EngineOptions {
            n_ctx,
            chunk: args.chunk,
            ..EngineOptions::default()
        })
    })
}

/// As [`load_engine`], with sizes that may depend on the model.
pub(crate) fn load_engine_with(
    args: &ModelArgs,
    options: impl FnOnce(&ModelFile) -> anyhow::Result<EngineOptions>,
) -> anyhow::Result<Engine> {
    let is_gpu = matches!(args.device, Device::Cuda(_) | Device::Emulated);
    if !is_gpu && (args.kv_type.is_some() || args.no_graphs) {
        bail!("--kv-type and --no-graphs are for a GPU: --device cuda");
    }
    let file = ModelFile::open(&args.file.path()?)?;
    let options = options(&file)?;
    match args.device {
        Device::Cpu => load(&file, cpu(args)?, &options),
        Device::Cuda(ordinal) => load(&file, gpu::open(args, ordinal)?, &options),
        Device::Emulated => load(&file, gpu::emulated(args)?, &options),
        Device::Reference => load(&file, Reference::new(), &options),
    }
}

fn load(
    file: &ModelFile,
    backend: impl Backend,
    options: &EngineOptions,
) -> anyhow::Result<Engine> {
    let mut bar = Progress::new("Loading", Unit::Bytes);
    let mut progress =
        |loading: Loading| bar.set(loading.done_bytes as u64, loading.total_bytes as u64);
    Ok(Engine::load(file, backend, options, &mut progress)?)
}

fn cpu(args: &ModelArgs) -> anyhow::Result<Cpu> {
    let n_threads = args.threads.unwrap_or_else(default_threads);
    let n_cores = num_cpus::get();
    if n_threads > n_cores {
        tracing::warn!("{n_threads} threads on {n_cores} cores wait for each other");
    }
    Ok(Cpu::new(n_threads)?)
}

/// Threads to compute with where nothing is said: the physical cores. Two threads that share
/// a core's vector units get in each other's way.
pub(crate) fn default_threads() -> usize {
    num_cpus::get_physical().clamp(1, num_cpus::get().max(1))
}

pub(crate) use gpu::install_emulated;
#[cfg(feature = "cuda")]
pub(crate) use gpu::kv_type;

#[cfg(feature = "cuda")]
mod gpu {
    use onward_kernels::cuda::{Cuda, KvType};

    use crate::args::{KvPrecision, ModelArgs};

    /// How a GPU keeps keys and values.
    pub(crate) fn kv_type(wanted: Option<KvPrecision>) -> KvType {
        match wanted {
            None | Some(KvPrecision::Bf16) => KvType::Bf16,
            Some(KvPrecision::Int8) => KvType::Int8,
        }
    }

    /// A GPU.
    pub(super) fn open(args: &ModelArgs, ordinal: usize) -> anyhow::Result<Cuda> {
        let cuda = Cuda::open(ordinal)?.with_kv(kv_type(args.kv_type));
        Ok(match args.no_graphs {
            true => cuda.without_graphs(),
            false => cuda,
        })
    }

    /// The emulated device.
    pub(super) fn emulated(args: &ModelArgs) -> anyhow::Result<Cuda> {
        install_emulated()?;
        open(args, 0)
    }

    /// Puts the emulated device in the driver's place.
    #[cfg(feature = "emulated")]
    pub(crate) fn install_emulated() -> anyhow::Result<()> {
        onward_emulator::Emulator::install(onward_emulator::Build::Optimised)?;
        Ok(())
    }

    /// Puts the emulated device in the driver's place; this build is without it.
    #[cfg(not(feature = "emulated"))]
    pub(crate) fn install_emulated() -> anyhow::Result<()> {
        anyhow::bail!(
            "this build has no emulated device: it was built without the emulated feature"
        )
    }
}

#[cfg(not(feature = "cuda"))]
mod gpu {
    use onward_kernels::Cpu;
    use onward_kernels::cuda::CudaError;

    use crate::args::ModelArgs;

    /// No GPU: the type only stands for one.
    pub(super) fn open(_args: &ModelArgs, _ordinal: usize) -> anyhow::Result<Cpu> {
        Err(CudaError::NotBuilt.into())
    }

    /// Nothing to put in a driver's place.
    pub(crate) fn install_emulated() -> anyhow::Result<()> {
        Err(CudaError::NotBuilt.into())
    }

    /// No emulated one either.
    pub(super) fn emulated(_args: &ModelArgs) -> anyhow::Result<Cpu> {
        Err(CudaError::NotBuilt.into())
    }
}
