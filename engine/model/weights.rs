//! From the tensors of a file to weights on a device.
//!
//! First every tensor is held against what the configuration asks for, and everything missing,
//! extra or wrongly shaped is named at once; only then is anything uploaded.

use std::collections::HashSet;

use onward_kernels::memory::Stack;
use onward_kernels::{Backend, MatrixSource, quant};

use super::config::{LayerConfig, ModelConfig};
use super::names::{Naming, Role};
use crate::error::{Error, Result};
use crate::formats::{TensorSource, TensorView};

/// All weights of a model.
pub(crate) struct Weights<B: Backend> {
    /// `[vocab, width]`.
    pub(crate) embedding: B::Matrix,
    /// `[vocab, width]`; `None` where the embedding is the head.
    pub(crate) output: Option<B::Matrix>,
    /// `[width]`.
    pub(crate) output_norm: B::Buffer,
    /// First to last.
    pub(crate) layers: Vec<LayerWeights<B>>,
}

/// The weights of one layer.
pub(crate) struct LayerWeights<B: Backend> {
    pub(crate) attention_norm: B::Buffer,
    /// Queries, keys and values stacked.
    pub(crate) qkv: B::Matrix,
    pub(crate) qkv_bias: Option<B::Buffer>,
    pub(crate) q_norm: Option<B::Buffer>,
    pub(crate) k_norm: Option<B::Buffer>,
    pub(crate) attention_output: B::Matrix,
    pub(crate) attention_output_bias: Option<B::Buffer>,
    pub(crate) post_attention_norm: Option<B::Buffer>,
    pub(crate) feed_forward_norm: B::Buffer,
    /// Gate and up stacked.
    pub(crate) gate_up: B::Matrix,
    pub(crate) down: B::Matrix,
    pub(crate) post_feed_forward_norm: Option<B::Buffer>,
}

/// A tensor that the configuration asks for.
struct Expected {
    role: Role,
    layer: usize,
    shape: Vec<usize>,
}

/// Tensors that some files carry and that are accounted for elsewhere, or recomputed.
fn is_auxiliary(name: &str) -> bool {
    name == "rope_freqs.weight" || name.ends_with("rotary_emb.inv_freq")
}

/// The matrices that are stacked, of which the first says what the whole is for.
const EMBEDDING: [Role; 1] = [Role::Embedding];
const OUTPUT: [Role; 1] = [Role::Output];
const QKV: [Role; 3] = [Role::Query, Role::Key, Role::Value];
const ATTENTION_OUTPUT: [Role; 1] = [Role::AttentionOutput];
const GATE_UP: [Role; 2] = [Role::Gate, Role::Up];
const DOWN: [Role; 1] = [Role::Down];

/// Reads the weights of one file.
pub(crate) struct Loader<'a> {
    source: &'a dyn TensorSource,
    naming: Naming,
    config: &'a ModelConfig,
}

impl<'a> Loader<'a> {
    /// A loader, once every tensor has been found to be there and of the right shape.
    ///
    /// # Errors
    /// One sentence that names every tensor that is missing, extra or wrongly shaped (the first
    /// few where there are many).
    pub(super) fn new(
        source: &'a dyn TensorSource,
        naming: Naming,
        config: &'a ModelConfig,
    ) -> Result<Self> {
        let loader = Self {
            source,
            naming,
            config,
        };
        let problems = loader.problems();
        match problems.as_slice() {
            [] => Ok(loader),
            some => Err(Error::model(source.path(), list(some))),
        }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut known = HashSet::new();
        for Expected { role, layer, shape } in self.expected() {
            let name = self.naming.name(role, layer);
            match self.source.tensor(&name) {
                None => problems.push(format!("{name} is missing")),
                Some(tensor) if tensor.shape != shape => problems.push(format!(
                    "{name} has the shape {:?} instead of {shape:?}",
                    tensor.shape
                )),
                Some(_) => {}
            }
            known.insert(name);
        }
        if self.config.head.tied {
            // Hugging Face files may repeat the tied head.
            known.insert(self.naming.name(Role::Output, 0));
        }
        for name in self.source.names() {
            if !known.contains(name) && !is_auxiliary(name) {
                problems.push(format!("{name} is not part of it"));
            }
        }
        problems
    }

    fn expected(&self) -> Vec<Expected> {
        let config = self.config;
        let global = |role, shape: &[usize]| Expected {
            role,
            layer: 0,
            shape: shape.to_vec(),
        };
        let table = [config.vocab_size, config.width];
        let mut all = vec![
            global(Role::Embedding, &table),
            global(Role::OutputNorm, &[config.width]),
        ];
        if !config.head.tied {
            all.push(global(Role::Output, &table));
        }
        for (index, layer) in config.layers.iter().enumerate() {
            all.extend(
                layer_tensors(layer, config.width)
                    .into_iter()
                    .map(|(role, shape)| Expected {
                        role,
                        layer: index,
                        shape,
                    }),
            );
        }
        all
    }

