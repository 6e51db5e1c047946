//! `moe_route`: which experts of a mixture a row goes to, and with what weights.
//!
//! ```text
//! s[e]     = softmax(logits[r])[e] | sigmoid(logits[r, e]) | logits[r, e]
//! c[e]     = s[e] + bias[e]                          what experts are chosen by
//! chosen   = the top_k experts with the greatest c   (of the groups with the greatest scores)
//! w[slot]  = s[chosen[slot]], of logits their softmax over the chosen
//! w[slot]  = w[slot] / (Σ w + 1e-20)                 where `normalise`
//! weights  = scale · w
//! ```
//!
//! Slots are in descending order of `c`, of equal ones the lower expert first. Exponentials and
//! their sums are those of [`sample::fixed`](super::sample::fixed), so every backend chooses
//! the same experts and gives the same bits. A row with a logit that is NaN or infinite has
//! weights of NaN.
//!
//! For the matrices of the experts the pairs of row and slot, called places, are grouped: by
//! expert, within an expert by row.
//!
//! Sources: Mixtral (Jiang et al. 2024), DeepSeek-V2 and V3 (groups, bias), the reference
//! implementations of Qwen3-MoE and gpt-oss.

pub mod cases;
pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub(crate) mod reference;

use super::{check_room, shape_error};
use crate::backend::{Backend, RouteShape, RoutesArray};
use crate::error::{Error, Result};

/// The operation's name in errors and in the registry.
pub const OP: &str = "moe_route";

/// The most experts of a mixture.
pub const MAX_EXPERTS: usize = 512;
/// The most groups of experts.
pub const MAX_GROUPS: usize = 32;
/// The most experts that a row goes to.
pub const MAX_TOP_K: usize = 32;

/// What is made of the router's logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scoring {
    /// The softmax over all experts: Mixtral, Qwen, DeepSeek-V2.
    Softmax,
    /// Experts are chosen by logit; their weights are the softmax over the chosen: gpt-oss.
    SoftmaxOfChosen,
    /// Each logit's sigmoid: DeepSeek-V3.
    Sigmoid,
}

/// The score of a group of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupScore {
    /// Its greatest `c`: DeepSeek-V2.
    Greatest,
    /// The sum of its two greatest: DeepSeek-V3.
    TopTwo,
}

/// Experts in groups of equal size, of which few are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// Groups.
    pub n_groups: usize,
    /// Groups that experts are chosen from.
    pub n_chosen: usize,
    /// What these are chosen by; of equal ones the first.
    pub score: GroupScore,
}

/// How a model chooses experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Routing {
    /// What is made of the logits.
    pub scoring: Scoring,
    /// Groups of experts, if the model has them.
    pub groups: Option<Groups>,
    /// Whether the weights of a row are divided by their sum.
    pub normalise: bool,
    /// What the weights are multiplied by.
    pub scale: f32,
}

/// Arguments of [`Backend::moe_route`].
pub struct MoeRoute<'a, B: Backend + ?Sized> {
    /// `[n_rows, n_experts]`.
    pub logits: &'a B::Buffer,
    /// `[n_experts]`: what is added for the choice alone.
    pub bias: Option<&'a B::Buffer>,
    /// Rows.
    pub n_rows: usize,
    /// How experts are chosen.
    pub routing: Routing,
    /// Where the choice goes; its shape says how many experts there are and how many a row
    /// goes to.
    pub routes: &'a mut B::Routes,
}

impl<B: Backend + ?Sized> MoeRoute<'_, B> {
    /// Checks the shapes.
    ///
    /// # Errors
    /// [`Error::Shape`] for an array that is too short, more rows than the
    /// routes have room for, or groups that are no equal parts of the experts or hold fewer
    /// than a row goes to.
    pub fn check(&self) -> Result<()> {
        let shape = *self.routes.shape();
        if self.n_rows > shape.n_rows {
            let detail = format!(
                "{} rows have no room in routes for {}",
                self.n_rows, shape.n_rows
            );
            return Err(shape_error(OP, detail));
        }
        if let Some(groups) = self.routing.groups {
            check_groups(groups, shape)?;
        }
        if let Some(bias) = self.bias {
            check_room(OP, "bias", bias, &[shape.n_experts])?;
        }
        check_room(OP, "logits", self.logits, &[self.n_rows, shape.n_experts])
    }
}

