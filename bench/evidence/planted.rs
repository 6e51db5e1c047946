//! Every rule, seen failing: the machine code of sound kernels, a fault planted in its text, and
//! the whole way from the text to the sentence.

use super::super::budget::Over;
use super::super::row::{DynamicShared, Row};
use super::super::sass;
use super::super::tools::Resources;
use super::{faults, faults_beside, unknown};
use onward_kernels::cuda::SharedMemory;

/// A decode matmul in short: in the loop 2 mma, the loads of their weights and one of scales. The
/// labels are those that nvdisasm writes.
const DECODE: &str = "
.L_x_0:
        /*0020*/                   LDG.E.EF.128 R4, desc[UR6][R2.64] ;
        /*0030*/                   LDG.E.64 R12, desc[UR6][R2.64+0x100] ;
        /*0040*/                   LDS.128 R16, [R20] ;
        /*0050*/                   HMMA.16816.F32 R24, R4, R16, R24 ;
        /*0060*/                   HMMA.16816.F32 R28, R8, R16, R28 ;
        /*0070*/              @!P0 BRA `(.L_x_0) ;
        /*0080*/                   STG.E desc[UR6][R2.64], R24 ;
";

/// A pipeline through shared memory.
const PIPELINE: &str = "
.L_x_0:
        /*0020*/                   LDGSTS.E.BYPASS.128 [R20], desc[UR6][R2.64] ;
        /*0030*/                   LDGDEPBAR ;
        /*0040*/                   LDSM.16.M88.4 R16, [R20] ;
        /*0050*/                   HMMA.16816.F32 R24, R4, R16, R24 ;
        /*0060*/              @!P0 BRA `(.L_x_0) ;
";

