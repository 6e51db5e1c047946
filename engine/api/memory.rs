//! How much memory a model takes on a device, before it is loaded.

use onward_kernels::decode::DecodeShape;
use onward_kernels::memory::{MemoryPlan, ModelShape};
use onward_kernels::{Backend, KvShape, PAGE_TOKENS};

use super::load::EngineOptions;
use crate::decode::LOGIT_ROWS;
use crate::error::{Error, Result};
use crate::formats::ModelFile;
use crate::model::{Loader, ModelConfig, Room};

/// The memory that a model takes with these options on the device whose `plan` it is:
/// [`onward_kernels::cpu::plan`] or its like for another one. Needs no device.
///
/// # Errors
/// A file that is no model, or a model of an unsupported kind.
pub fn memory_plan(
    file: &ModelFile,
    options: &EngineOptions,
    plan: impl FnOnce(&ModelShape<'_>) -> MemoryPlan,
) -> Result<MemoryPlan> {
    let config = ModelConfig::from_file(file)?;
    options.check(&config)?;
    let loader = Loader::for_file(file, &config)?;
    let room = room(&config, options);
    Ok(plan(&shape(&loader, &config, &room)?))
}

/// What these options ask for beside the weights. The cache's last page is the decoder's spare
/// one.
pub(super) fn room(config: &ModelConfig, options: &EngineOptions) -> Room {
    let n_ctx = options.context(config);
    let all = options
        .n_sequences
        .saturating_mul(n_ctx.div_ceil(PAGE_TOKENS));
    let n_pages = options
        .cache_tokens
        .map_or(all, |tokens| tokens.div_ceil(PAGE_TOKENS));
    Room {
        // A step has a row for each sequence, and a GPU's some more.
        max_rows: options.chunk.max(options.n_sequences.next_power_of_two()),
        kv: KvShape {
            n_pages: n_pages + 1,
            layers: config
                .layers
                .iter()
                .map(|layer| (layer.attention.n_kv_heads, layer.attention.head_dim))
                .collect(),
        },
        decode: DecodeShape {
            n_slots: options.n_sequences,
            n_logits: LOGIT_ROWS.max(options.n_sequences.next_power_of_two()),
            vocab: config.vocab_size,
            n_ctx,
            spare_page: n_pages as u32,
        },
    }
}

/// What takes memory of a model.
pub(super) fn shape<'a>(
    loader: &Loader<'a>,
    config: &'a ModelConfig,
    room: &Room,
) -> Result<ModelShape<'a>> {
    let layers = || config.layers.iter().map(|layer| &layer.attention);
    let rope = layers().filter_map(|attention| attention.rope.as_ref());
    Ok(ModelShape {
        stacks: loader.stacks(room.max_rows, room.decode.n_logits)?,
        vectors: loader.vectors(),
        frequencies: rope.map(|rope| &rope.inverse_frequencies[..]).collect(),
        n_heads: layers().map(|attention| attention.n_heads).collect(),
        max_rows: room.max_rows,
        columns: columns(config),
        kv: room.kv.clone(),
        decode: room.decode,
    })
}

/// Columns of the buffers that the forward pass lists.
fn columns(config: &ModelConfig) -> usize {
    3 * config.width
        + config.max_qkv_width()
        + config.max_q_width()
        + config.max_feed_forward_width()
}

/// Holds the plan against what the device has free.
///
/// # Errors
/// [`Error::TooLittleMemory`] with the numbers and the largest context that fits.
pub(super) fn check<B: Backend>(
    backend: &B,
    loader: &Loader<'_>,
    config: &ModelConfig,
    options: &EngineOptions,
    plan: &MemoryPlan,
) -> Result<()> {
    let Some(free) = backend.free_bytes()? else {
        return Ok(());
    };
    if plan.beside_context() <= free {
        return Ok(());
    }
    let fits = |n_pages: usize| {
        let options = EngineOptions {
            n_ctx: Some(n_pages * PAGE_TOKENS),
            ..options.clone()
        };
        let shape = shape(loader, config, &room(config, &options))?;
        Ok(backend.plan(&shape).beside_context() <= free)
    };
    let n_pages = largest(options.context(config).div_ceil(PAGE_TOKENS), fits)?;
    let advice = match n_pages {
        0 => "not even the shortest context fits".to_owned(),
        n_pages => format!(
            "a context of {} fits, which is set with --ctx-size",
            n_pages * PAGE_TOKENS
        ),
    };
    Err(Error::TooLittleMemory(format!(
        "the model needs {} MB on the device {} ({}), but {} MB are free; {advice}",
        megabytes(plan.beside_context()),
        backend.name(),
        purposes(plan),
        free / 1_000_000,
    )))
}

/// The largest number below `end` for which `fits` holds, which it does for all smaller ones; 0
/// where it holds for none.
fn largest(end: usize, fits: impl Fn(usize) -> Result<bool>) -> Result<usize> {
    let (mut most, mut end) = (0, end);
    while most + 1 < end {
        let middle = most.midpoint(end);
        match fits(middle)? {
            true => most = middle,
            false => end = middle,
        }
    }
    Ok(most)
}

/// `weights 3100, KV cache 1500`: every purpose that takes memory at the peak, in MB.
fn purposes(plan: &MemoryPlan) -> String {
    let passes = [
        ("KV cache", plan.kv_cache),
        ("decoder", plan.decoder),
        ("activations", plan.activations),
        ("scratch", plan.scratch),
    ];
    let mut purposes = vec![("weights", plan.weights)];
    match plan.resident() < plan.allocated() {
        true => purposes.push(("loading", plan.loading)),
        false => purposes.extend(passes),
    }
    purposes.push(("graphs", plan.graphs));
    let purposes = purposes.iter().filter(|(_, bytes)| *bytes > 0);
    let texts: Vec<String> = purposes
        .map(|(name, bytes)| format!("{name} {}", megabytes(*bytes)))
        .collect();
    texts.join(", ")
}

/// Rounded up, so that what does not fit is more than what is free.
fn megabytes(bytes: usize) -> usize {
    bytes.div_ceil(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_that_fits_is_found_for_every_bound() {
        for end in 1..40 {
            for bound in 0..end {
                assert_eq!(largest(end, |n| Ok(n <= bound)).unwrap(), bound);
            }
        }
    }
}