fn check_groups(groups: Groups, shape: RouteShape) -> Result<()> {
    let Groups {
        n_groups, n_chosen, ..
    } = groups;
    let RouteShape {
        n_experts, top_k, ..
    } = shape;
    let divided = (1..=MAX_GROUPS).contains(&n_groups) && n_experts.is_multiple_of(n_groups);
    if !divided || !(1..=n_groups).contains(&n_chosen) || n_experts / n_groups * n_chosen < top_k {
        return Err(shape_error(
            OP,
            format!("{n_chosen} of {n_groups} groups of {n_experts} experts do not give {top_k}"),
        ));
    }
    Ok(())
}

impl RouteShape {
    /// Rows times the experts that a row goes to.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] for more than any memory holds.
    pub fn n_slots(&self) -> Result<usize> {
        let n_slots = self.n_rows.checked_mul(self.top_k);
        // An index of 32 bits for each.
        let n_slots = n_slots.filter(|&n_slots| n_slots <= u32::MAX as usize);
        n_slots.ok_or(Error::OutOfMemory {
            what: "the routes of a mixture",
            bytes: usize::MAX,
        })
    }

    /// Checks that a row goes to at least one expert, and to none twice.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn check(&self) -> Result<()> {
        let Self {
            n_experts, top_k, ..
        } = *self;
        let most = n_experts.min(MAX_TOP_K);
        if n_experts > MAX_EXPERTS || !(1..=most).contains(&top_k) {
            return Err(shape_error(
                OP,
                format!(
                    "a row cannot go to {top_k} of {n_experts} experts; there are at most \
                     {MAX_EXPERTS}, and a row goes to at most {MAX_TOP_K}"
                ),
            ));
        }
        Ok(())
    }
}

/// The choice of experts in the host's memory: what `download_routes` gives, and how the
/// backends without a device hold it.
#[derive(Clone, Debug, PartialEq)]
pub struct Routes {
    shape: RouteShape,
    /// `[n_rows, top_k]`: the experts of each row.
    pub experts: Vec<u32>,
    /// `[n_rows, top_k]`: their weights.
    pub weights: Vec<f32>,
    /// `[n_experts + 1]`: where the places of each expert begin in `rows`; the last is the end.
    pub offsets: Vec<u32>,
    /// `[n_rows · top_k]`: the row of each place.
    pub rows: Vec<u32>,
    /// `[n_rows · top_k]`: the expert of each place.
    pub owners: Vec<u32>,
    /// `[n_rows, top_k]`: the place of each slot.
    pub places: Vec<u32>,
}

impl Routes {
    /// Routes for rows that are yet to come.
    ///
    /// # Errors
    /// As [`RouteShape::check`] and [`RouteShape::n_slots`].
    pub fn new(shape: &RouteShape) -> Result<Self> {
        shape.check()?;
        let n_slots = shape.n_slots()?;
        Ok(Self {
            shape: *shape,
            experts: vec![0; n_slots],
            weights: vec![0.0; n_slots],
            offsets: vec![0; shape.n_experts + 1],
            rows: vec![0; n_slots],
            owners: vec![0; n_slots],
            places: vec![0; n_slots],
        })
    }

    /// The rows of an expert, in ascending order.
    pub fn rows_of(&self, expert: usize) -> &[u32] {
        &self.rows[self.places_of(expert)]
    }

    /// The places of an expert.
    pub fn places_of(&self, expert: usize) -> std::ops::Range<usize> {
        self.offsets[expert] as usize..self.offsets[expert + 1] as usize
    }

    /// Fills in the grouping from the experts of the first `n_rows` rows.
    pub(crate) fn group(&mut self, n_rows: usize) {
        let top_k = self.shape.top_k;
        let experts = &self.experts[..n_rows * top_k];
        self.offsets.fill(0);
        for &expert in experts {
            self.offsets[expert as usize + 1] += 1;
        }
        for expert in 0..self.shape.n_experts {
            self.offsets[expert + 1] += self.offsets[expert];
        }
        let mut next = self.offsets.clone();
        for (slot, &expert) in experts.iter().enumerate() {
            let place = &mut next[expert as usize];
            self.rows[*place as usize] = (slot / top_k) as u32;
            self.owners[*place as usize] = expert;
            self.places[slot] = *place;
            *place += 1;
        }
    }
}

impl RoutesArray for Routes {
    fn shape(&self) -> &RouteShape {
        &self.shape
    }
}
