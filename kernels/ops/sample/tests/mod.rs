//! Tests of sampling: its numbers, the fast path against the sorting reference, the
//! distribution of the draws, and the errors.

mod agreement;
mod distribution;
mod errors;
mod inputs;
mod numbers;

use super::philox::noise;
use super::*;
use inputs::normal_row;
