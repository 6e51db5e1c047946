//! Sequences that go on step by step on the device, the host only reading along.

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use onward_emulator::SCHEDULES;
use onward_kernels::cuda::{Buffer, Cuda};
use onward_kernels::decode::SampleStart;
use onward_kernels::ops::sample::cuda::{SampleShape, SampleState};
use onward_kernels::ops::sample::{SampleRow, Sampler, SamplingParams, log_softmax_top};
use onward_kernels::{Backend, Error};

use crate::inputs::row;
use crate::{Bits, bits, device};

const VOCAB: usize = 9000;
const N_STEPS: usize = 20;
const SHAPE: SampleShape = SampleShape {
    n_slots: 5,
    n_rows: 6,
    vocab: VOCAB,
    history: 24,
    n_biases: 3,
    ring: 8,
    n_top: 4,
    top_k: 64,
};
/// The slot of each row.
const ROWS: [Option<usize>; 6] = [Some(3), Some(0), None, Some(4), Some(1), Some(2)];

/// What a slot does, by the CPU.
#[derive(Clone)]
struct Sequence {
    params: SamplingParams,
    history: Vec<u32>,
    position: u64,
    mask: Option<Vec<u32>>,
    stops: Vec<u32>,
    max_tokens: usize,
    n_top: usize,
}

impl Sequence {
    fn start(&self) -> SampleStart<'_> {
        SampleStart {
            row: SampleRow {
                params: &self.params,
                history: &self.history,
                position: self.position,
                allowed: self.mask.as_deref(),
            },
            stops: &self.stops,
            max_tokens: self.max_tokens,
            n_top: self.n_top,
        }
    }

    /// Up to `n_steps` tokens from the same logits.
    fn expect(&mut self, logits: &[f32], n_steps: usize) -> Vec<Bits> {
        let mut sampler = Sampler::new();
        let mut drawn = Vec::new();
        while drawn.len() < n_steps && self.max_tokens > 0 {
            let row = self.start().row;
            let (history, allowed) = (row.history, row.allowed);
            let result = sampler.sample(
                logits,
                row.params,
                history,
                row.position,
                allowed,
                self.n_top,
            );
            match &result {
                Ok(sampled) => {
                    self.history.push(sampled.token);
                    self.position += 1;
                    self.max_tokens -= 1;
                    if self.stops.contains(&sampled.token) {
                        self.max_tokens = 0;
                    }
                }
                Err(_) => self.max_tokens = 0,
            }
            drawn.push(bits(result));
        }
        drawn
    }
}

/// A mask that leaves every `n`th token.
fn every(n: u32) -> Vec<u32> {
    let bit = |token: u32| u32::from(token.is_multiple_of(n)) << (token % 32);
    (0..VOCAB.div_ceil(32) as u32)
        .map(|word| (0..32).map(|i| bit(32 * word + i)).sum())
        .collect()
}

/// Penalties with a short window, the whole history and biases; a nucleus under a mask; a
/// sequence that a stop token ends; one that its length ends.
fn sequences() -> Vec<Sequence> {
    let sequence = |params, max_tokens| Sequence {
        params,
        history: vec![5, 6, 7, 5, 5, 8999],
        position: 6,
        mask: None,
        stops: Vec::new(),
        max_tokens,
        n_top: 0,
    };
    let penalised = SamplingParams {
        repeat_penalty: 1.5,
        frequency_penalty: 0.3,
        presence_penalty: 0.2,
        repeat_last_n: 3,
        ..SamplingParams::default()
    };
    vec![
        sequence(penalised.clone(), N_STEPS),
        sequence(
            SamplingParams {
                repeat_last_n: usize::MAX,
                logit_bias: vec![(77, 9.0), (3, 1.0), (77, 0.5)],
                ..SamplingParams {
                    temperature: 0.0,
                    ..penalised.clone()
                }
            },
            19,
        ),
        Sequence {
            mask: Some(every(3)),
            n_top: 4,
            ..sequence(
                SamplingParams {
                    top_p: 0.9,
                    presence_penalty: 2.0,
                    repeat_last_n: 6,
                    ..SamplingParams::plain(1.2)
                },
                N_STEPS,
            )
        },
        sequence(
            SamplingParams {
                seed: 3,
                ..SamplingParams::plain(1.0)
            },
            N_STEPS,
        ),
        sequence(
            SamplingParams {
                top_k: 9,
                min_p: 0.3,
                seed: 9,
                ..SamplingParams::plain(1.0)
            },
            7,
        ),
    ]
}

