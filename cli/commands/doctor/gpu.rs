//! The GPUs of this machine, and which ways through this program they go.

use onward_kernels::cuda;
use serde::Serialize;

use super::Lines;
use crate::args::Device;
use crate::output;

#[derive(Serialize)]
pub(super) struct GpuPart {
    /// The newest CUDA that the driver supports.
    driver: Option<String>,
    /// Why no GPU can be used.
    problem: Option<String>,
    gpus: Vec<Gpu>,
    kernels: Vec<Kernel>,
    /// What a model on the GPU goes through; none where there is no GPU to use.
    paths: Option<Paths>,
}

#[derive(Serialize)]
struct Gpu {
    ordinal: usize,
    name: String,
    compute_capability: String,
    memory_bytes: usize,
    multiprocessors: u32,
}

#[derive(Serialize)]
struct Kernel {
    name: &'static str,
    archs: Vec<String>,
    bytes: usize,
}

/// Where the report lists modules without an image for the GPU.
const NO_IMAGE: &str = "not for this GPU";

/// What is on, on one GPU.
#[derive(Serialize)]
pub(super) struct Paths {
    ordinal: usize,
    free_bytes: Option<usize>,
    images: Vec<Image>,
    graphs: Switch,
    /// Whether the GPU repeats recorded steps by itself.
    #[serde(rename = "loop")]
    looping: Switch,
    hopper: Hopper,
    /// The first is used unless `--kv-type` says otherwise.
    kv_types: [&'static str; 2],
    /// Where tokens are drawn and what repeats a step.
    decoding: String,
}

/// The image of a kernel's module that the GPU runs; none is left out where another does its work.
#[derive(Serialize)]
struct Image {
    module: &'static str,
    target: Option<String>,
}

#[derive(Serialize)]
struct Switch {
    on: bool,
    /// Why it is not.
    reason: Option<String>,
}

#[derive(Serialize)]
struct Hopper {
    on: bool,
    reason: Option<String>,
    /// Formats of weights whose products use Hopper's own instructions.
    formats: Vec<&'static str>,
    /// Widths of heads whose attention does.
    head_widths: Vec<usize>,
}

/// Finds out about the GPUs, and about one of them what is on: the one that is named, or the
/// first. The kernels for Hopper are tried where that is asked for.
pub(super) fn part(device: Option<Device>, try_hopper: bool) -> anyhow::Result<GpuPart> {
    let ordinal = match device {
        None => 0,
        Some(Device::Cuda(ordinal)) => ordinal,
        Some(Device::Emulated) => {
            crate::device::install_emulated()?;
            0
        }
        Some(Device::Cpu | Device::Reference) => {
            anyhow::bail!("--device is for a GPU: cuda or cuda:N")
        }
    };
    let report = cuda::probe();
    let (mut problem, mut found) = (None, None);
    match &report.driver {
        Err(error) => problem = Some(error.to_string()),
        Ok(_) if report.gpus.is_empty() => problem = Some("the driver sees no GPU".to_owned()),
        Ok(_) => match paths(ordinal, try_hopper) {
            Ok(paths) => found = Some(paths),
            Err(error) => problem = Some(error.to_string()),
        },
    }
    let dotted = |(major, minor)| format!("{major}.{minor}");
    Ok(GpuPart {
        driver: report.driver.ok().map(|driver| dotted(driver.version)),
        problem,
        gpus: report
            .gpus
            .into_iter()
            .map(|gpu| Gpu {
                ordinal: gpu.ordinal,
                name: gpu.name,
                compute_capability: dotted(gpu.compute_capability),
                memory_bytes: gpu.memory,
                multiprocessors: gpu.multiprocessors,
            })
            .collect(),
        kernels: report
            .embedded
            .into_iter()
            .map(|kernel| Kernel {
                name: kernel.name,
                archs: kernel.archs,
                bytes: kernel.bytes,
            })
            .collect(),
        paths: found,
    })
}

#[cfg(feature = "cuda")]
fn paths(ordinal: usize, try_hopper: bool) -> anyhow::Result<Paths> {
    use onward_kernels::Backend;

    let mut gpu = cuda::Cuda::open(ordinal)?;
    let images = cuda::chosen_images(gpu.device().gpu().compute_capability);
    let graphs = gpu.check_graphs().err().map(|error| error.to_string());
    let looping = match graphs {
        None => gpu.check_loop().err().map(|error| error.to_string()),
        Some(_) => Some("what it repeats are graphs".to_owned()),
    };
    let hopper = hopper(&mut gpu, try_hopper);
    let repeated = match (&graphs, &looping) {
        (None, None) => "recorded once and repeated as CUDA graphs, in a loop on the GPU",
        (None, Some(_)) => "recorded once and repeated as CUDA graphs, by the host",
        (Some(_), _) => "launched kernel by kernel",
    };
    let switch = |reason: Option<String>| Switch {
        on: reason.is_none(),
        reason,
    };
    Ok(Paths {
        ordinal,
        free_bytes: gpu.free_bytes()?,
        images: images
            .into_iter()
            .map(|image| Image {
                module: image.module,
                target: image.target,
            })
            .collect(),
        graphs: switch(graphs),
        looping: switch(looping),
        hopper,
        kv_types: ["bf16", "int8"],
        decoding: format!("tokens are drawn on the GPU; steps are {repeated}"),
    })
}

#[cfg(not(feature = "cuda"))]
fn paths(_ordinal: usize, _try_hopper: bool) -> anyhow::Result<Paths> {
    Err(cuda::CudaError::NotBuilt.into())
}

#[cfg(feature = "cuda")]
fn hopper(gpu: &mut cuda::Cuda, try_it: bool) -> Hopper {
    let off = |reason: &str| Hopper {
        on: false,
        reason: Some(reason.to_owned()),
        formats: Vec::new(),
        head_widths: Vec::new(),
    };
    match (gpu.can_try_hopper(), try_it) {
        (Err(reason), _) => off(reason),
        (Ok(()), false) => off("not tried; --try-hopper does"),
        (Ok(()), true) => {
            gpu.try_hopper();
            let formats: Vec<_> = gpu.hopper_formats().iter().map(|f| f.name()).collect();
            let head_widths = gpu.hopper_widths().to_vec();
            let on = !formats.is_empty() || !head_widths.is_empty();
            Hopper {
                on,
                reason: (!on).then(|| "tried, and no kernel agrees with the others".to_owned()),
                formats,
                head_widths,
            }
        }
    }
}

/// The part for people.
pub(super) fn lines(gpu: &GpuPart, built_in: bool) -> Lines {
    let mut lines = Vec::new();
    if let Some(version) = &gpu.driver {
        lines.push(("driver", format!("CUDA {version}")));
    }
    lines.extend(gpu.problem.iter().map(|text| ("none to use", text.clone())));
    for gpu in &gpu.gpus {
        lines.push((
            "found",
            format!(
                "{}: {}, {}, compute capability {}, {} multiprocessors",
                gpu.ordinal,
                gpu.name,
                output::bytes(gpu.memory_bytes as u64),
                gpu.compute_capability,
                gpu.multiprocessors
            ),
        ));
    }
    match &gpu.paths {
        Some(paths) => lines.extend(path_lines(paths)),
        None if built_in => lines.extend(gpu.kernels.iter().map(|kernel| {
            let archs = kernel.archs.join(" ");
            let bytes = output::bytes(kernel.bytes as u64);
            ("kernel", format!("{} ({bytes}) for {archs}", kernel.name))
        })),
        None => {}
    }
    lines
}

fn path_lines(paths: &Paths) -> Lines {
    let mut lines = Vec::new();
    if let Some(free) = paths.free_bytes {
        lines.push(("free", output::bytes(free as u64)));
    }
    let mut targets: Vec<&str> = Vec::new();
    for image in &paths.images {
        let target = image.target.as_deref().unwrap_or(NO_IMAGE);
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    for target in targets {
        let of_target = |image: &&Image| image.target.as_deref().unwrap_or(NO_IMAGE) == target;
        let modules: Vec<_> = paths.images.iter().filter(of_target).collect();
        let names: Vec<_> = modules.iter().map(|image| image.module).collect();
        lines.push(("kernels", format!("{target}: {}", names.join(" "))));
    }
    let switch = |on: bool, reason: &Option<String>, more: String| match (on, reason) {
        (true, _) => format!("on{more}"),
        (false, Some(reason)) => format!("off: {reason}"),
        (false, None) => "off".to_owned(),
    };
    let hopper = &paths.hopper;
    let widths: Vec<_> = hopper.head_widths.iter().map(usize::to_string).collect();
    let uses = format!(
        ": products of {}; attention over heads of {}",
        or_none(&hopper.formats.join(" ")),
        or_none(&widths.join(" "))
    );
    let graphs = switch(paths.graphs.on, &paths.graphs.reason, String::new());
    let looping = switch(paths.looping.on, &paths.looping.reason, String::new());
    lines.push(("graphs", graphs));
    lines.push(("loop", looping));
    lines.push(("Hopper paths", switch(hopper.on, &hopper.reason, uses)));
    lines.push(("KV types", paths.kv_types.join(" ")));
    lines.push(("decoding", paths.decoding.clone()));
    lines
}

fn or_none(list: &str) -> &str {
    if list.is_empty() { "none" } else { list }
}