    /// Uploads everything; `progress` hears how many bytes of the file are done.
    ///
    /// # Errors
    /// What the backend says of a tensor it cannot take.
    pub(crate) fn load<B: Backend>(
        &self,
        backend: &B,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Weights<B>> {
        let mut upload = Upload {
            loader: self,
            backend,
            progress,
            done: 0,
        };
        let embedding = upload.matrix(0, &EMBEDDING)?;
        let output = match self.config.head.tied {
            true => None,
            false => Some(upload.matrix(0, &OUTPUT)?),
        };
        Ok(Weights {
            embedding,
            output,
            output_norm: upload.norm(0, Role::OutputNorm)?,
            layers: (0..self.config.layers.len())
                .map(|index| upload.layer(index))
                .collect::<Result<_>>()?,
        })
    }

    /// All matrices as they are taken over, where passes have up to `max_rows` rows and `n_logits`
    /// of them go through the head.
    ///
    /// # Errors
    /// A tensor that is missing.
    pub(crate) fn stacks(&self, max_rows: usize, n_logits: usize) -> Result<Vec<Stack<'a>>> {
        let stack = |layer, roles: &[Role], n_rows| -> Result<_> {
            Ok(Stack {
                sources: self.sources(layer, roles)?,
                n_rows,
                has_norm: [Role::Query, Role::Gate].contains(&roles[0]),
                is_gated: roles[0] == Role::Gate,
            })
        };
        let tied = self.config.head.tied;
        let mut stacks = vec![stack(0, &EMBEDDING, if tied { n_logits } else { 0 })?];
        if !tied {
            stacks.push(stack(0, &OUTPUT, n_logits)?);
        }
        for layer in 0..self.config.layers.len() {
            for roles in [&QKV[..], &ATTENTION_OUTPUT, &GATE_UP, &DOWN] {
                stacks.push(stack(layer, roles, max_rows)?);
            }
        }
        Ok(stacks)
    }

    /// Lengths of all vectors.
    pub(crate) fn vectors(&self) -> Vec<usize> {
        let shapes = self.expected().into_iter().map(|tensor| tensor.shape);
        let vectors = shapes.filter(|shape| shape.len() == 1);
        vectors.map(|shape| shape[0]).collect()
    }

    /// Bytes of the file that are taken over.
    pub(crate) fn file_bytes(&self) -> usize {
        let names = self.expected();
        let names = (names.iter()).map(|tensor| self.naming.name(tensor.role, tensor.layer));
        let tensors = names.filter_map(|name| self.source.tensor(&name));
        tensors.map(|tensor| tensor.data.len()).sum()
    }

    fn sources(&self, layer: usize, roles: &[Role]) -> Result<Vec<MatrixSource<'a>>> {
        let source = |&role| -> Result<_> {
            let tensor = self.tensor(role, layer)?;
            Ok(MatrixSource {
                name: tensor.name,
                format: tensor.format,
                rows: tensor.shape[0],
                cols: tensor.shape[1],
                data: tensor.data,
            })
        };
        roles.iter().map(source).collect()
    }

    fn tensor(&self, role: Role, layer: usize) -> Result<TensorView<'a>> {
        let name = self.naming.name(role, layer);
        self.source
            .tensor(&name)
            .ok_or_else(|| Error::model(self.source.path(), format!("{name} is missing")))
    }
}

/// The tensors of one layer and their shapes.
fn layer_tensors(layer: &LayerConfig, width: usize) -> Vec<(Role, Vec<usize>)> {
    let a = &layer.attention;
    let inner = layer.feed_forward.width();
    let mut all = vec![
        (Role::AttentionNorm, vec![width]),
        (Role::Query, vec![a.q_width(), width]),
        (Role::Key, vec![a.kv_width(), width]),
        (Role::Value, vec![a.kv_width(), width]),
        (Role::AttentionOutput, vec![width, a.q_width()]),
        (Role::FeedForwardNorm, vec![width]),
        (Role::Gate, vec![inner, width]),
        (Role::Up, vec![inner, width]),
        (Role::Down, vec![width, inner]),
    ];
    if a.qkv_bias {
        all.push((Role::QueryBias, vec![a.q_width()]));
        all.push((Role::KeyBias, vec![a.kv_width()]));
        all.push((Role::ValueBias, vec![a.kv_width()]));
    }
    if a.output_bias {
        all.push((Role::AttentionOutputBias, vec![width]));
    }
    if a.qk_norm {
        all.push((Role::QueryNorm, vec![a.head_dim]));
        all.push((Role::KeyNorm, vec![a.head_dim]));
    }
    if layer.post_norms {
        all.push((Role::PostAttentionNorm, vec![width]));
        all.push((Role::PostFeedForwardNorm, vec![width]));
    }
    all
}