fn logits_of_rows(seed: u64) -> Vec<Vec<f32>> {
    let rows = 0..ROWS.len() as u64;
    rows.map(|i| row(seed + i, VOCAB, 4.0, 64.0, 0.1)).collect()
}

/// Makes the fifth token that the sequence will draw one that stops it; tells when it first does.
fn stop_early(sequence: &mut Sequence, logits: &[f32]) -> usize {
    let mut ahead = sequence.clone();
    ahead.expect(logits, 5);
    let drawn = &ahead.history[sequence.history.len()..];
    sequence.stops = vec![drawn[4], 8998];
    1 + drawn.iter().take_while(|&&token| token != drawn[4]).count()
}

/// The sequences by slot begun on the device, in the order of another list.
fn begin(cuda: &Cuda, state: &mut SampleState, sequences: &[Sequence]) {
    let slots: Vec<usize> = (0..sequences.len()).rev().collect();
    let starts: Vec<SampleStart<'_>> = slots.iter().map(|&slot| sequences[slot].start()).collect();
    state.start(cuda, &slots, &starts).unwrap();
}

/// Reads all slots and compares them with what the CPU draws in as many steps.
fn assert_drawn(
    cuda: &Cuda,
    state: &mut SampleState,
    sequences: &mut [Sequence],
    logits: &[Vec<f32>],
    n_steps: usize,
) -> usize {
    let slots: Vec<usize> = (0..sequences.len()).collect();
    let drawn = state.read(cuda, &slots).unwrap();
    let last = state.last_tokens(cuda, ROWS.len()).unwrap();
    let mut n_drawn = 0;
    for (slot, drawn) in drawn.into_iter().enumerate() {
        let row = ROWS.iter().position(|&row| row == Some(slot)).unwrap();
        let drawn: Vec<Bits> = drawn.into_iter().map(bits).collect();
        let expected = sequences[slot].expect(&logits[row], n_steps);
        assert_eq!(drawn, expected, "slot {slot}");
        assert_eq!(Some(&last[row]), sequences[slot].history.last());
        n_drawn += expected.len();
    }
    n_drawn
}

#[test]
fn twenty_steps_on_the_device_are_those_of_the_cpu() {
    for schedule in 0..SCHEDULES.len() {
        let (_, cuda) = device(schedule);
        let mut state = SampleState::new(&cuda, &SHAPE).unwrap();
        state.set_rows(&cuda, &ROWS).unwrap();
        // The second time the slots hold what the first sequences left.
        for seed in [10, 20] {
            let logits = logits_of_rows(seed);
            let buffer = cuda.upload(&logits.concat()).unwrap();
            let mut sequences = sequences();
            sequences[..3].rotate_left(seed as usize / 10);
            // The window matters if it holds what would be drawn.
            for (slot, sequence) in sequences.iter_mut().enumerate() {
                let row = ROWS.iter().position(|&row| row == Some(slot)).unwrap();
                let likely = log_softmax_top(&logits[row], 5).unwrap();
                let likely = likely.iter().map(|&(token, _)| token);
                sequence.history = likely.chain([5]).collect();
            }
            let n_before_stop = stop_early(&mut sequences[3], &logits[0]);
            begin(&cuda, &mut state, &sequences);
            let mut n_drawn = 0;
            for part in [8, 5, 0, 7] {
                for _ in 0..part {
                    state.step(&cuda, &buffer, ROWS.len()).unwrap();
                }
                n_drawn += assert_drawn(&cuda, &mut state, &mut sequences, &logits, part);
                let masked = sequences.iter().position(|s| s.mask.is_some()).unwrap();
                let mask = every(7);
                state.set_mask(&cuda, masked, &mask).unwrap();
                sequences[masked].mask = Some(mask);
            }
            assert_eq!(n_drawn, 20 + 19 + 20 + n_before_stop + 7);
        }
    }
}

