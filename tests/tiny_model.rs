//! A Llama model small enough to be made on the spot, whole enough to generate with.
//!
//! Two layers of width 64 with random weights in a mixture of formats, and a full vocabulary.
//! What it says is noise; that it runs, and what happens when one thing about it is broken, is
//! what it is for.

use onward_kernels::Format;
use onward_kernels::quant::quantise;

use crate::gguf_file::{GgufFile, Meta, TensorSpec};

/// Layers.
pub const N_LAYERS: usize = 2;
/// Width of the residual stream.
pub const N_EMBD: usize = 64;
/// Query heads.
pub const N_HEADS: usize = 4;
/// Key and value heads.
pub const N_KV_HEADS: usize = 2;
/// Width of a head.
pub const HEAD_DIM: usize = 16;
/// Width of the feed-forward layer; one K-quant block.
pub const N_FF: usize = 256;
/// Positions.
pub const N_CTX: usize = 256;

/// The chat template of both models.
pub const CHAT_TEMPLATE: &str = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}\
     {% if add_generation_prompt %}[assistant] {% endif %}";

/// A model with a SentencePiece vocabulary and byte fallback.
pub fn llama() -> GgufFile {
    let vocabulary = sentencepiece();
    let n_vocab = vocabulary.tokens.len();
    let mut file = hyperparameters(n_vocab);
    file.set("tokenizer.ggml.model", text("llama"));
    file.set("tokenizer.ggml.pre", text("default"));
    file.set("tokenizer.ggml.tokens", Meta::Strs(vocabulary.tokens));
    file.set("tokenizer.ggml.scores", Meta::F32s(vocabulary.scores));
    file.set("tokenizer.ggml.token_type", Meta::I32s(vocabulary.types));
    file.set("tokenizer.ggml.bos_token_id", Meta::U32(1));
    file.set("tokenizer.ggml.eos_token_id", Meta::U32(2));
    file.set("tokenizer.ggml.unknown_token_id", Meta::U32(0));
    file.set("tokenizer.ggml.add_bos_token", Meta::Bool(true));
    file.set("tokenizer.ggml.add_eos_token", Meta::Bool(false));
    file.set("tokenizer.chat_template", text(CHAT_TEMPLATE));
    file.tensors = tensors(n_vocab);
    file
}

/// The same model with a byte-level BPE vocabulary.
pub fn llama_bpe() -> GgufFile {
    let (tokens, merges) = byte_level();
    let n_vocab = tokens.len();
    let mut types = vec![1; n_vocab];
    types[n_vocab - 1] = 3;
    let end = n_vocab as u32 - 1;
    let mut file = hyperparameters(n_vocab);
    file.set("tokenizer.ggml.model", text("gpt2"));
    file.set("tokenizer.ggml.pre", text("llama-bpe"));
    file.set("tokenizer.ggml.tokens", Meta::Strs(tokens));
    file.set("tokenizer.ggml.token_type", Meta::I32s(types));
    file.set("tokenizer.ggml.merges", Meta::Strs(merges));
    file.set("tokenizer.ggml.bos_token_id", Meta::U32(end));
    file.set("tokenizer.ggml.eos_token_id", Meta::U32(end));
    file.set("tokenizer.ggml.add_bos_token", Meta::Bool(true));
    file.set("tokenizer.chat_template", text(CHAT_TEMPLATE));
    file.tensors = tensors(n_vocab);
    file
}

fn text(text: &str) -> Meta {
    Meta::Str(text.to_owned())
}

fn hyperparameters(n_vocab: usize) -> GgufFile {
    let mut file = GgufFile::default();
    file.set("general.architecture", text("llama"));
    file.set("general.name", text("tiny random llama"));
    file.set("general.alignment", Meta::U32(32));
    for (key, number) in [
        ("vocab_size", n_vocab),
        ("block_count", N_LAYERS),
        ("context_length", N_CTX),
        ("embedding_length", N_EMBD),
        ("feed_forward_length", N_FF),
        ("attention.head_count", N_HEADS),
        ("attention.head_count_kv", N_KV_HEADS),
        ("rope.dimension_count", HEAD_DIM),
    ] {
        file.set(&format!("llama.{key}"), Meta::U32(number as u32));
    }
    file.set("llama.attention.layer_norm_rms_epsilon", Meta::F32(1e-5));
    file.set("llama.rope.freq_base", Meta::F32(10_000.0));
    file
}

fn ggml_type(format: Format) -> u32 {
    format.ggml_type().expect("a format of GGUF files")
}

