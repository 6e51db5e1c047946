//! What a weight is for, and what the two kinds of files call it.

/// The job of a tensor in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Token embeddings `[vocab, width]`.
    Embedding,
    /// The norm before the head `[width]`.
    OutputNorm,
    /// The head `[vocab, width]`.
    Output,
    /// The norm before attention `[width]`.
    AttentionNorm,
    /// Query projection `[q_width, width]`.
    Query,
    /// Key projection `[kv_width, width]`.
    Key,
    /// Value projection `[kv_width, width]`.
    Value,
    /// Query bias `[q_width]`.
    QueryBias,
    /// Key bias `[kv_width]`.
    KeyBias,
    /// Value bias `[kv_width]`.
    ValueBias,
    /// Norm over query heads `[head_dim]`.
    QueryNorm,
    /// Norm over key heads `[head_dim]`.
    KeyNorm,
    /// Output projection `[width, q_width]`.
    AttentionOutput,
    /// Its bias `[width]`.
    AttentionOutputBias,
    /// The norm after attention `[width]`.
    PostAttentionNorm,
    /// The norm before the feed-forward half `[width]`.
    FeedForwardNorm,
    /// Gate projection `[ff_width, width]`.
    Gate,
    /// Up projection `[ff_width, width]`.
    Up,
    /// Down projection `[width, ff_width]`.
    Down,
    /// The norm after the feed-forward half `[width]`.
    PostFeedForwardNorm,
}

/// Which convention a file follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// GGUF: `blk.0.attn_q.weight`.
    Gguf,
    /// Hugging Face transformers: `model.layers.0.self_attn.q_proj.weight`. With post-norms
    /// (Gemma), `post_attention_layernorm` means what it says; in other families it is the norm
    /// before the feed-forward half.
    Hub {
        /// Whether the family has norms after each half.
        post_norms: bool,
    },
}

impl Naming {
    /// The name of the tensor with this role in layer `layer` (ignored outside the layers).
    pub(super) fn name(self, role: Role, layer: usize) -> String {
        match self {
            Self::Gguf => gguf_name(role, layer),
            Self::Hub { post_norms } => hub_name(role, layer, post_norms),
        }
    }
}

fn gguf_name(role: Role, layer: usize) -> String {
    let tail = match role {
        Role::Embedding => return "token_embd.weight".to_owned(),
        Role::OutputNorm => return "output_norm.weight".to_owned(),
        Role::Output => return "output.weight".to_owned(),
        Role::AttentionNorm => "attn_norm.weight",
        Role::Query => "attn_q.weight",
        Role::Key => "attn_k.weight",
        Role::Value => "attn_v.weight",
        Role::QueryBias => "attn_q.bias",
        Role::KeyBias => "attn_k.bias",
        Role::ValueBias => "attn_v.bias",
        Role::QueryNorm => "attn_q_norm.weight",
        Role::KeyNorm => "attn_k_norm.weight",
        Role::AttentionOutput => "attn_output.weight",
        Role::AttentionOutputBias => "attn_output.bias",
        Role::PostAttentionNorm => "post_attention_norm.weight",
        Role::FeedForwardNorm => "ffn_norm.weight",
        Role::Gate => "ffn_gate.weight",
        Role::Up => "ffn_up.weight",
        Role::Down => "ffn_down.weight",
        Role::PostFeedForwardNorm => "post_ffw_norm.weight",
    };
    format!("blk.{layer}.{tail}")
}

fn hub_name(role: Role, layer: usize, post_norms: bool) -> String {
    let tail = match role {
        Role::Embedding => return "model.embed_tokens.weight".to_owned(),
        Role::OutputNorm => return "model.norm.weight".to_owned(),
        Role::Output => return "lm_head.weight".to_owned(),
        Role::AttentionNorm => "input_layernorm.weight",
        Role::Query => "self_attn.q_proj.weight",
        Role::Key => "self_attn.k_proj.weight",
        Role::Value => "self_attn.v_proj.weight",
        Role::QueryBias => "self_attn.q_proj.bias",
        Role::KeyBias => "self_attn.k_proj.bias",
        Role::ValueBias => "self_attn.v_proj.bias",
        Role::QueryNorm => "self_attn.q_norm.weight",
        Role::KeyNorm => "self_attn.k_norm.weight",
        Role::AttentionOutput => "self_attn.o_proj.weight",
        Role::AttentionOutputBias => "self_attn.o_proj.bias",
        Role::PostAttentionNorm => "post_attention_layernorm.weight",
        Role::FeedForwardNorm if post_norms => "pre_feedforward_layernorm.weight",
        Role::FeedForwardNorm => "post_attention_layernorm.weight",
        Role::Gate => "mlp.gate_proj.weight",
        Role::Up => "mlp.up_proj.weight",
        Role::Down => "mlp.down_proj.weight",
        Role::PostFeedForwardNorm => "post_feedforward_layernorm.weight",
    };
    format!("model.layers.{layer}.{tail}")
}