/// Captures one step; every replay draws the next tokens.
#[test]
fn a_captured_step_can_be_replayed() {
    let (_, cuda) = device(0);
    let stream = cuda.device().stream().clone();
    let mut state = SampleState::new(&cuda, &SHAPE).unwrap();
    state.set_rows(&cuda, &ROWS).unwrap();
    let logits = logits_of_rows(30);
    let buffer = cuda.upload(&logits.concat()).unwrap();
    // Loads the kernels, and draws nothing.
    state.step(&cuda, &buffer, ROWS.len()).unwrap();
    stream
        .begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL)
        .unwrap();
    state.step(&cuda, &buffer, ROWS.len()).unwrap();
    let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let graph = stream.end_capture(flags).unwrap().unwrap();
    let mut sequences = sequences();
    begin(&cuda, &mut state, &sequences);
    for _ in 0..4 {
        for _ in 0..5 {
            graph.launch().unwrap();
        }
        assert_drawn(&cuda, &mut state, &mut sequences, &logits, 5);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (_, cuda) = device(0);
    let mut state = SampleState::new(&cuda, &SHAPE).unwrap();
    let sentence = |result: Result<(), Error>| result.unwrap_err().to_string();
    let one = |change: fn(&mut Sequence)| {
        let mut sequence = sequences().remove(0);
        change(&mut sequence);
        sequence
    };
    let refused: [(Sequence, &str); 7] = [
        (
            one(|s| s.params.logit_bias = vec![(0, 1.0); 4]),
            "needs 4 biases",
        ),
        (one(|s| s.stops = vec![1; 9]), "needs 9 stop tokens"),
        (one(|s| s.n_top = 5), "needs 5 most probable tokens"),
        (one(|s| s.params.top_k = 65), "needs 65 candidates"),
        (
            one(|s| (s.params.repeat_last_n, s.max_tokens) = (99, 20)),
            "needs 25 tokens of history",
        ),
        (one(|s| s.params.min_p = 1.5), "min-p 1.5 is out of range"),
        (
            one(|s| s.history.push(9000)),
            "the history holds token 9000",
        ),
    ];
    for (sequence, words) in refused {
        let said = sentence(state.start(&cuda, &[0], &[sequence.start()]));
        assert!(said.contains(words), "{said}");
    }
    let sequence = one(|_| ());
    let twice = state.start(&cuda, &[1, 1], &[sequence.start(), sequence.start()]);
    assert!(sentence(twice).contains("slot 1 is named twice"));
    assert!(sentence(state.set_rows(&cuda, &[Some(5)])).contains("no slot 5 of 5"));
    assert!(sentence(state.set_mask(&cuda, 0, &[0])).contains("mask has 1 words"));
    let short: Buffer = cuda.buffer(VOCAB).unwrap();
    assert!(sentence(state.step(&cuda, &short, 2)).contains("logits"));
    assert!(sentence(state.step(&cuda, &short, 7)).contains("7 rows are more than 6"));
    for (vocab, n_top) in [(0, 1), ((1 << 20) + 1, 1), (10, 257)] {
        let shape = SampleShape {
            vocab,
            n_top,
            ..SHAPE
        };
        assert!(SampleState::new(&cuda, &shape).is_err());
    }
}

#[test]
fn a_slot_draws_from_its_start_until_its_ring_overflows() {
    let (_, cuda) = device(0);
    let mut state = SampleState::new(&cuda, &SHAPE).unwrap();
    let logits = cuda.upload(&logits_of_rows(1).concat()).unwrap();
    state.set_rows(&cuda, &ROWS).unwrap();
    state.step(&cuda, &logits, ROWS.len()).unwrap();
    assert!(state.read(&cuda, &[0]).unwrap()[0].is_empty());
    state.start(&cuda, &[0], &[sequences()[0].start()]).unwrap();
    for _ in 0..9 {
        state.step(&cuda, &logits, ROWS.len()).unwrap();
    }
    let overrun = state.read(&cuda, &[0]).unwrap_err().to_string();
    assert!(
        overrun.contains("9 tokens overran a ring of 8"),
        "{overrun}"
    );
}
