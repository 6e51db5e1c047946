//! Engines.

use std::ffi::c_char;

use onward_engine::formats::ModelFile;
use onward_engine::{Engine, EngineOptions, Service, ServiceOptions};
use onward_kernels::{Backend, Cpu, Reference};

use crate::status::{Failure, OnwardStatus, alone, call, invalid, shared, text};

/// A loaded model that serves requests on a thread of its own.
pub struct OnwardEngine {
    pub(crate) service: Service,
}

/// What is fixed when a model is loaded. Begin with [`onward_default_options`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct OnwardOptions {
    /// `cpu`, `cuda`, `cuda:N` or `reference`; null for `cpu`.
    pub device: *const c_char,
    /// Positions a sequence may reach; 0 for what the model was trained for.
    pub n_ctx: usize,
    /// Requests that are served at the same time.
    pub n_sequences: usize,
    /// The most tokens of one forward pass.
    pub chunk: usize,
    /// Requests that may wait.
    pub max_queue: usize,
    /// Threads of the CPU; 0 for one on each core.
    pub n_threads: usize,
}

/// The usual options.
#[unsafe(no_mangle)]
pub extern "C" fn onward_default_options() -> OnwardOptions {
    let options = EngineOptions::default();
    OnwardOptions {
        device: std::ptr::null(),
        n_ctx: 0,
        n_sequences: options.n_sequences,
        chunk: options.chunk,
        max_queue: ServiceOptions::default().max_queue,
        n_threads: 0,
    }
}

/// Loads the model at `path`, a GGUF file or a directory of safetensors, and starts serving.
/// `options` may be null for the usual ones. `engine` is set to the engine, which is to be freed by
/// [`onward_free`], or to null.
///
/// # Safety
/// `path` is a text, `options` null or options, `engine` a place for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onward_create(
    path: *const c_char,
    options: *const OnwardOptions,
    engine: *mut *mut OnwardEngine,
) -> OnwardStatus {
    call(|| {
        // SAFETY: by the caller.
        let place = unsafe { alone("the place for the engine", engine) }?;
        *place = std::ptr::null_mut();
        // SAFETY: by the caller.
        let path = unsafe { text("the path", path) }?;
        let options = match options.is_null() {
            true => onward_default_options(),
            // SAFETY: by the caller.
            false => *unsafe { shared("the options", options) }?,
        };
        let device = match options.device.is_null() {
            true => "cpu",
            // SAFETY: by the caller.
            false => unsafe { text("the device", options.device) }?,
        };
        let engine = load(path, &options, device)?;
        let service = Service::start(
            engine,
            ServiceOptions {
                max_queue: options.max_queue,
            },
        );
        *place = Box::into_raw(Box::new(OnwardEngine { service }));
        Ok(())
    })
}

/// Frees an engine. Its requests may be freed before or after; those under way are served to their
/// ends. Null is ignored.
///
/// # Safety
/// `engine` is null or from [`onward_create`], and not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onward_free(engine: *mut OnwardEngine) {
    call(|| {
        if !engine.is_null() {
            // SAFETY: by the caller it is from a box, and nobody has it any more.
            drop(unsafe { Box::from_raw(engine) });
        }
        Ok(())
    });
}

fn load(path: &str, options: &OnwardOptions, device: &str) -> Result<Engine, Failure> {
    let file = ModelFile::open(path.as_ref()).map_err(failed)?;
    let engine_options = EngineOptions {
        n_ctx: (options.n_ctx > 0).then_some(options.n_ctx),
        n_sequences: options.n_sequences,
        chunk: options.chunk,
        ..EngineOptions::default()
    };
    match device {
        "cpu" => {
            let n_threads = match options.n_threads {
                0 => num_cpus::get_physical(),
                n_threads => n_threads,
            };
            load_on(&file, Cpu::new(n_threads).map_err(failed)?, &engine_options)
        }
        "reference" => load_on(&file, Reference::new(), &engine_options),
        _ => load_on_gpu(&file, device, &engine_options),
    }
}

fn load_on(
    file: &ModelFile,
    backend: impl Backend,
    options: &EngineOptions,
) -> Result<Engine, Failure> {
    Engine::load(file, backend, options, &mut |_| ()).map_err(failed)
}

#[cfg(feature = "cuda")]
fn load_on_gpu(file: &ModelFile, device: &str, options: &EngineOptions) -> Result<Engine, Failure> {
    let ordinal = match device {
        "cuda" => Some(0),
        _ => (device.strip_prefix("cuda:")).and_then(|number| number.parse().ok()),
    };
    let ordinal = ordinal.ok_or_else(|| unknown(device))?;
    let cuda = onward_kernels::cuda::Cuda::open(ordinal).map_err(failed)?;
    load_on(file, cuda, options)
}

#[cfg(not(feature = "cuda"))]
fn load_on_gpu(_: &ModelFile, device: &str, _: &EngineOptions) -> Result<Engine, Failure> {
    Err(unknown(device))
}

fn unknown(device: &str) -> Failure {
    invalid(format!(
        "there is no device {device}: cpu, cuda, cuda:N or reference is wanted"
    ))
}

fn failed(error: impl std::fmt::Display) -> Failure {
    (OnwardStatus::LoadFailed, error.to_string())
}
