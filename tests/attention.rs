//! Attention on the emulated device: the promise that a row has the same bits whole, in chunks,
//! decoded one by one or in company, and a cache of 8 bits.

use onward_emulator::{Build, Emulator, SCHEDULES};
use onward_kernels::cuda::{Cuda, KvType};
use onward_kernels::ops::attend::Attend;
use onward_kernels::ops::attention::Mask;
use onward_kernels::{Backend, Batch, KvShape};
use onward_tests::agreement::{
    assert_agrees, assert_rows_stand_alone, first_difference, reference_outputs,
};
use onward_tests::attention_layer::{Layer, chunks, run};

#[test]
fn bits_do_not_depend_on_chunks_or_company() {
    const LEN: usize = 300;
    Emulator::install(Build::Optimised).unwrap();
    let capped = Layer {
        soft_cap: Some(3.0),
        ..Layer::new((4, 1, 256), Mask::Causal, KvType::Bf16)
    };
    for layer in [
        Layer::new((14, 2, 64), Mask::Causal, KvType::Bf16),
        Layer::new((3, 3, 24), Mask::Window(20), KvType::Bf16),
        Layer::new((2, 1, 192), Mask::Window(270), KvType::Int8),
        Layer::new((8, 1, 80), Mask::Causal, KvType::Int8),
        capped,
    ] {
        let cuda = Cuda::open(0).unwrap().with_kv(layer.kv_type);
        let whole = run(&cuda, &layer, &[LEN], &vec![vec![(0, LEN)]]).remove(0);
        assert!(whole.iter().all(|x| x.is_finite()));
        // 1, 5 and 16 rows are decoded, 17 and 64 are not.
        for n in [1, 5, 16, 17, 64] {
            let outputs = run(&cuda, &layer, &[LEN], &chunks(LEN, n)).remove(0);
            let difference = first_difference(&outputs, &whole);
            assert_eq!(difference, None, "{layer:?} in chunks of {n}");
        }
        let together = vec![
            vec![(1, 60), (0, 200), (2, 3)],
            vec![(2, 1), (0, 1), (1, 1)],
            vec![(1, 9), (2, 20), (0, 99)],
        ];
        let outputs = run(&cuda, &layer, &[LEN, 70, 24], &together).remove(0);
        let difference = first_difference(&outputs, &whole);
        assert_eq!(difference, None, "{layer:?} in company");
    }
}

/// The outputs of one operation over the rows at these positions, of the same sequence and each in
/// a span of its own, where positions before them are stored.
fn attend_by_spans(cuda: &Cuda, positions: &[usize]) -> Vec<f32> {
    const HEAD: usize = 64;
    let shape = KvShape {
        n_pages: 2,
        layers: vec![(1, HEAD)],
    };
    let mut kv = cuda.kv_cache(&shape).unwrap();
    let row =
        |position: usize| (0..3 * HEAD).map(move |i| ((position * 53 + i * 31) % 97) as f32 / 50.0);
    let mut attend = |spans: &[(usize, usize)]| {
        let mut batch = Batch::default();
        let positions = spans
            .iter()
            .flat_map(|&(position, n)| position..position + n);
        let values: Vec<f32> = positions.flat_map(row).collect();
        for &(position, n) in spans {
            batch.push(&vec![0; n], position, &[1, 0]);
        }
        let mut out = cuda.buffer(batch.n_rows() * HEAD).unwrap();
        cuda.attend(Attend {
            qkv: &mut cuda.upload(&values).unwrap(),
            batch: &batch,
            n_heads: 1,
            n_kv_heads: 1,
            head_dim: HEAD,
            q_norm: None,
            k_norm: None,
            epsilon: 0.0,
            rope: None,
            kv: &mut kv,
            layer: 0,
            scale: 0.125,
            soft_cap: None,
            mask: Mask::Causal,
            out: &mut out,
        })
        .unwrap();
        let mut outputs = vec![0.0; batch.n_rows() * HEAD];
        let n_outputs = outputs.len();
        cuda.download(&out, 0..n_outputs, &mut outputs).unwrap();
        outputs
    };
    attend(&[(0, *positions.iter().min().unwrap())]);
    attend(&positions.iter().map(|&p| (p, 1)).collect::<Vec<_>>())
}

/// A launch that stores and attends may not be given rows that see each other: whichever row's
/// block is the first.
#[test]
fn rows_of_a_sequence_see_each_other_in_spans_of_their_own() {
    Emulator::install(Build::Optimised).unwrap();
    let cuda = Cuda::open(0).unwrap();
    for (first, second) in [(40, 41), (31, 32)] {
        let forward = attend_by_spans(&cuda, &[first, second]);
        let backward = attend_by_spans(&cuda, &[second, first]);
        assert!(forward.iter().all(|x| x.is_finite()));
        let (a, b) = backward.split_at(backward.len() / 2);
        assert_eq!(first_difference(&forward, &[b, a].concat()), None);
    }
}

#[test]
fn eight_bits_agree_within_their_own_rounding() {
    let emulator = Emulator::install(Build::Optimised).unwrap();
    let cuda = Cuda::open(0).unwrap().with_kv(KvType::Int8);
    for op in ["rope_append", "attention", "attend"] {
        let expected = reference_outputs(op);
        for (order, copies) in SCHEDULES {
            emulator.set_schedule(order, copies);
            let what = format!("emulated, 8 bits ({order:?}, {copies:?})");
            assert_agrees(&what, op, &cuda, &expected);
            assert_eq!(emulator.take_report(), None);
        }
        assert_rows_stand_alone("emulated, 8 bits", op, &cuda);
    }
}
