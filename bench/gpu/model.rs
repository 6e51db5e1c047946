//! A model file with random weights: GGUF, written tensor by tensor.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
use onward_kernels::Format;

use crate::random::weights;
use crate::shapes::Sizes;

/// How the matrices of a model are stored; norms are f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    /// 16 bits.
    Bf16,
    /// 4.5 bits, all matrices alike.
    #[value(name = "q4_k")]
    Q4K,
}

impl Precision {
    pub(crate) fn format(self) -> Format {
        match self {
            Self::Bf16 => Format::Bf16,
            Self::Q4K => Format::Q4K,
        }
    }

    /// As the command line names it.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

const ALIGNMENT: usize = 32;
/// Types of GGUF's metadata.
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// A tensor to write.
struct Tensor {
    name: String,
    format: Format,
    rows: usize,
    cols: usize,
}

impl Tensor {
    fn bytes(&self) -> Result<usize> {
        let row = self.format.row_bytes(self.cols);
        let row = row.with_context(|| format!("{}: rows are no whole blocks", self.name))?;
        Ok(row * self.rows)
    }

    /// Norms are vectors of ones.
    fn data(&self, seed: u64) -> Result<Vec<u8>> {
        match self.format {
            Format::F32 => Ok(1.0_f32.to_le_bytes().repeat(self.cols)),
            format => weights(format, self.rows, self.cols, seed),
        }
    }
}

/// Writes a model of these sizes; `n_ctx` is what it says it was trained for. Returns the bytes of
/// weights that a step of decoding reads.
pub(crate) fn write(path: &Path, sizes: &Sizes, format: Format, n_ctx: usize) -> Result<usize> {
    let what = || format!("cannot write {}", path.display());
    let tensors = tensors(sizes, format);
    let mut out = BufWriter::new(File::create(path).with_context(what)?);
    let head = header(sizes, &tensors, n_ctx)?;
    out.write_all(&head).with_context(what)?;
    let mut read = 0;
    for (seed, tensor) in (1..).zip(&tensors) {
        let data = tensor.data(seed)?;
        // Of the embedding a step reads a few rows alone, unless it is the head, too.
        if sizes.is_tied || !tensor.name.starts_with("token_embd") {
            read += data.len();
        }
        out.write_all(&data).with_context(what)?;
        let padding = data.len().next_multiple_of(ALIGNMENT) - data.len();
        out.write_all(&vec![0; padding]).with_context(what)?;
    }
    out.flush().with_context(what)?;
    Ok(read)
}

fn tensors(sizes: &Sizes, format: Format) -> Vec<Tensor> {
    let tensor = |name: String, format, rows, cols| Tensor {
        name: name + ".weight",
        format,
        rows,
        cols,
    };
    let (width, ff, q, kv) = (
        sizes.width,
        sizes.ff_width,
        sizes.q_width(),
        sizes.kv_width(),
    );
    let mut tensors = vec![
        tensor("token_embd".to_owned(), format, sizes.vocab, width),
        tensor("output_norm".to_owned(), Format::F32, 1, width),
    ];
    if !sizes.is_tied {
        tensors.push(tensor("output".to_owned(), format, sizes.vocab, width));
    }
    for layer in 0..sizes.n_layers {
        let mut add = |name: &str, format, rows, cols| {
            tensors.push(tensor(format!("blk.{layer}.{name}"), format, rows, cols));
        };
        add("attn_norm", Format::F32, 1, width);
        add("attn_q", format, q, width);
        add("attn_k", format, kv, width);
        add("attn_v", format, kv, width);
        add("attn_output", format, width, q);
        if sizes.has_head_norms {
            add("attn_q_norm", Format::F32, 1, sizes.head_dim);
            add("attn_k_norm", Format::F32, 1, sizes.head_dim);
        }
        add("ffn_norm", Format::F32, 1, width);
        add("ffn_gate", format, ff, width);
        add("ffn_up", format, ff, width);
        add("ffn_down", format, width, ff);
    }
    tensors
}

/// All up to the tensors' data.
fn header(sizes: &Sizes, tensors: &[Tensor], n_ctx: usize) -> Result<Vec<u8>> {
    let (n_metadata, metadata) = metadata(sizes, n_ctx);
    let mut out = b"GGUF".to_vec();
    out.extend(3_u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend(n_metadata.to_le_bytes());
    out.extend(metadata);
    let mut offset = 0;
    for tensor in tensors {
        text(&mut out, &tensor.name);
        // Innermost first; a norm has one dimension.
        let shape = [tensor.cols as u64, tensor.rows as u64];
        let shape = &shape[..if tensor.format == Format::F32 { 1 } else { 2 }];
        out.extend((shape.len() as u32).to_le_bytes());
        out.extend(shape.iter().flat_map(|n| n.to_le_bytes()));
        let kind = tensor
            .format
            .ggml_type()
            .context("no format of GGUF files")?;
        out.extend(kind.to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        offset += tensor.bytes()?.next_multiple_of(ALIGNMENT);
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    Ok(out)
}

/// How many pairs, and the pairs.
fn metadata(sizes: &Sizes, n_ctx: usize) -> (u64, Vec<u8>) {
    let (mut out, mut n) = (Vec::new(), 0);
    let mut pair = |key: &str, kind: u32, value: &[u8]| {
        text(&mut out, key);
        out.extend(kind.to_le_bytes());
        out.extend(value);
        n += 1;
    };
    let word = |value: usize| (value as u32).to_le_bytes();
    let architecture = sizes.architecture;
    pair("general.architecture", TEXT, &as_text(architecture));
    for (key, value) in [
        ("vocab_size", sizes.vocab),
        ("block_count", sizes.n_layers),
        ("context_length", n_ctx),
        ("embedding_length", sizes.width),
        ("feed_forward_length", sizes.ff_width),
        ("attention.head_count", sizes.n_heads),
        ("attention.head_count_kv", sizes.n_kv_heads),
        ("attention.key_length", sizes.head_dim),
        ("attention.value_length", sizes.head_dim),
        ("rope.dimension_count", sizes.head_dim),
    ] {
        pair(&format!("{architecture}.{key}"), U32, &word(value));
    }
    for (key, value) in [
        ("attention.layer_norm_rms_epsilon", 1e-5_f32),
        ("rope.freq_base", sizes.rope_base),
    ] {
        pair(&format!("{architecture}.{key}"), F32, &value.to_le_bytes());
    }
    // A SentencePiece vocabulary: three control tokens, the bytes, and words.
    let (unknown, control, byte, normal) = (2, 3, 6, 1);
    let (mut tokens, mut kinds) = (Vec::new(), Vec::new());
    for id in 0..sizes.vocab {
        let (token, kind): (String, i32) = match id {
            0 => ("<unk>".to_owned(), unknown),
            1 => ("<s>".to_owned(), control),
            2 => ("</s>".to_owned(), control),
            3..259 => (format!("<0x{:02X}>", id - 3), byte),
            _ => (format!("w{id}"), normal),
        };
        text(&mut tokens, &token);
        kinds.extend(kind.to_le_bytes());
    }
    let array = |element: u32, values: &[u8]| {
        let mut out = element.to_le_bytes().to_vec();
        out.extend((sizes.vocab as u64).to_le_bytes());
        out.extend(values);
        out
    };
    pair("tokenizer.ggml.model", TEXT, &as_text("llama"));
    pair("tokenizer.ggml.tokens", ARRAY, &array(TEXT, &tokens));
    let scores = vec![0; kinds.len()];
    pair("tokenizer.ggml.scores", ARRAY, &array(F32, &scores));
    pair("tokenizer.ggml.token_type", ARRAY, &array(I32, &kinds));
    for (key, id) in [("bos", 1), ("eos", 2), ("unknown", 0)] {
        pair(&format!("tokenizer.ggml.{key}_token_id"), U32, &word(id));
    }
    (n, out)
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend(as_text(text));
}

fn as_text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}
