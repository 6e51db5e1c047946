//! The inspection as a page for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Group, Inspection, Memory, Shape};
use crate::output::{self, Style, counted};

// Writing to a String cannot fail, so the results are not looked at.

/// The whole page.
pub(super) fn text(inspection: &Inspection, style: Style) -> String {
    let mut out = String::new();
    let title = match &inspection.name {
        Some(name) => format!("{} ({})", output::one_line(name, 100), inspection.family),
        None => inspection.family.clone(),
    };
    let _ = writeln!(out, "{}", style.bold(title));
    let _ = writeln!(out, "  {}", style.dim(inspection.path.display()));
    let parameters = ("parameters", millions(inspection.parameters));
    for (name, value) in [parameters].into_iter().chain(shape(&inspection.shape)) {
        let _ = writeln!(out, "  {name:<14}{value}");
    }
    for (title, groups) in [
        ("Weights by kind", &inspection.kinds),
        ("Weights by format", &inspection.formats),
    ] {
        let _ = writeln!(out, "{}", style.bold(title));
        write_groups(&mut out, groups);
    }
    write_memory(&mut out, &inspection.memory, style);
    out
}

fn shape(shape: &Shape) -> [(&'static str, String); 6] {
    let window = shape.window.map_or_else(String::new, |window| {
        format!("; a window of {window} in {} layers", shape.n_window_layers)
    });
    let attention = format!(
        "{}, {} of {}{window}",
        counted(shape.n_heads, "query head"),
        counted(shape.n_kv_heads, "key/value head"),
        shape.head_dim,
    );
    let tied = if shape.tied_embeddings {
        " (one table for input and output)"
    } else {
        ""
    };
    [
        ("layers", shape.n_layers.to_string()),
        ("width", shape.width.to_string()),
        ("attention", attention),
        ("feed-forward", shape.feed_forward_width.to_string()),
        ("vocabulary", format!("{}{tied}", shape.vocab_size)),
        ("context", format!("{} tokens", shape.n_ctx_train)),
    ]
}

fn write_groups(out: &mut String, groups: &BTreeMap<&'static str, Group>) {
    for (name, group) in groups {
        let _ = writeln!(
            out,
            "  {name:<14}{:>10}  {:>12}  {:>9} parameters",
            output::bytes(group.bytes),
            counted(group.tensors, "tensor"),
            millions(group.parameters)
        );
    }
}

fn write_memory(out: &mut String, memory: &Memory, style: Style) {
    let sequences = counted(memory.sequences, "sequence");
    let heading = format!(
        "Memory for {sequences} of {} tokens on the device {}",
        memory.context, memory.device
    );
    let _ = writeln!(out, "{}", style.bold(heading));
    for (name, bytes) in [
        ("weights", memory.weights),
        ("KV cache", memory.kv_cache),
        ("decoder", memory.decoder),
        ("activations", memory.activations),
        ("scratch", memory.scratch),
        ("graphs", memory.graphs),
        ("driver", memory.driver),
        ("together", memory.total),
    ] {
        if bytes == 0 {
            continue;
        }
        let _ = writeln!(out, "  {name:<14}{:>10}", output::bytes(bytes as u64));
    }
}

/// `268.1 M`.
fn millions(n: u64) -> String {
    match n {
        0..100_000 => n.to_string(),
        100_000..1_000_000_000 => format!("{:.1} M", n as f64 / 1e6),
        _ => format!("{:.2} B", n as f64 / 1e9),
    }
}
