//! Steps that the device repeats by itself, asked of a decoder: how many there are, and what ends
//! them. There is no forward pass: logits stay what they are, and draws differ by their position.

use onward_emulator::{Build, Copies, Emulator, Order};
use onward_kernels::cuda::Cuda;
use onward_kernels::decode::{DecodeShape, Decoder, SampleStart, StepRow};
use onward_kernels::ops::sample::{SampleRow, SamplingParams};
use onward_kernels::{Backend, Reference};
use onward_tests::device::TestDevice;

use crate::{alone, beside_others};

const VOCAB: usize = 50;
const N_ROWS: usize = 2;

/// A backend, and a decoder of [`N_ROWS`] sequences whose logits are all the same.
struct Decoding<B: Backend> {
    backend: B,
    decoder: B::Decoder,
}

impl<B: Backend> Decoding<B> {
    fn new(backend: B) -> Self {
        let shape = DecodeShape {
            n_slots: N_ROWS,
            n_logits: N_ROWS,
            vocab: VOCAB,
            n_ctx: 256,
            spare_page: 0,
        };
        let mut decoder = backend.decoder(&shape).unwrap();
        let row = (0..VOCAB).map(|token| (token * 37 % 11) as f32 * 0.3);
        let logits: Vec<f32> = (0..N_ROWS).flat_map(|_| row.clone()).collect();
        *decoder.logits() = backend.upload(&logits).unwrap();
        Self { backend, decoder }
    }

    /// Begins the sequences, and sets them as the rows of the steps.
    fn start(&mut self, stops: [&[u32]; N_ROWS], max_tokens: usize) {
        for (slot, stops) in stops.into_iter().enumerate() {
            let params = SamplingParams {
                seed: slot as u64,
                ..SamplingParams::default()
            };
            let start = SampleStart {
                row: SampleRow {
                    params: &params,
                    history: &[7],
                    position: 1,
                    allowed: None,
                },
                stops,
                max_tokens,
                n_top: 0,
            };
            self.decoder.start(&self.backend, slot, &start).unwrap();
        }
        let row = |slot| StepRow {
            slot,
            token: 7,
            position: 0,
            pages: &[1, 2, 3],
        };
        let rows: Vec<_> = (0..N_ROWS).map(row).collect();
        self.decoder.set_rows(&self.backend, &rows).unwrap();
    }

    fn ask(&mut self, n: usize) {
        let mut asked = 0;
        while asked < n {
            let steps = (self.decoder).steps(&self.backend, n - asked, &mut |_, _| Ok(()));
            asked += steps.unwrap();
        }
        assert_eq!(asked, n);
    }

    /// The tokens that came since.
    fn take(&mut self) -> [Vec<u32>; N_ROWS] {
        std::array::from_fn(|slot| {
            let next = || self.decoder.take(&self.backend, slot).unwrap();
            std::iter::from_fn(next)
                .map(|sampled| sampled.unwrap().token)
                .collect()
        })
    }

    fn halt(&mut self) {
        self.decoder.halt(&self.backend).unwrap();
    }
}

/// The tokens of these sequences, drawn one by one on the host.
fn expected(stops: [&[u32]; N_ROWS], max_tokens: usize) -> [Vec<u32>; N_ROWS] {
    let mut host = Decoding::new(Reference::new());
    host.start(stops, max_tokens);
    let mut drawn = [const { Vec::new() }; N_ROWS];
    for _ in 0..max_tokens {
        host.ask(1);
        for (drawn, more) in drawn.iter_mut().zip(host.take()) {
            drawn.extend(more);
        }
    }
    drawn
}

/// The rounds of loops that the emulated device went since the last call; a GPU does not count.
fn rounds() -> Option<u64> {
    let is_gpu = TestDevice::install().is_gpu();
    (!is_gpu).then(|| {
        Emulator::install(Build::Optimised)
            .unwrap()
            .take_calls()
            .rounds
    })
}

/// A decoder on the device that is ready to loop: a step has run. That one's tokens are taken.
fn looping(stops: [&[u32]; N_ROWS], max_tokens: usize) -> Decoding<Cuda> {
    let device = TestDevice::install();
    if !device.is_gpu() {
        // This thread's calls are counted apart from other tests'.
        let emulator = Emulator::install(Build::Optimised).unwrap();
        emulator.set_schedule(Order::Forward, Copies::Lazy);
    }
    let mut decoding = Decoding::new(device.open());
    decoding.start(stops, max_tokens);
    decoding.ask(1);
    assert_eq!(decoding.take().map(|tokens| tokens.len()), [1; N_ROWS]);
    rounds();
    decoding
}

