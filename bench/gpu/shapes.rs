//! The shapes of the models that are measured.

use clap::ValueEnum;

/// A model whose shape is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// Large enough to run, for quick tests.
    Tiny,
    /// Llama 3.2 1B.
    #[value(name = "llama-3.2-1b")]
    Llama1B,
    /// Qwen 3 4B.
    #[value(name = "qwen3-4b")]
    Qwen4B,
    /// Llama 3.1 8B.
    #[value(name = "llama-3.1-8b")]
    Llama8B,
}

/// The numbers of a shape, as the `config.json` of the model says them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// As GGUF files name it.
    pub(crate) architecture: &'static str,
    pub(crate) n_layers: usize,
    pub(crate) width: usize,
    pub(crate) ff_width: usize,
    pub(crate) n_heads: usize,
    pub(crate) n_kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) vocab: usize,
    /// Whether the embedding is the output head.
    pub(crate) is_tied: bool,
    pub(crate) rope_base: f32,
    /// Whether queries and keys are normalised.
    pub(crate) has_head_norms: bool,
}

impl Shape {
    /// As the command line names it.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub(crate) fn sizes(self) -> Sizes {
        let llama = Sizes {
            architecture: "llama",
            n_layers: 32,
            width: 4096,
            ff_width: 14_336,
            n_heads: 32,
            n_kv_heads: 8,
            head_dim: 128,
            vocab: 128_256,
            is_tied: false,
            rope_base: 500_000.0,
            has_head_norms: false,
        };
        match self {
            Self::Llama8B => llama,
            Self::Llama1B => Sizes {
                n_layers: 16,
                width: 2048,
                ff_width: 8192,
                head_dim: 64,
                is_tied: true,
                ..llama
            },
            Self::Qwen4B => Sizes {
                architecture: "qwen3",
                n_layers: 36,
                width: 2560,
                ff_width: 9728,
                vocab: 151_936,
                is_tied: true,
                rope_base: 1_000_000.0,
                has_head_norms: true,
                ..llama
            },
            Self::Tiny => Sizes {
                n_layers: 2,
                width: 256,
                ff_width: 512,
                n_heads: 4,
                n_kv_heads: 2,
                head_dim: 64,
                vocab: 512,
                is_tied: true,
                ..llama
            },
        }
    }
}

impl Sizes {
    pub(crate) fn q_width(&self) -> usize {
        self.n_heads * self.head_dim
    }

    pub(crate) fn kv_width(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }

    /// Weights that a token is multiplied with, the head's among them.
    pub(crate) fn n_weights(&self) -> usize {
        let attention = self.width * (2 * self.q_width() + 2 * self.kv_width());
        let layer = attention + 3 * self.width * self.ff_width;
        self.n_layers * layer + self.vocab * self.width
    }

    /// Bytes of keys and values, in bf16, that a position has.
    pub(crate) fn kv_bytes(&self) -> usize {
        2 * 2 * self.n_layers * self.kv_width()
    }

    /// Additions and multiplications of a prompt of `n` tokens; the head runs for the last one.
    pub(crate) fn prefill_flops(&self, n: usize) -> usize {
        let head = self.vocab * self.width;
        let products = 2 * (n * (self.n_weights() - head) + head);
        products + 4 * self.n_layers * self.q_width() * n * (n + 1) / 2
    }
}
