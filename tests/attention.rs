//! Attention on the emulated device: the promise that a row has the same bits whole, in chunks,
//! decoded one by one or in company, and a cache of 8 bits.

use onward_emulator::{Build, Emulator, SCHEDULES};
use onward_kernels::cuda::{Cuda, KvType};
use onward_kernels::ops::attention::Mask;
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

#[test]
fn eight_bits_agree_within_their_own_rounding() {
    let emulator = Emulator::install(Build::Optimised).unwrap();
    let cuda = Cuda::open(0).unwrap().with_kv(KvType::Int8);
    for op in ["rope_append", "attention"] {
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