#[test]
fn a_run_has_as_many_steps_as_were_asked_for() {
    let _turn = beside_others();
    let expected = expected([&[]; N_ROWS], 43);
    let mut decoding = looping([&[]; N_ROWS], 43);
    assert_eq!(decoding.decoder.run_ahead(), 32);
    let mut done = 1;
    for n in [1, 2, 7, 32] {
        decoding.ask(n);
        let drawn = decoding.take();
        for (drawn, expected) in drawn.iter().zip(&expected) {
            assert_eq!(*drawn, expected[done..done + n]);
        }
        if let Some(rounds) = rounds() {
            assert_eq!(rounds, n as u64);
        }
        done += n;
    }
    assert!(decoding.backend.uses_loop());
}

/// A stop token ends a sequence, and the last sequence's end the run.
#[test]
fn sequences_end_by_themselves_and_the_last_one_ends_the_run() {
    let _turn = beside_others();
    let whole = expected([&[]; N_ROWS], 30);
    // Tokens that come up late in one sequence each.
    let stops = [[whole[0][9]], [whole[1][17]]];
    let stops: [&[u32]; N_ROWS] = std::array::from_fn(|slot| &stops[slot][..]);
    let expected = expected(stops, 30);
    let lengths: Vec<_> = expected.iter().map(Vec::len).collect();
    assert!(lengths.iter().all(|&n| n > 1) && lengths[0] != lengths[1]);
    let mut decoding = looping(stops, 30);
    decoding.ask(29);
    let drawn = decoding.take();
    for (drawn, expected) in drawn.iter().zip(&expected) {
        assert_eq!(drawn[..], expected[1..]);
    }
    let longest = lengths.into_iter().max().unwrap() - 1;
    if let Some(rounds) = rounds() {
        assert_eq!(rounds, longest as u64, "rounds in vain");
    }
    // Nothing is left to do.
    decoding.ask(5);
    assert_eq!(decoding.take(), [const { Vec::<u32>::new() }; N_ROWS]);
    assert_eq!(rounds().unwrap_or(0), 0);
}

/// Halted between two steps, a run ends with the one under way, if any. The next run is none of
/// those that were halted, whether or not they have come to their end.
#[test]
fn a_halted_run_begins_no_further_step_and_the_next_one_goes_on() {
    let _turn = alone();
    let expected = expected([&[]; N_ROWS], 60);
    let mut decoding = looping([&[]; N_ROWS], 60);
    decoding.ask(20);
    let mut drawn: [Vec<u32>; N_ROWS] = expected.clone().map(|tokens| tokens[..1].to_vec());
    for _ in 0..3 {
        for (slot, drawn) in drawn.iter_mut().enumerate() {
            let next = decoding.decoder.take(&decoding.backend, slot).unwrap();
            drawn.push(next.unwrap().unwrap().token);
        }
    }
    decoding.halt();
    let mut more = |decoding: &mut Decoding<Cuda>| {
        let more = decoding.take();
        let n = more[0].len();
        for (drawn, more) in drawn.iter_mut().zip(more) {
            drawn.extend(more);
        }
        for (drawn, expected) in drawn.iter().zip(&expected) {
            assert_eq!(*drawn, expected[..drawn.len()]);
        }
        n
    };
    let in_vain = more(&mut decoding);
    if let Some(rounds) = rounds() {
        assert_eq!(rounds, 3 + in_vain as u64);
        assert!(in_vain <= 1, "{in_vain} steps began after the halt");
    }
    // Nobody waits for the halted runs; on the emulated device they have not begun.
    decoding.ask(6);
    decoding.ask(6);
    decoding.halt();
    decoding.ask(5);
    let n = more(&mut decoding);
    assert!((5..=17).contains(&n), "{n} tokens");
    if let Some(rounds) = rounds() {
        assert_eq!((rounds, n), (5, 5));
    }
}

/// The same steps by a loop, by graphs and by launches.
#[test]
fn every_way_to_repeat_a_step_draws_the_same() {
    let _turn = beside_others();
    let expected = expected([&[]; N_ROWS], 20);
    let ways: [fn(Cuda) -> Cuda; 3] = [|cuda| cuda, Cuda::without_loop, Cuda::without_graphs];
    for way in ways {
        let mut decoding = Decoding::new(way(TestDevice::install().open()));
        decoding.start([&[]; N_ROWS], 20);
        decoding.ask(20);
        assert_eq!(decoding.take(), expected);
    }
}

#[test]
fn a_device_shows_whether_it_can_loop() {
    let _turn = beside_others();
    TestDevice::install().open().check_loop().unwrap();
}