/// A kernel of Hopper's.
const HOPPER: &str = "
.L_x_0:
        /*0020*/                   UBLKCP [UR8], [UR4], UR12 ;
        /*0030*/                   HGMMA.64x64x16.F32 R24, R4, gdesc[UR8], R24 ;
        /*0040*/              @!P0 BRA `(.L_x_0) ;
";

/// What a kernel is beside its code.
#[derive(Clone, Copy)]
struct Frame {
    name: &'static str,
    arch: &'static str,
    threads: u32,
    registers: u32,
    stack: u32,
    dynamic: u32,
}

const FRAME: Frame = Frame {
    name: "matmul_q8_0_decode",
    arch: "sm_90a",
    threads: 256,
    registers: 64,
    stack: 0,
    dynamic: 70 << 10,
};

/// The row of a kernel with this code.
fn row(frame: Frame, code: &str) -> Row {
    let Frame {
        name,
        arch,
        threads,
        registers,
        stack,
        dynamic,
    } = frame;
    let listing = format!(
        "\t.section\t.nv.info.{name},\"\",@\"SHT_CUDA_INFO\"
	//----- nvinfo : EIATTR_MAX_THREADS
        /*00e8*/ 	.word	{threads:#010x}
	.section	.text.{name},\"ax\",@progbits
        /*0000*/                   LDC R1, c[0x0][0x28] ;
{code}        /*00e0*/                   EXIT ;
"
    );
    let resources = Resources {
        registers,
        stack,
        shared: 0,
    };
    let dynamic = DynamicShared {
        typical: dynamic / 4,
        largest: dynamic,
    };
    let listing = sass::parse(&listing);
    Row::new(
        ("module", name, arch),
        &listing.kernels[name],
        resources,
        dynamic,
    )
}

/// The one fault of a kernel.
fn only_fault(row: &Row) -> String {
    match faults(row).as_slice() {
        [fault] => fault.clone(),
        other => panic!("{other:#?}"),
    }
}

/// `DECODE` with so many instructions more in its loop.
fn longer(n_more: usize) -> String {
    let label = ".L_x_0:\n";
    let more = "        /*0010*/                   IADD3 R7, R4, R7, RZ ;\n".repeat(n_more);
    DECODE.replace(label, &format!("{label}{more}"))
}

const PIPELINES: [&str; 4] = [
    "matmul_bf16_n64",
    "moe_q4_k_n32",
    "attention_prefill_128_bf16",
    "attention_decode_64_int8_wide",
];

const fn named(name: &'static str) -> Frame {
    Frame { name, ..FRAME }
}

#[test]
fn sound_kernels_have_no_fault() {
    let decode = row(FRAME, DECODE);
    assert_eq!(faults(&decode), [""; 0]);
    // Six instructions, 2 mma of 8 groups of 32; 16 of the 24 bytes.
    let found = decode.decode.expect("a loop");
    assert_eq!(found.instructions, 6.0 / 16.0);
    assert_eq!(found.wide, Some(16.0 / 24.0));
    for name in PIPELINES {
        assert_eq!(faults(&row(named(name), PIPELINE)), [""; 0], "{name}");
    }
    for name in ["matmul_bf16_hopper", "attention_64_hopper"] {
        assert_eq!(faults(&row(named(name), HOPPER)), [""; 0], "{name}");
    }
    assert_eq!(faults(&row(named("anything"), "")), [""; 0]);
}

#[test]
fn a_spill_is_a_fault() {
    let spilled = DECODE.replace(
        "LDG.E.64 R12, desc[UR6][R2.64+0x100] ;",
        "STL.64 [R1], R12 ;\n        /*0038*/                   LDL.LU.64 R12, [R1] ;",
    );
    let fault = only_fault(&row(FRAME, &spilled));
    assert!(
        fault.starts_with(
            "matmul_q8_0_decode on sm_90a: 16 bytes of loads from and stores to local"
        ),
        "{fault}"
    );
    let frame = Frame { stack: 8, ..FRAME };
    let fault = only_fault(&row(frame, DECODE));
    assert!(fault.contains("0 bytes of loads from and stores to local memory, 8 bytes of stack"));
}

#[test]
fn narrow_loads_are_a_fault() {
    // Of 24 bytes 8 at a time: whole lines still, but three requests instead of two.
    let split = "LDG.E.64 R4, desc[UR6][R2.64] ;\n        /*0028*/                   \
                 LDG.E.64 R6, desc[UR6][R2.64+0x8] ;";
    let narrow = DECODE.replace("LDG.E.EF.128 R4, desc[UR6][R2.64] ;", split);
    let found = faults(&row(FRAME, &narrow));
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].contains("no LDG.E.128"));
    assert!(found[1].contains("0 % of its inner loop's bytes come in loads of 16, not 50 %"));

    // A wide load outside of the loop is no excuse.
    let before =
        format!("        /*0008*/                   LDG.E.128 R40, desc[UR6][R2.64] ;\n{narrow}");
    let fault = only_fault(&row(FRAME, &before));
    assert!(fault.contains("0 % of its inner loop's bytes"), "{fault}");
}

#[test]
fn a_lost_copy_or_mma_is_a_fault() {
    for name in PIPELINES {
        // Through registers instead, as a compiler that does not see 16 aligned bytes does it.
        let copied = PIPELINE.replace(
            "LDGSTS.E.BYPASS.128 [R20], desc[UR6][R2.64] ;",
            "LDG.E.128 R12, desc[UR6][R2.64] ;\n        /*0028*/                   STS.128 [R20], R12 ;",
        );
        let fault = only_fault(&row(named(name), &copied));
        assert!(fault.ends_with("no LDGSTS"), "{fault}");
        let scalar = PIPELINE.replace("HMMA.16816.F32 R24, R4, R16, R24", "FFMA R24, R4, R16, R24");
        let fault = only_fault(&row(named(name), &scalar));
        assert!(fault.ends_with("no HMMA"), "{fault}");
    }
    for name in ["matmul_bf16_hopper", "attention_64_hopper"] {
        let copied = HOPPER.replace("UBLKCP [UR8], [UR4], UR12", "STS.128 [R20], R12");
        assert!(only_fault(&row(named(name), &copied)).ends_with("no UBLKCP"));
        let older = HOPPER.replace("HGMMA.64x64x16.F32", "HMMA.16816.F32");
        assert!(only_fault(&row(named(name), &older)).ends_with("no HGMMA"));
    }
}

#[test]
fn a_decode_matmul_without_a_known_loop_is_a_fault() {
    let unrolled = DECODE.replace("@!P0 BRA `(.L_x_0) ;", "NOP ;");
    let fault = only_fault(&row(FRAME, &unrolled));
    assert!(
        fault.contains("no inner loop with mma over weights of \"q8_0\""),
        "{fault}"
    );
    // A format that nobody knows has no budget to be held to.
    let fault = only_fault(&row(named("matmul_q9_decode"), DECODE));
    assert!(fault.contains("\"q9\""), "{fault}");
}

