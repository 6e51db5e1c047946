//! A vocabulary as model files describe it: token texts, their kinds, and how text is cut.

use crate::pre_tokenizer;

/// How text is cut into the tokens of a vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VocabularyKind {
    /// SentencePiece-style BPE (`tokenizer.ggml.model` = `llama`): the adjacent pair whose
    /// concatenation has the best score merges first, `▁` stands for a space, and what no token
    /// covers is spelled in byte tokens `<0xNN>`.
    SentencePiece {
        /// Whether a space is put before the text, and before text that follows a special token.
        add_space_prefix: bool,
    },
    /// Byte-level BPE (`tokenizer.ggml.model` = `gpt2`): a ranked list of merges over bytes that
    /// are written as printable characters.
    ByteLevelBpe {
        /// Name of the rules that split text before merging (`tokenizer.ggml.pre`).
        pre: String,
    },
}

impl VocabularyKind {
    /// Whether prompts begin with a BOS token when the model file does not say so itself.
    pub fn adds_bos_by_default(&self) -> bool {
        match self {
            Self::SentencePiece { .. } => true,
            Self::ByteLevelBpe { pre } => {
                pre_tokenizer::find(pre).is_some_and(|rules| rules.adds_bos)
            }
        }
    }
}

/// What a token is for. The discriminants are the codes of `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum TokenType {
    /// Ordinary text, the only kind that merging produces.
    Normal = 1,
    /// Stands for what the vocabulary cannot express.
    Unknown = 2,
    /// Structure, not text: begin, end, roles of a conversation.
    Control = 3,
    /// Text that is matched literally before anything is merged.
    UserDefined = 4,
    /// A placeholder; never produced.
    Unused = 5,
    /// One byte, written `<0xNN>`.
    Byte = 6,
}

impl TokenType {
    /// The type behind a code of `tokenizer.ggml.token_type`, if the code is one.
    pub fn from_code(code: i64) -> Option<Self> {
        Some(match code {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }

    /// Whether the token's text is looked for in the input before any merging.
    pub(crate) fn is_added(self) -> bool {
        matches!(self, Self::Unknown | Self::Control | Self::UserDefined)
    }

    /// Whether the token is structure rather than text.
    pub(crate) fn is_special(self) -> bool {
        matches!(self, Self::Unknown | Self::Control)
    }
}

/// The vocabulary of a model file, borrowed from it.
#[derive(Debug, Clone)]
pub struct Vocabulary<'a> {
    /// How text is cut.
    pub kind: VocabularyKind,
    /// Text of each token; the index is the id.
    pub tokens: Vec<&'a str>,
    /// Score of each token; higher merges first. Empty for byte-level BPE.
    pub scores: Vec<f32>,
    /// Type of each token.
    pub types: Vec<TokenType>,
    /// Merges `"left right"`, best first. Empty for SentencePiece.
    pub merges: Vec<&'a str>,
    /// Id of the beginning-of-sequence token.
    pub bos: Option<u32>,
    /// Id of the end-of-sequence token.
    pub eos: Option<u32>,
    /// Id of the token for what the vocabulary cannot express.
    pub unknown: Option<u32>,
    /// Ids that end a generation: end of sequence, end of turn and the like.
    pub stop: Vec<u32>,
    /// Whether prompts begin with BOS by default.
    pub add_bos: bool,
    /// Whether prompts end with EOS by default.
    pub add_eos: bool,
}