fn tensors(n_vocab: usize) -> Vec<TensorSpec> {
    let mut random = Random(1);
    let mut matrix = |name: &str, format: Format, rows: usize, cols: usize, amplitude: f32| {
        let weights: Vec<f32> = (0..rows * cols)
            .map(|_| amplitude * random.uniform())
            .collect();
        TensorSpec {
            name: name.to_owned(),
            dims: vec![cols as u64, rows as u64],
            ggml_type: ggml_type(format),
            data: quantise(format, &weights).expect("rows are whole blocks"),
            offset: None,
        }
    };
    let norm = |name: &str| TensorSpec {
        name: name.to_owned(),
        dims: vec![N_EMBD as u64],
        ggml_type: ggml_type(Format::F32),
        data: [1.0f32; N_EMBD]
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect(),
        offset: None,
    };
    let (q, kv) = (N_HEADS * HEAD_DIM, N_KV_HEADS * HEAD_DIM);
    let mut tensors = vec![
        matrix("token_embd.weight", Format::Q8_0, n_vocab, N_EMBD, 1.0),
        norm("output_norm.weight"),
        matrix("output.weight", Format::Q4_0, n_vocab, N_EMBD, 0.4),
    ];
    let down = [Format::Q6K, Format::Q4K];
    for (layer, down) in down.into_iter().enumerate() {
        let mut add = |name: &str, format, rows, cols| {
            let name = format!("blk.{layer}.{name}.weight");
            tensors.push(matrix(&name, format, rows, cols, 0.2));
        };
        add("attn_q", Format::Q4_0, q, N_EMBD);
        add("attn_k", Format::Q8_0, kv, N_EMBD);
        add("attn_v", Format::F16, kv, N_EMBD);
        add("attn_output", Format::Q5_1, N_EMBD, q);
        add("ffn_gate", Format::Q4_1, N_FF, N_EMBD);
        add("ffn_up", Format::Q5_0, N_FF, N_EMBD);
        add("ffn_down", down, N_EMBD, N_FF);
        tensors.push(norm(&format!("blk.{layer}.attn_norm.weight")));
        tensors.push(norm(&format!("blk.{layer}.ffn_norm.weight")));
    }
    tensors
}

struct Vocabulary {
    tokens: Vec<String>,
    scores: Vec<f32>,
    types: Vec<i32>,
}

/// Pieces longer than a character; every prefix that merging needs comes before.
const PIECES: [&str; 12] = [
    "▁t", "he", "▁the", "in", "er", "on", "▁a", "an", "▁w", "or", "ld", "▁wor",
];

/// Control tokens, all bytes, `▁`, the letters, and some longer pieces.
fn sentencepiece() -> Vocabulary {
    let (normal, unknown, control, byte) = (1, 2, 3, 6);
    let mut vocabulary = Vocabulary {
        tokens: Vec::new(),
        scores: Vec::new(),
        types: Vec::new(),
    };
    let mut add = |token: String, score: f32, kind: i32| {
        vocabulary.tokens.push(token);
        vocabulary.scores.push(score);
        vocabulary.types.push(kind);
    };
    add("<unk>".to_owned(), 0.0, unknown);
    add("<s>".to_owned(), 0.0, control);
    add("</s>".to_owned(), 0.0, control);
    for value in 0..=255u8 {
        add(format!("<0x{value:02X}>"), 0.0, byte);
    }
    for (rank, piece) in PIECES.iter().enumerate() {
        add((*piece).to_owned(), -(rank as f32), normal);
    }
    for (rank, letter) in std::iter::once('▁').chain('a'..='z').enumerate() {
        add(letter.to_string(), -100.0 - rank as f32, normal);
    }
    vocabulary
}

/// The 256 characters that stand for bytes, some merges with what they make, and an end.
fn byte_level() -> (Vec<String>, Vec<String>) {
    let mut tokens: Vec<String> = (0..=255).map(|byte| byte_char(byte).to_string()).collect();
    let merges = [
        "h e", "Ġ t", "Ġt he", "i n", "e r", "o n", "o r", "l d", "Ġ w", "Ġw or", "Ġwor ld",
    ];
    tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    tokens.push("<|endoftext|>".to_owned());
    (
        tokens,
        merges.iter().map(|&merge| merge.to_owned()).collect(),
    )
}

/// GPT-2's character for a byte: itself where it is printable Latin-1, else the next one from
/// U+0100 on.
fn byte_char(byte: u8) -> char {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return char::from(byte);
    }
    let rank = (0..byte).filter(|&b| !printable(b)).count() as u32;
    char::from_u32(0x100 + rank).expect("there are 68 of them")
}

/// Numbers that are the same on every machine: a 64-bit linear congruential generator.
pub struct Random(pub u64);

impl Random {
    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// An index below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.bits()) * n as u64) >> 32) as usize
    }

    /// Between -1 and 1.
    pub fn uniform(&mut self) -> f32 {
        self.bits() as f32 / (1u64 << 31) as f32 - 1.0
    }
}