#[test]
fn a_loop_over_half_of_the_budget_is_a_fault_on_every_architecture() {
    // Q8_0 has 34 bytes per 32 weights; a 16th of an instruction is one in the loop.
    for (arch, half) in [
        ("sm_80", 5.08),
        ("sm_86", 10.10),
        ("sm_89", 21.76),
        ("sm_90a", 4.93),
        ("sm_100a", 2.32),
        ("sm_120a", 15.52),
    ] {
        let frame = Frame { arch, ..FRAME };
        let most = (half * 16.0) as usize;
        assert_eq!(faults(&row(frame, &longer(most - 6))), [""; 0], "{arch}");
        let fault = only_fault(&row(frame, &longer(most - 5)));
        let expected = format!(
            "{arch}: {:.2} warp-instructions per 32 weights are over half",
            (most + 1) as f64 / 16.0
        );
        assert!(fault.contains(&expected), "{fault}");
    }
}

#[test]
fn a_kernel_known_to_be_over_half_may_not_grow_and_is_struck_off_when_it_shrinks() {
    let known = [Over {
        arch: "sm_100a",
        kernel: "matmul_q8_0_decode",
        instructions: 2.5,
    }];
    let arch = "sm_100a";
    let with = |arch, n_more| faults_beside(&row(Frame { arch, ..FRAME }, &longer(n_more)), &known);
    assert_eq!(with(arch, 34), [""; 0]);
    assert_eq!(with(arch, 33), [""; 0]);
    let grown = with(arch, 35);
    assert!(grown[0].contains("2.56 warp-instructions per 32 weights are more than the 2.50"));
    let shrunk = with(arch, 20);
    assert!(shrunk[0].contains("strike it off"), "{shrunk:?}");
    // The entry is one architecture's.
    assert!(with("sm_90a", 80)[0].contains("over half of the 9.9"));
}

#[test]
fn a_launch_that_does_not_fit_is_a_fault_where_it_does_not() {
    let dynamic = 120 << 10;
    for (arch, fits) in [
        ("sm_80", true),
        ("sm_86", false),
        ("sm_89", false),
        ("sm_90a", true),
        ("sm_100a", true),
        ("sm_120a", false),
    ] {
        let frame = Frame {
            dynamic,
            arch,
            ..named("matmul_bf16_n64")
        };
        let found = faults(&row(frame, PIPELINE));
        assert_eq!(found.is_empty(), fits, "{arch}: {found:?}");
        let told = "fits on a multiprocessor, for shared: 64 registers, 0 + 122880 bytes";
        assert!(found.iter().all(|fault| fault.contains(told)), "{found:?}");
    }
    let crowded = Frame {
        registers: 255,
        threads: 512,
        ..FRAME
    };
    assert!(only_fault(&row(crowded, DECODE)).contains("for registers: 255 registers"));
}

#[test]
fn shared_memory_that_nobody_lists_is_a_fault() {
    for (name, code) in [
        ("matmul_q8_0_decode", DECODE),
        ("matmul_bf16_n64", PIPELINE),
        ("matmul_bf16_hopper", HOPPER),
    ] {
        let frame = Frame {
            dynamic: 0,
            ..named(name)
        };
        let fault = only_fault(&row(frame, code));
        assert!(
            fault.contains("no launch is known to give it any"),
            "{fault}"
        );
    }
}

#[test]
fn what_is_known_of_no_kernel_is_a_fault() {
    let rows = [row(FRAME, DECODE)];
    let over = |arch, kernel| Over {
        arch,
        kernel,
        instructions: 3.0,
    };
    let shared = |kernel| SharedMemory {
        kernel,
        typical: 1,
        largest: 1,
    };
    let name = FRAME.name;
    assert_eq!(
        unknown(&rows, &[over("sm_90a", name)], &[shared(name)]),
        [""; 0]
    );
    // An architecture that was not compiled says nothing.
    assert_eq!(unknown(&rows, &[over("sm_80", "gone")], &[]), [""; 0]);
    let found = unknown(&rows, &[over("sm_90a", "gone")], &[shared("gone_too")]);
    assert!(found[0].contains("OVER lists gone on sm_90a") && found[1].contains("gone_too"));
}