/// "4 tensors do not fit the model: a; b; c; and 1 more".
fn list(problems: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut shown = problems[..problems.len().min(SHOWN)].join("; ");
    if problems.len() > SHOWN {
        shown.push_str(&format!("; and {} more", problems.len() - SHOWN));
    }
    let noun = if problems.len() == 1 {
        "1 tensor does"
    } else {
        &format!("{} tensors do", problems.len())
    };
    format!("{noun} not fit the model: {shown}")
}

/// The values of a one-dimensional tensor as `f32`.
///
/// # Errors
/// A tensor whose data does not hold whole blocks.
pub(super) fn vector(source: &dyn TensorSource, tensor: &TensorView<'_>) -> Result<Vec<f32>> {
    let mut values = vec![0.0; tensor.shape.iter().product()];
    quant::dequantise(tensor.format, tensor.data, &mut values)
        .map_err(|error| Error::model(source.path(), format!("tensor {}: {error}", tensor.name)))?;
    Ok(values)
}

/// One pass of uploads.
struct Upload<'a, B: Backend> {
    loader: &'a Loader<'a>,
    backend: &'a B,
    progress: &'a mut dyn FnMut(usize),
    done: usize,
}

impl<B: Backend> Upload<'_, B> {
    fn advance(&mut self, bytes: usize) {
        self.done += bytes;
        (self.progress)(self.done);
    }

    fn matrix(&mut self, layer: usize, roles: &[Role]) -> Result<B::Matrix> {
        let sources = self.loader.sources(layer, roles)?;
        let (backend, source) = (self.backend, self.loader.source);
        let matrix = backend.matrix_from(&sources, &mut |piece| {
            source.release(piece);
            self.advance(piece.len());
        })?;
        Ok(matrix)
    }

    fn values(&mut self, layer: usize, role: Role) -> Result<Vec<f32>> {
        let tensor = self.loader.tensor(role, layer)?;
        let values = vector(self.loader.source, &tensor)?;
        self.advance(tensor.data.len());
        Ok(values)
    }

    fn norm(&mut self, layer: usize, role: Role) -> Result<B::Buffer> {
        let mut weight = self.values(layer, role)?;
        for w in &mut weight {
            *w += self.loader.config.norm_offset;
        }
        Ok(self.backend.upload(&weight)?)
    }

    fn norm_if(&mut self, present: bool, layer: usize, role: Role) -> Result<Option<B::Buffer>> {
        present.then(|| self.norm(layer, role)).transpose()
    }

    fn bias_if(
        &mut self,
        present: bool,
        layer: usize,
        roles: &[Role],
    ) -> Result<Option<B::Buffer>> {
        if !present {
            return Ok(None);
        }
        let mut bias = Vec::new();
        for &role in roles {
            bias.extend(self.values(layer, role)?);
        }
        Ok(Some(self.backend.upload(&bias)?))
    }

    fn layer(&mut self, i: usize) -> Result<LayerWeights<B>> {
        let layer = &self.loader.config.layers[i];
        let attention = &layer.attention;
        let biases = [Role::QueryBias, Role::KeyBias, Role::ValueBias];
        Ok(LayerWeights {
            attention_norm: self.norm(i, Role::AttentionNorm)?,
            qkv: self.matrix(i, &QKV)?,
            qkv_bias: self.bias_if(attention.qkv_bias, i, &biases)?,
            q_norm: self.norm_if(attention.qk_norm, i, Role::QueryNorm)?,
            k_norm: self.norm_if(attention.qk_norm, i, Role::KeyNorm)?,
            attention_output: self.matrix(i, &ATTENTION_OUTPUT)?,
            attention_output_bias: self.bias_if(
                attention.output_bias,
                i,
                &[Role::AttentionOutputBias],
            )?,
            post_attention_norm: self.norm_if(layer.post_norms, i, Role::PostAttentionNorm)?,
            feed_forward_norm: self.norm(i, Role::FeedForwardNorm)?,
            gate_up: self.matrix(i, &GATE_UP)?,
            down: self.matrix(i, &DOWN)?,
            post_feed_forward_norm: self.norm_if(layer.post_norms, i, Role::PostFeedForwardNorm)?,
        })
    }
}
